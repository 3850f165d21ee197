import Files
import JSON

extension SlowTokenizer {
  struct Token {
    var id: Int
    var text: String
    var isSpecial: Bool
    var isNormalized: Bool
    var flags = JSONObject()

    var json: JSONValue {
      func flag(_ name: String) -> JSONValue { .bool(flags[name]?.boolValue ?? false) }
      return [
        "id": .init(id), "content": .string(text), "single_word": flag("single_word"),
        "lstrip": flag("lstrip"), "rstrip": flag("rstrip"), "normalized": .bool(isNormalized),
        "special": .bool(isSpecial),
      ]
    }
  }

  /// Texts of the tokens that have a name, by it, and of those that are special besides.
  struct Names {
    var named: [ByteText: String] = [:]
    var others: [String] = []

    func contains(_ text: String) -> Bool {
      named.values.contains { $0.hasSameBytes(as: text) } || others.contains { $0.hasSameBytes(as: text) }
    }
  }

  func specialTokens(defaults: [(String, String)]) -> Names {
    var names = Names()
    func text(_ value: JSONValue?) -> String? { value?.stringValue ?? value?["content"]?.stringValue }
    for name in ChatPrompt.tokenNames {
      let source = configuration[name.text] ?? map[name.text]
      if let text = source == nil ? defaults.first(where: { name == ByteText($0.0) })?.1 : text(source) {
        names.named[name] = text
      }
    }
    for source in [configuration, map] {
      for key in ["additional_special_tokens", "extra_special_tokens"] {
        names.others += (source[key]?.arrayValue ?? []).compactMap { text($0) }
      }
    }
    return names
  }

  /// What `tokenizer_config.json` lists with ids; without that, `added_tokens.json`.
  func declaredTokens() throws -> [Token] {
    if let declared = configuration["added_tokens_decoder"]?.objectValue {
      return declared.members.compactMap { key, value in
        guard let id = Int(key), AddedTokenSources.ids.contains(id), let text = value["content"]?.stringValue,
          !text.isEmpty
        else { return nil }
        let isSpecial = value["special"]?.boolValue ?? false
        return Token(
          id: id, text: text, isSpecial: isSpecial,
          isNormalized: value["normalized"]?.boolValue ?? !isSpecial, flags: value.objectValue ?? JSONObject()
        )
      }.sorted { $0.id < $1.id }
    }
    let added = try files.json(named: "added_tokens.json")?.objectValue ?? JSONObject()
    return added.members.compactMap { text, value in
      guard let id = value.intValue, AddedTokenSources.ids.contains(id), !text.isEmpty else { return nil }
      return Token(id: id, text: text, isSpecial: false, isNormalized: true)
    }.sorted { $0.id < $1.id }
  }

  /// - Parameters:
  ///   - ids: of the vocabulary.
  ///   - others: tokens of the vocabulary that count as added.
  func addedTokens(_ ids: [ByteText: Int], names: Names, others: [Token]) throws -> [JSONValue] {
    var tokens: [Int: Token] = [:]
    var taken = ids
    for token in others { tokens[token.id] = token }
    for var token in try declaredTokens() {
      token.id = ids[token.text] ?? token.id
      if names.contains(token.text) {
        (token.isSpecial, token.isNormalized) = (true, false)
      } else if SlowTokenizer.looksSpecial(token.text) {
        // So that nobody's message can hold it. transformers takes it for text, which skipping special tokens keeps.
        token.isSpecial = true
      }
      tokens[token.id] = token
      taken[token.text] = token.id
    }
    // A name without an id gets the next one.
    var next = (taken.values.max() ?? -1) + 1
    for text in ChatPrompt.tokenNames.compactMap({ names.named[$0] }) + names.others where !text.isEmpty {
      let id = taken[text] ?? next
      next = max(next, id + 1)
      taken[text] = id
      var token = tokens[id] ?? Token(id: id, text: text, isSpecial: true, isNormalized: false)
      token.isSpecial = true
      tokens[id] = token
    }
    return tokens.values.sorted { $0.id < $1.id }.map(\.json)
  }

  private static func looksSpecial(_ text: String) -> Bool {
    text.bytes.hasPrefix("<|") && text.bytes.hasSuffix("|>")
  }
}
