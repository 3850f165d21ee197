import Files
import JSON

/// The tokens that `tokenizer.json` adds to its vocabulary, and what the files beside it say about them. As in transformers 5,
/// ids are those of `tokenizer.json`, flags are those of `added_tokens_decoder` in `tokenizer_config.json`, and tokens that only
/// the other files name take the next free ids.
struct AddedTokenSources {
  /// `tokenizer.json` with these tokens and flags.
  let document: JSONValue
  private(set) var discrepancies: [Discrepancy] = []

  private static let configuration = "tokenizer_config.json"
  private static let older = "added_tokens.json"

  /// Ids that a token can have; entries with others say nothing.
  static let ids = 0..<1 << 24

  /// A token that another file names.
  private struct Claim {
    var id: Int
    var content: String
    /// Nil: the file says nothing about them.
    var flags: JSONObject?
  }

  /// - Parameter name: the file that the document is from.
  init(_ document: JSONValue, _ files: any ModelFiles, name: String = "tokenizer.json") throws {
    let settings = try files.json(named: Self.configuration)?.objectValue ?? JSONObject()
    // eos_token and its like are special whatever their entry says.
    let named = Set(
      settings.members.filter { $0.key.bytes.hasSuffix("_token") }.compactMap { _, value in
        (value.stringValue ?? value["content"]?.stringValue)?.bytes
      })
    let source: String
    let claims: [Claim]
    if let decoder = settings["added_tokens_decoder"]?.objectValue {
      source = Self.configuration
      claims = decoder.members.compactMap { key, value in
        guard let id = Int(key), Self.ids.contains(id), let content = value["content"]?.stringValue,
          !content.isEmpty
        else { return nil }
        return Claim(id: id, content: content, flags: Self.flags(value, isNamed: named.contains(content)))
      }
    } else {
      source = Self.older
      claims = try (files.json(named: Self.older)?.objectValue?.members ?? []).compactMap { key, value in
        guard let id = value.intValue, Self.ids.contains(id), !key.isEmpty else { return nil }
        return Claim(id: id, content: key, flags: nil)
      }
    }
    guard !claims.isEmpty, var object = document.objectValue else {
      self.document = document
      return
    }
    var table = AddedTokenTable(object)
    for claim in claims.sorted(by: { $0.id < $1.id }) {
      for detail in table.apply(claim.content, id: claim.id, flags: claim.flags, source: source) {
        discrepancies.append(Discrepancy(.addedTokens, path: files.label(of: name), detail))
      }
    }
    if table.isChanged { object["added_tokens"] = .array(table.entries) }
    self.document = .object(object)
  }

  /// The flags of a token with the defaults of the `tokenizers` library.
  private static func flags(_ value: JSONValue, isNamed: Bool) -> JSONObject {
    let isSpecial = isNamed || value["special"]?.boolValue == true
    return JSONObject([
      ("single_word", .bool(value["single_word"]?.boolValue ?? false)),
      ("lstrip", .bool(value["lstrip"]?.boolValue ?? false)),
      ("rstrip", .bool(value["rstrip"]?.boolValue ?? false)),
      ("normalized", .bool(value["normalized"]?.boolValue ?? !isSpecial)), ("special", .bool(isSpecial)),
    ])
  }
}

/// The added tokens of a `tokenizer.json` while other files are read.
private struct AddedTokenTable {
  private(set) var entries: [JSONValue]
  private(set) var isChanged = false
  private var placeOfText: [ByteText: Int] = [:]
  private var textOfID: [Int: String] = [:]
  private let vocabulary: JSONObject
  /// The first id after all that there are.
  private lazy var nextID: Int = (vocabulary.members.map(\.value) + entries.map { $0["id"] ?? .null })
    .compactMap(\.intValue).filter(AddedTokenSources.ids.contains).reduce(0) { max($0, $1 + 1) }

  init(_ document: JSONObject) {
    entries = document["added_tokens"]?.arrayValue ?? []
    vocabulary = document["model"]?["vocab"]?.objectValue ?? JSONObject()
    for (place, entry) in entries.enumerated() {
      guard let text = entry["content"]?.stringValue, let id = entry["id"]?.intValue else { continue }
      placeOfText[text] = place
      textOfID[id] = text
    }
  }

  /// Takes over what another file says about a token.
  /// - Returns: sentences without their subject, `tokenizer.json`, about what it says otherwise.
  mutating func apply(_ text: String, id: Int, flags: JSONObject?, source: String) -> [String] {
    let place = placeOfText[text]
    guard let known = place.flatMap({ entries[$0]["id"]?.intValue }) ?? vocabulary[text]?.intValue else {
      let found = nextID
      nextID += 1
      add(text, id: found, flags: flags)
      let occupant = textOfID[id].map { "; id \(id) is \($0) here" } ?? ""
      return ["does not have \(text), which \(source) adds as \(id); it gets the id \(found)\(occupant)"]
    }
    var details: [String] = []
    if known != id {
      details.append("gives \(text) the id \(known), \(source) gives it \(id); the first counts")
    }
    guard let flags else { return details }
    guard let place, var entry = entries[place].objectValue else {
      add(text, id: known, flags: flags)
      return details + ["has \(text) in its vocabulary only; it is an added token as \(source) says"]
    }
    var other: [(key: String, value: Bool)] = []
    for flag in flags.members {
      guard let wanted = flag.value.boolValue else { continue }
      if entry[flag.key]?.boolValue ?? false != wanted { other.append((flag.key, wanted)) }
    }
    guard !other.isEmpty else { return details }
    for flag in other { entry[flag.key] = .bool(flag.value) }
    entries[place] = .object(entry)
    isChanged = true
    let said = other.map { "\($0.key): \($0.value)" }.joined(separator: ", ")
    return details + ["has other flags for \(text) than \(source), whose count: \(said)"]
  }

  private mutating func add(_ text: String, id: Int, flags: JSONObject?) {
    var entry = JSONObject([("id", .init(id)), ("content", .string(text))])
    for (key, value) in flags?.members ?? [] { entry[key] = value }
    placeOfText[text] = entries.count
    textOfID[id] = text
    entries.append(.object(entry))
    isChanged = true
  }
}
