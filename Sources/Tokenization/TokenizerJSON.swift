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
    /// A character without a token becomes tokens named `<0x00>` to `<0xFF>`, if there are all of them.
    var fallsBackToBytes: Bool
    /// What a character becomes otherwise; nil: nothing.
    var unknown: String?
    /// Several of them in a row are one.
    var fusesUnknown: Bool
  }
  struct Added {
    var token: AddedToken
    var isNormalized: Bool
  }

  func bad(_ reason: TokenizationError.Reason) -> TokenizationError { TokenizationError(reason, path: path) }

  func bytePairModel() throws -> Model {
    guard let model = json["model"]?.objectValue else { throw bad(.noPart("model")) }
    if let type = model["type"]?.stringValue, type != "BPE" {
      if type == "WordPiece" {
        throw bad(.unsupported("model.type is WordPiece, the model of encoders; BPE is needed here"))
      }
      throw bad(.unsupportedModel(type))
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let text = model[key]?.stringValue, !text.isEmpty {
        throw bad(.unsupported("model.\(key) is set, which is not supported"))
      }
    }
    guard let vocabulary = model["vocab"]?.objectValue else { throw bad(.noPart("model.vocab")) }
    let entries: [(String, Int)] = try vocabulary.members.map { name, value in
      guard let id = value.intValue, id >= 0, id < 1 << 24 else {
        throw bad(.badID(token: name))
      }
      return (name, id)
    }
    guard let merges = model["merges"]?.arrayValue else { throw bad(.noPart("model.merges")) }
    let pairs: [(String, String)] = try merges.enumerated().map { index, value in
      if let pair = value.arrayValue, pair.count == 2, let left = pair[0].stringValue,
        let right = pair[1].stringValue
      {
        return (left, right)
      }
      if let text = value.stringValue, let space = text.bytes.range(of: " ") {
        return (String(text[..<space.lowerBound]), String(text[space.upperBound...]))
      }
      throw bad(.badMerge(index))
    }
    return Model(
      vocabulary: entries, merges: pairs, ignoresMerges: model["ignore_merges"]?.boolValue ?? false,
      fallsBackToBytes: model["byte_fallback"]?.boolValue ?? false,
      unknown: model["unk_token"]?.stringValue, fusesUnknown: model["fuse_unk"]?.boolValue ?? false)
  }

  func addedTokens() throws -> [Added] {
    try (json["added_tokens"]?.arrayValue ?? []).map { value in
      guard let id = value["id"]?.intValue, id >= 0, id < 1 << 24,
        let content = value["content"]?.stringValue,
        !content.isEmpty
      else { throw bad(.badAddedToken) }
      func flag(_ name: String) -> Bool { value[name]?.boolValue ?? false }
      return Added(
        token: AddedToken(
          id: id, bytes: Array(content.utf8), isSpecial: flag("special"), stripsLeft: flag("lstrip"),
          stripsRight: flag("rstrip"), isWholeWord: flag("single_word")),
        isNormalized: flag("normalized"))
    }
  }

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
              throw bad(.unknownAffix(name))
            }
            if beforeText { prefix += ids } else { suffix += ids }
          }
        }
      case let type: throw bad(.unsupported("post_processor \(type ?? "?") is not supported"))
      }
    }
    return (prefix, suffix)
  }
}
