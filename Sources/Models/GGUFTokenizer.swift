import GGUF
import JSON
import Tokenization

/// Ids with a meaning of their own in a GGUF file's metadata.
struct GGUFSpecialTokens {
  var begin: Int?
  var end: Int?
  /// End of a turn, end of a message: they end a text too.
  var otherEnds: [Int]
  var pad: Int?
  var addsBegin: Bool?
  var template: String?
  /// The template for conversations with tools.
  var toolTemplate: String?

  init(_ file: GGUFFile) throws {
    func id(_ name: String) throws -> Int? {
      try file.integer("tokenizer.ggml.\(name)_token_id").flatMap { $0 >= 0 && $0 < 1 << 24 ? $0 : nil }
    }
    begin = try id("bos")
    end = try id("eos")
    otherEnds = try ["eot", "eom"].compactMap { try id($0) }
    pad = try id("padding")
    addsBegin = try file.flag("tokenizer.ggml.add_bos_token")
    template = try file.string("tokenizer.chat_template")
    toolTemplate = try file.string("tokenizer.chat_template.tool_use")
  }

  private var ends: [Int] {
    (end.map { [$0] } ?? []) + otherEnds.filter { $0 != end }
  }

  var generationConfiguration: JSONValue {
    var object = JSONObject()
    if let begin { object["bos_token_id"] = .init(begin) }
    if !ends.isEmpty {
      object["eos_token_id"] = ends.count == 1 ? .init(ends[0]) : .array(ends.map { .init($0) })
    }
    if let pad { object["pad_token_id"] = .init(pad) }
    return .object(object)
  }

  func tokenizerConfiguration(_ tokenizer: GGUFTokenizer?) -> JSONValue {
    var object = JSONObject([
      ("tokenizer_class", "PreTrainedTokenizerFast"), ("clean_up_tokenization_spaces", false),
    ])
    for (name, id) in [("bos_token", begin), ("eos_token", end), ("pad_token", pad)] {
      guard let id, let text = tokenizer?.text(of: id) else { continue }
      object[name] = .string(text)
    }
    if let template, let toolTemplate {
      object["chat_template"] = [
        ["name": "default", "template": .string(template)],
        ["name": "tool_use", "template": .string(toolTemplate)],
      ]
    } else if let template {
      object["chat_template"] = .string(template)
    }
    return .object(object)
  }
}

/// A byte-level BPE tokenizer in the metadata of a GGUF file, as `tokenizer.json` has it.
struct GGUFTokenizer {
  private let tokens: [String]
  private let kinds: [Kind]
  private let merges: [String]
  private let form: GGUFPreTokenizer
  private let begin: Int?

  /// Numbers of `tokenizer.ggml.token_type`.
  enum Kind: Int32 {
    case normal = 1
    case unknown, control, userDefined, unused, byte
  }

  /// - Throws: `TokenizationError` for a tokenizer that is not byte-level BPE with a pattern we know.
  init(_ file: GGUFFile) throws {
    func bad(_ detail: String) -> TokenizationError {
      TokenizationError(path: file.path, detail: detail, category: .cannotOpenInput)
    }
    guard let model = try file.string("tokenizer.ggml.model"),
      let tokens = try file.strings("tokenizer.ggml.tokens")
    else { throw bad("has no tokenizer in its metadata") }
    guard model == "gpt2" else {
      throw bad("its tokenizer is of kind \"\(model)\"; only byte-level BPE (\"gpt2\") is supported")
    }
    let name = try file.string("tokenizer.ggml.pre") ?? "default"
    guard let form = GGUFPreTokenizer(name: name) else {
      throw bad(
        "its tokenizer cuts text as \"\(name)\"; known are \(GGUFPreTokenizer.knownNames.joined(separator: ", "))"
      )
    }
    let kinds = try file.integers("tokenizer.ggml.token_type") ?? tokens.map { _ in 1 }
    guard kinds.count == tokens.count else {
      throw bad("tokenizer.ggml.token_type has \(kinds.count) entries, there are \(tokens.count) tokens")
    }
    guard let merges = try file.strings("tokenizer.ggml.merges") else {
      throw bad("has no tokenizer.ggml.merges")
    }
    self.tokens = tokens
    self.kinds = kinds.map { Kind(rawValue: Int32(truncatingIfNeeded: $0)) ?? .normal }
    self.merges = merges
    self.form = form
    let specials = try GGUFSpecialTokens(file)
    begin =
      specials.addsBegin ?? form.addsBegin ? specials.begin.flatMap { $0 < tokens.count ? $0 : nil } : nil
  }

  func text(of id: Int) -> String? { tokens.indices.contains(id) ? tokens[id] : nil }

