import Files
import JSON

/// The files that tokenizers were saved as before there was `tokenizer.json`, in the terms of the latter: as transformers 5
/// reads them.
struct SlowTokenizer {
  let files: any ModelFiles
  let configuration: JSONObject
  let map: JSONObject
  /// The class that `tokenizer_config.json` names, without `Fast`.
  let className: String?

  init(_ files: any ModelFiles) throws {
    self.files = files
    configuration = try files.json(named: "tokenizer_config.json")?.objectValue ?? JSONObject()
    map = try files.json(named: "special_tokens_map.json")?.objectValue ?? JSONObject()
    let name = configuration["tokenizer_class"]?.stringValue
    className = name.map { $0.bytes.dropping(suffix: "Fast") ?? $0 }
  }

  // MARK: vocab.json and merges.txt

  /// Byte-level BPE in two files, or nil when the files are not there.
  /// - Throws: when nothing says how text is cut.
  func bytePair() throws -> JSONValue? {
    guard let vocabulary = try files.json(named: "vocab.json")?.objectValue,
      let merges = try files.bytes(named: "merges.txt")
    else { return nil }
    let path = files.label(of: "merges.txt")
    // transformers, too, takes its own class for this architecture, whatever the files name.
    let modelType = try files.json(named: "config.json")?["model_type"]?.stringValue
    let name = modelType == "qwen2" ? "Qwen2Tokenizer" : className
    let addsSpace = configuration["add_prefix_space"]?.boolValue ?? false
    func byteLevel(usesPattern: Bool) -> JSONValue {
      [
        "type": "ByteLevel", "add_prefix_space": .bool(addsSpace), "trim_offsets": true,
        "use_regex": .bool(usesPattern),
      ]
    }
    let normalizer: JSONValue
    let preTokenizer: JSONValue
    var defaults: [(String, String)] = [("eos_token", "<|endoftext|>"), ("unk_token", "<|endoftext|>")]
    switch name {
    case "Qwen2Tokenizer":
      normalizer = ["type": "NFC"]
      preTokenizer = [
        "type": "Sequence",
        "pretokenizers": [
          [
            "type": "Split", "behavior": "Isolated", "invert": false,
            "pattern": ["Regex": .string(SplitPattern.cl100k(digits: 1).regularExpression)],
          ], byteLevel(usesPattern: false),
        ],
      ]
      defaults.append(("pad_token", "<|endoftext|>"))
    case "GPT2Tokenizer", "GPTNeoXTokenizer":
      normalizer = name == "GPT2Tokenizer" ? .null : ["type": "NFC"]
      preTokenizer = byteLevel(usesPattern: true)
      defaults.append(("bos_token", "<|endoftext|>"))
      if name == "GPTNeoXTokenizer" { defaults.append(("pad_token", "<|padding|>")) }
    default:
      throw TokenizationError(.unknownClass(name, files: "vocab.json and merges.txt"), path: files.location)
    }
    var ids: [ByteText: Int] = [:]
    for (token, id) in vocabulary.members {
      guard let id = id.intValue, id >= 0, id < 1 << 24 else {
        throw TokenizationError(.badID(token: token), path: files.label(of: "vocab.json"))
      }
      ids[token] = id
    }
    let names = specialTokens(defaults: defaults)
    return document(
      normalizer: normalizer, preTokenizer: preTokenizer,
      decoder: ["type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true],
      model: [
        "type": "BPE", "unk_token": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
        "vocab": .object(vocabulary), "merges": .array(try SlowTokenizer.merges(merges, path: path)),
      ], added: try addedTokens(ids, names: names, others: []), ids: ids, names: names)
  }

  private static func merges(_ bytes: [UInt8], path: String) throws -> [JSONValue] {
    var result: [JSONValue] = []
    var lines = bytes.split(separator: 10, omittingEmptySubsequences: false)
    if lines.last?.isEmpty == true { lines.removeLast() }
    for (index, line) in lines.enumerated() {
      let line = line.last == 13 ? line.dropLast() : line
      if line.starts(with: "#version".utf8) { continue }
      let parts = line.split(separator: 32, omittingEmptySubsequences: false)
      guard parts.count == 2, let left = String(validating: parts[0], as: UTF8.self),
        let right = String(validating: parts[1], as: UTF8.self)
      else { throw TokenizationError(.badMergeLine(index + 1), path: path) }
      result.append([.string(left), .string(right)])
    }
    return result
  }

  // MARK: The document

  func document(
    normalizer: JSONValue, preTokenizer: JSONValue, decoder: JSONValue, model: JSONValue, added: [JSONValue],
    ids: [ByteText: Int], names: Names
  ) -> JSONValue {
    var taken = ids
    for token in added {
      if let id = token["id"]?.intValue, let text = token["content"]?.stringValue { taken[text] = id }
    }
    var single: [JSONValue] = [["Sequence": ["id": "A", "type_id": 0]]]
    var tokens = JSONObject()
    func affix(_ flag: String, _ name: ByteText) -> JSONValue? {
      guard configuration[flag]?.boolValue == true, let text = names.named[name], let id = taken[text] else {
        return nil
      }
      tokens[text] = ["id": .string(text), "ids": [.init(id)], "tokens": [.string(text)]]
      return ["SpecialToken": ["id": .string(text), "type_id": 0]]
    }
    if let begin = affix("add_bos_token", "bos_token") { single.insert(begin, at: 0) }
    if let end = affix("add_eos_token", "eos_token") { single.append(end) }
    return [
      "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": .array(added),
      "normalizer": normalizer, "pre_tokenizer": preTokenizer,
      "post_processor": single.count == 1
        ? .null
        : ["type": "TemplateProcessing", "single": .array(single), "special_tokens": .object(tokens)],
      "decoder": decoder, "model": model,
    ]
  }
}
