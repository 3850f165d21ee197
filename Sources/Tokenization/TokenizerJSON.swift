import Files
import JSON

/// Reads the parts of a `tokenizer.json`; whatever part it cannot honour it refuses by name.
struct TokenizerJSON {
  let json: JSONValue
  let path: String

  struct Model {
    var vocabulary: [(String, Int)]
    var merges: [(String, String)]
    var ignoresMerges: Bool
  }
  struct Added {
    var token: AddedToken
    var isNormalized: Bool
  }

  func bad(_ detail: String) -> TokenizationError { TokenizationError(path: path, detail: detail) }

  func bytePairModel() throws -> Model {
    guard let model = json["model"]?.objectValue else { throw bad("has no model") }
    if let type = model["type"]?.stringValue, type != "BPE" {
      throw bad("model.type is \(type); this reader knows byte-level BPE")
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let text = model[key]?.stringValue, !text.isEmpty {
        throw bad("model.\(key) is set, which is not supported")
      }
    }
    if model["byte_fallback"]?.boolValue == true {
      throw bad("model.byte_fallback is set, which is not supported")
    }
    guard let vocabulary = model["vocab"]?.objectValue else { throw bad("has no model.vocab") }
    let entries: [(String, Int)] = try vocabulary.members.map { name, value in
      guard let id = value.intValue, id >= 0, id < 1 << 24 else {
        throw bad("model.vocab: \"\(name)\" has no valid id")
      }
      return (name, id)
    }
    guard let merges = model["merges"]?.arrayValue else { throw bad("has no model.merges") }
    let pairs: [(String, String)] = try merges.enumerated().map { index, value in
      if let pair = value.arrayValue, pair.count == 2, let left = pair[0].stringValue,
        let right = pair[1].stringValue
      {
        return (left, right)
      }
      if let text = value.stringValue, let space = text.bytes.range(of: " ") {
        return (String(text[..<space.lowerBound]), String(text[space.upperBound...]))
      }
      throw bad("model.merges: entry \(index) is not a pair")
    }
    return Model(
      vocabulary: entries, merges: pairs, ignoresMerges: model["ignore_merges"]?.boolValue ?? false)
  }

  func addedTokens() throws -> [Added] {
    try (json["added_tokens"]?.arrayValue ?? []).map { value in
      guard let id = value["id"]?.intValue, id >= 0, id < 1 << 24,
        let content = value["content"]?.stringValue,
        !content.isEmpty
      else { throw bad("added_tokens: an entry has no id and content") }
      func flag(_ name: String) -> Bool { value[name]?.boolValue ?? false }
      return Added(
        token: AddedToken(
          id: id, bytes: Array(content.utf8), isSpecial: flag("special"), stripsLeft: flag("lstrip"),
          stripsRight: flag("rstrip"), isWholeWord: flag("single_word")),
        isNormalized: flag("normalized"))
    }
  }

  /// What happens to text before it is cut.
  enum Normalization: Equatable, Sendable {
    case nfc
    case replace(ByteReplacement)
  }

  func normalizer() throws -> [Normalization] {
    guard let value = json["normalizer"], !value.isNull else { return [] }
    return try normalizations(value)
  }

  private func normalizations(_ value: JSONValue) throws -> [Normalization] {
    switch value["type"]?.stringValue {
    case "NFC": return [.nfc]
    case "Replace": return [.replace(try replacement(value, of: "normalizer"))]
    case "Sequence": return try (value["normalizers"]?.arrayValue ?? []).flatMap(normalizations)
    case let type: throw bad("normalizer \(type ?? "?") is not supported (only NFC and Replace)")
    }
  }

  private func replacement(_ value: JSONValue, of part: String) throws -> ByteReplacement {
    guard let pattern = value["pattern"]?["String"]?.stringValue, !pattern.isEmpty,
      let content = value["content"]?.stringValue
    else { throw bad("\(part) Replace without a literal pattern is not supported") }
    return ByteReplacement(pattern, content)
  }