  var json: JSONValue {
    var vocabulary = JSONObject()
    var added: [JSONValue] = []
    for (id, token) in tokens.enumerated() {
      if kinds[id] == .unused { continue }
      // Added tokens too: Hugging Face's reader gives those that are not here other ids.
      vocabulary[token] = .init(id)
      switch kinds[id] {
      case .normal, .byte, .unused: continue
      case .control, .unknown, .userDefined:
        added.append([
          "id": .init(id), "content": .string(token), "single_word": false, "lstrip": false, "rstrip": false,
          "normalized": false, "special": .bool(kinds[id] != .userDefined),
        ])
      }
    }
    return [
      "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": .array(added), "normalizer": nil,
      "pre_tokenizer": form.json, "post_processor": postProcessor,
      "decoder": ["type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true],
      "model": [
        "type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
        "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": .bool(form.ignoresMerges), "vocab": .object(vocabulary),
        "merges": .array(merges.map { .string($0) }),
      ],
    ]
  }

  private var postProcessor: JSONValue {
    guard let begin, let text = text(of: begin) else { return .null }
    let token: JSONValue = ["SpecialToken": ["id": .string(text), "type_id": 0]]
    func sequence(_ name: String, _ type: Int) -> JSONValue {
      ["Sequence": ["id": .string(name), "type_id": .init(type)]]
    }
    return [
      "type": "TemplateProcessing", "single": .array([token, sequence("A", 0)]),
      "pair": .array([token, sequence("A", 0), token, sequence("B", 1)]),
      "special_tokens": .object(
        JSONObject([
          (text, ["id": .string(text), "ids": .array([.init(begin)]), "tokens": .array([.string(text)])])
        ])),
    ]
  }
}

/// How a tokenizer cuts text before merging, under llama.cpp's names (`tokenizer.ggml.pre`).
struct GGUFPreTokenizer: Equatable {
  let steps: [SplitPattern]
  /// Whether a whole piece that is a token becomes it without merging.
  let ignoresMerges: Bool
  /// Whether a text begins with the token for it when the file does not say.
  let addsBegin: Bool

  /// The first name of each is the one that is written.
  private static let known: [(names: [String], form: GGUFPreTokenizer)] = [
    (
      ["qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan"],
      GGUFPreTokenizer(steps: [.cl100k(digits: 1)], ignoresMerges: false, addsBegin: false)
    ),
    (
      ["llama-bpe", "llama3", "llama-v3"],
      GGUFPreTokenizer(steps: [.cl100k(digits: 3)], ignoresMerges: true, addsBegin: true)
    ),
    (
      ["dbrx", "smaug-bpe"],
      GGUFPreTokenizer(steps: [.cl100k(digits: 3)], ignoresMerges: false, addsBegin: false)
    ),
    (
      ["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
      GGUFPreTokenizer(steps: [.digits, .gpt2], ignoresMerges: false, addsBegin: false)
    ),
    (
      ["gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion"],
      GGUFPreTokenizer(steps: [.gpt2], ignoresMerges: false, addsBegin: false)
    ),
  ]

  static var knownNames: [String] { known.flatMap(\.names) }

  private init(steps: [SplitPattern], ignoresMerges: Bool, addsBegin: Bool) {
    (self.steps, self.ignoresMerges, self.addsBegin) = (steps, ignoresMerges, addsBegin)
  }

  init?(name: String) {
    guard let entry = GGUFPreTokenizer.known.first(where: { $0.names.contains(name) }) else { return nil }
    self = entry.form
  }

  /// llama.cpp's name for it, or nil. A tokenizer that ignores merges can be named as one that does not when that makes no
  /// difference to it.
  static func name(steps: [SplitPattern], ignoresMerges: Bool) -> String? {
    known.first { $0.form.steps == steps && $0.form.ignoresMerges == ignoresMerges }?.names[0]
  }

  /// `pre_tokenizer` of `tokenizer.json`.
  var json: JSONValue {
    func byteLevel(_ usesRegex: Bool) -> JSONValue {
      ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": .bool(usesRegex)]
    }
    let parts: [JSONValue] = steps.map { step in
      switch step {
      case .digits: ["type": "Digits", "individual_digits": true]
      case .gpt2: byteLevel(true)
      case .cl100k:
        [
          "type": "Split", "pattern": ["Regex": .string(step.regularExpression)], "behavior": "Isolated",
          "invert": false,
        ]
      }
    }
    let all = steps.last == .gpt2 ? parts : parts + [byteLevel(false)]
    return all.count == 1 ? all[0] : ["type": "Sequence", "pretokenizers": .array(all)]
  }
}
