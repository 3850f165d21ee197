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
  var addsEnd: Bool?
  var unknown: Int?
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
    addsEnd = try file.flag("tokenizer.ggml.add_eos_token")
    unknown = try id("unknown")
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
    for (name, id) in [("bos_token", begin), ("eos_token", end), ("pad_token", pad), ("unk_token", unknown)] {
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

/// A BPE tokenizer in the metadata of a GGUF file, as `tokenizer.json` has it: over bytes, or SentencePiece's.
struct GGUFTokenizer {
  private let tokens: [String]
  private let kinds: [Kind]
  private let model: Model
  private let begin: Int?
  private let end: Int?

  private enum Model {
    case bytes(GGUFPreTokenizer, merges: [String])
    case sentencePiece(GGUFSentencePiece)
  }

  /// Numbers of `tokenizer.ggml.token_type`.
  enum Kind: Int32 {
    case normal = 1
    case unknown, control, userDefined, unused, byte
  }

  /// - Parameter preTokenizer: llama.cpp's name for how text is cut, where the caller knows better than the file.
  /// - Throws: `TokenizationError` for a tokenizer that is not BPE, or cut by a pattern that we do not know.
  init(_ file: GGUFFile, preTokenizer: String? = nil) throws {
    func bad(_ detail: String) -> TokenizationError {
      TokenizationError(path: file.path, detail: detail, category: .cannotOpenInput)
    }
    guard let name = try file.string("tokenizer.ggml.model"),
      let tokens = try file.strings("tokenizer.ggml.tokens")
    else { throw bad("has no tokenizer in its metadata") }
    let kinds = try file.integers("tokenizer.ggml.token_type") ?? tokens.map { _ in 1 }
    guard kinds.count == tokens.count else {
      throw bad("tokenizer.ggml.token_type has \(kinds.count) entries, there are \(tokens.count) tokens")
    }
    self.tokens = tokens
    self.kinds = kinds.map { Kind(rawValue: Int32(truncatingIfNeeded: $0)) ?? .normal }
    let specials = try GGUFSpecialTokens(file)
    let addsBegin: Bool
    switch name {
    case "gpt2":
      let form = try GGUFPreTokenizer(file, tokens: tokens, named: preTokenizer)
      guard let merges = try file.strings("tokenizer.ggml.merges") else {
        throw bad("has no tokenizer.ggml.merges")
      }
      model = .bytes(form, merges: merges)
      addsBegin = specials.addsBegin ?? form.addsBegin
    case "llama":
      guard let scores = try file.floats("tokenizer.ggml.scores"), scores.count == tokens.count else {
        throw bad("has no tokenizer.ggml.scores for its \(tokens.count) tokens")
      }
      let unknown = specials.unknown ?? self.kinds.firstIndex(of: .unknown)
      model = .sentencePiece(
        GGUFSentencePiece(
          scores: scores, unknown: unknown.flatMap { tokens.indices.contains($0) ? tokens[$0] : nil },
          putsSpaceBefore: try file.flag("tokenizer.ggml.add_space_prefix") ?? true))
      addsBegin = specials.addsBegin ?? true
    default:
      throw bad(
        "its tokenizer is of kind \"\(name)\"; only byte-level BPE (\"gpt2\") and SentencePiece's BPE (\"llama\") are "
          + "supported")
    }
    func affix(_ id: Int?, _ isAdded: Bool) -> Int? {
      isAdded ? id.flatMap { $0 < tokens.count ? $0 : nil } : nil
    }
    begin = affix(specials.begin, addsBegin)
    end = affix(specials.end, specials.addsEnd ?? false)
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
    var object = JSONObject([
      ("version", "1.0"), ("truncation", nil), ("padding", nil), ("added_tokens", .array(added)),
      ("normalizer", nil), ("pre_tokenizer", nil), ("post_processor", postProcessor),
    ])
    switch model {
    case .bytes(let form, let merges):
      object["pre_tokenizer"] = form.json
      object["decoder"] = [
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
      ]
      object["model"] = [
        "type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
        "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": .bool(form.ignoresMerges), "vocab": .object(vocabulary),
        "merges": .array(merges.map { .string($0) }),
      ]
    case .sentencePiece(let form):
      object["normalizer"] = form.normalizer
      object["decoder"] = form.decoder
      object["model"] = form.model(tokens, vocabulary)
    }
    return .object(object)
  }

  private var postProcessor: JSONValue {
    guard begin != nil || end != nil else { return .null }
    func affix(_ id: Int?) -> [JSONValue] {
      id.flatMap(text).map { [["SpecialToken": ["id": .string($0), "type_id": 0]]] } ?? []
    }
    func sequence(_ name: String, _ type: Int) -> [JSONValue] {
      [["Sequence": ["id": .string(name), "type_id": .init(type)]]]
    }
    var tokens = JSONObject()
    for id in [begin, end].compactMap({ $0 }) {
      guard let text = text(of: id) else { continue }
      tokens[text] = ["id": .string(text), "ids": [.init(id)], "tokens": [.string(text)]]
    }
    return [
      "type": "TemplateProcessing", "single": .array(affix(begin) + sequence("A", 0) + affix(end)),
      "pair": .array(
        affix(begin) + sequence("A", 0) + affix(end) + affix(begin) + sequence("B", 1) + affix(end)),
      "special_tokens": .object(tokens),
    ]
  }
}

/// SentencePiece's BPE in a GGUF file: tokens merge in the order of their scores.
struct GGUFSentencePiece {
  let scores: [Float]
  let unknown: String?
  /// A space is put before a text, and before what follows a special token.
  let putsSpaceBefore: Bool

  private var spaces: JSONValue {
    ["type": "Replace", "pattern": ["String": " "], "content": "\u{2581}"]
  }

  var normalizer: JSONValue {
    guard putsSpaceBefore else { return spaces }
    return ["type": "Sequence", "normalizers": [["type": "Prepend", "prepend": "\u{2581}"], spaces]]
  }

  var decoder: JSONValue {
    var steps: [JSONValue] = [
      ["type": "Replace", "pattern": ["String": "\u{2581}"], "content": " "], ["type": "ByteFallback"],
      ["type": "Fuse"],
    ]
    if putsSpaceBefore { steps.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    return ["type": "Sequence", "decoders": .array(steps)]
  }

  func model(_ tokens: [String], _ vocabulary: JSONObject) -> JSONValue {
    let order = tokens.indices.filter { vocabulary[tokens[$0]]?.intValue == $0 }
      .sorted { (-scores[$0], $0) < (-scores[$1], $1) }
    let merges = SentencePieceMerges.ways(toMake: order.map { tokens[$0] }) { vocabulary[$0] != nil }
    return [
      "type": "BPE", "dropout": nil, "unk_token": unknown.map { .string($0) } ?? .null,
      "continuing_subword_prefix": nil, "end_of_word_suffix": nil, "fuse_unk": true, "byte_fallback": true,
      "ignore_merges": false, "vocab": .object(vocabulary),
      "merges": .array(merges.map { [.string($0), .string($1)] }),
    ]
  }
}