  /// What happens to decoded text.
  func decoder() throws -> [ByteReplacement] {
    guard let value = json["decoder"], !value.isNull else { return [] }
    let parts = value["type"]?.stringValue == "Sequence" ? value["decoders"]?.arrayValue ?? [] : [value]
    var replacements: [ByteReplacement] = []
    for (index, part) in parts.enumerated() {
      switch part["type"]?.stringValue {
      case "ByteLevel" where index == 0: continue
      case "Replace" where index > 0: replacements.append(try replacement(part, of: "decoder"))
      case let type: throw bad("decoder \(type ?? "?") is not supported (only ByteLevel, then Replace)")
      }
    }
    return replacements
  }

  /// The patterns to apply one inside the other, and whether a space is put in front.
  func preTokenizer() throws -> (steps: [SplitPattern], addsPrefixSpace: Bool) {
    guard let value = json["pre_tokenizer"], !value.isNull else { throw bad("has no pre_tokenizer") }
    let parts = value["type"]?.stringValue == "Sequence" ? value["pretokenizers"]?.arrayValue ?? [] : [value]
    var steps: [SplitPattern] = []
    var addsPrefixSpace = false
    var isByteLevel = false
    for part in parts {
      switch part["type"]?.stringValue {
      case "Digits":
        guard part["individual_digits"]?.boolValue == true else {
          throw bad("pre_tokenizer Digits without individual_digits is not supported")
        }
        steps.append(.digits)
      case "Split":
        let behavior = part["behavior"]?.stringValue ?? "?"
        guard behavior == "Isolated", part["invert"]?.boolValue != true else {
          throw bad("pre_tokenizer Split with behavior \(behavior) is not supported")
        }
        guard let pattern = part["pattern"]?["Regex"]?.stringValue,
          let known = TokenizerJSON.patterns[pattern]
        else {
          throw bad("pre_tokenizer pattern \(part["pattern"]?.serialized() ?? "?") is not one of those known")
        }
        steps.append(known)
      case "ByteLevel":
        isByteLevel = true
        addsPrefixSpace = part["add_prefix_space"]?.boolValue ?? true
        if part["use_regex"]?.boolValue ?? true { steps.append(.gpt2) }
      case let type: throw bad("pre_tokenizer \(type ?? "?") is not supported")
      }
    }
    guard isByteLevel else {
      throw bad("pre_tokenizer has no ByteLevel step; only byte-level BPE is supported")
    }
    return (steps, addsPrefixSpace)
  }

  private static let patterns: [ByteText: SplitPattern] = Dictionary(
    uniqueKeysWithValues: [.cl100k(digits: 3), .cl100k(digits: 1), .gpt2].map {
      ($0.regularExpression.bytes, $0)
    })

  /// Ids that the post-processor puts before and after a single text.
  func affixes(tokenCount: Int) throws -> (prefix: [Int], suffix: [Int]) {
    guard let value = json["post_processor"], !value.isNull else { return ([], []) }
    let parts = value["type"]?.stringValue == "Sequence" ? value["processors"]?.arrayValue ?? [] : [value]
    var prefix: [Int] = []
    var suffix: [Int] = []
    for part in parts {
      switch part["type"]?.stringValue {
      case "ByteLevel": continue
      case "TemplateProcessing":
        var beforeText = true
        for item in part["single"]?.arrayValue ?? [] {
          if item["Sequence"] != nil {
            beforeText = false
          } else if let name = item["SpecialToken"]?["id"]?.stringValue {
            let ids = (part["special_tokens"]?[name]?["ids"]?.arrayValue ?? []).compactMap(\.intValue)
            guard !ids.isEmpty, ids.allSatisfy({ $0 >= 0 && $0 < tokenCount }) else {
              throw bad("post_processor: special token \(name) has no ids of this vocabulary")
            }
            if beforeText { prefix += ids } else { suffix += ids }
          }
        }
      case let type: throw bad("post_processor \(type ?? "?") is not supported")
      }
    }
    return (prefix, suffix)
  }
}
