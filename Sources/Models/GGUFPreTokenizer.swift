import GGUF
import JSON
import Tokenization

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

  /// - Parameters:
  ///   - tokens: where nobody says how they are cut, a published vocabulary is recognized by them.
  ///   - name: the caller's; it wins over the file's.
  /// - Throws: `TokenizationError` when neither is known.
  init(_ file: GGUFFile, tokens: [String], named name: String?) throws {
    let stored = try file.string("tokenizer.ggml.pre")
    let isSaid = stored != nil && stored != "default"
    if let known = name ?? (isSaid ? stored : GGUFKnownVocabulary.preTokenizer(tokens)),
      let form = GGUFPreTokenizer(name: known)
    {
      self = form
      return
    }
    let known = "known are \(GGUFPreTokenizer.knownNames.joined(separator: ", "))"
    throw TokenizationError(
      path: file.path,
      detail: name.map { "--pre-tokenizer \"\($0)\" is not known; \(known)" }
        ?? "\(stored.map { "its tokenizer cuts text as \"\($0)\"" } ?? "does not say how its tokenizer cuts text (tokenizer.ggml.pre)"); "
        + "pass --pre-tokenizer NAME if you know it; \(known)",
      category: .cannotOpenInput)
  }

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
