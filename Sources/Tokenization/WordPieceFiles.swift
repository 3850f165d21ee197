import Files
import JSON

/// The parts of a `tokenizer.json` whose model is WordPiece, with what `tokenizer_config.json` says otherwise.
struct WordPieceParts {
  /// What the post-processor puts together.
  enum TemplateItem: Equatable, Sendable {
    case special(ids: [Int], typeID: Int)
    case text(typeID: Int)
    case pair(typeID: Int)
  }

  let path: String
  var vocabulary: [(text: String, id: Int)]
  var unknown: Int
  /// What marks a token inside a word.
  var prefix: String
  /// A word of more characters is unknown.
  var longestWord: Int
  var normalizer: BertNormalizer
  var added: [TokenizerJSON.Added]
  var single: [TemplateItem] = [.text(typeID: 0)]
  var pair: [TemplateItem] = [.text(typeID: 0), .pair(typeID: 1)]
  var decoder: WordPieceDecoder
  /// `model_max_length`, if it is a length at all.
  var maximumLength: Int?
  var discrepancies: [Discrepancy] = []

  /// Words with more characters than this are nowhere a part of a vocabulary; with it the time for a word is bounded.
  static let longestWords = 1...1000
  static let vocabularyByteLimit = 1 << 23

  init(_ document: TokenizerLoader.Document, settings: WordPieceSettings) throws {
    let file = TokenizerJSON(json: document.json, path: document.path)
    path = document.path
    discrepancies = document.discrepancies
    guard let model = document.json["model"]?.objectValue else { throw file.bad(.noPart("model")) }
    guard model["type"]?.stringValue == "WordPiece" else {
      throw file.bad(.unsupportedModel(model["type"]?.stringValue ?? "missing"))
    }
    vocabulary = try WordPieceParts.vocabulary(model, file)
    let ids = Dictionary(
      vocabulary.lazy.map { (ByteText($0.text), $0.id) }, uniquingKeysWith: { first, _ in first })
    prefix = model["continuing_subword_prefix"]?.stringValue ?? "##"
    let unknownToken = model["unk_token"]?.stringValue ?? "[UNK]"
    guard let unknown = ids[unknownToken] else {
      throw file.bad(.specialMissing(unknownToken, role: "unk_token"))
    }
    self.unknown = unknown
    longestWord = 100
    if let value = model["max_input_chars_per_word"] {
      guard let count = value.intValue, WordPieceParts.longestWords.contains(count) else {
        throw file.bad(
          .unsupported("model.max_input_chars_per_word is \(value.serialized()), not from 1 to 1000"))
      }
      longestWord = count
    }
    normalizer = try WordPieceParts.normalizer(document.json["normalizer"] ?? .null, file)
    guard document.json["pre_tokenizer"]?["type"]?.stringValue == "BertPreTokenizer" else {
      throw file.bad(
        .unsupported(
          "pre_tokenizer \(document.json["pre_tokenizer"]?["type"]?.stringValue ?? "null") with the model "
            + "WordPiece is not supported (only BertPreTokenizer)"))
    }
    added = try file.addedTokens()
    decoder = try WordPieceDecoder(document.json["decoder"] ?? .null, prefix: prefix, file: file)
    maximumLength = settings.maximumLength
    try apply(settings, ids: ids, file)
    let count = (vocabulary.map(\.id) + added.map(\.token.id)).reduce(0) { max($0, $1 + 1) }
    try readPostProcessor(document.json["post_processor"] ?? .null, tokenCount: count, file)
    if single == [.text(typeID: 0)], settings.isBert {
      let (cls, sep) = try (settings.requiredID("cls_token", ids), settings.requiredID("sep_token", ids))
      addTemplate(cls: cls, sep: sep)
    }
  }

  // MARK: The model and what is before it

  private static func vocabulary(_ model: JSONObject, _ file: TokenizerJSON) throws -> [(String, Int)] {
    guard let vocabulary = model["vocab"]?.objectValue else { throw file.bad(.noPart("model.vocab")) }
    guard !vocabulary.isEmpty else { throw file.bad(.noTokens) }
    var taken: Set<Int> = []
    var byteCount = 0
    let entries: [(String, Int)] = try vocabulary.members.map { name, value in
      guard let id = value.intValue, id >= 0, id < 1 << 24 else { throw file.bad(.badID(token: name)) }
      guard taken.insert(id).inserted else { throw file.bad(.idGivenTwice(id)) }
      byteCount += name.utf8.count
      return (name, id)
    }
    guard byteCount <= vocabularyByteLimit else {
      throw file.bad(.vocabularyTooLarge(bytes: byteCount, limit: vocabularyByteLimit))
    }
    return entries
  }

  private static func normalizer(_ value: JSONValue, _ file: TokenizerJSON) throws -> BertNormalizer {
    guard value["type"]?.stringValue == "BertNormalizer" else {
      throw file.bad(
        .unsupported(
          "normalizer \(value["type"]?.stringValue ?? "null") with the model WordPiece is not supported "
            + "(only BertNormalizer)"))
    }
    func flag(_ name: String) throws -> Bool {
      guard let member = value[name] else { return true }
      guard let flag = member.boolValue else {
        throw file.bad(.unsupported("normalizer.\(name) is \(member.serialized()), not true or false"))
      }
      return flag
    }
    let strips = value["strip_accents"] ?? .null
    guard strips.isNull || strips.boolValue != nil else {
      throw file.bad(
        .unsupported("normalizer.strip_accents is \(strips.serialized()), not true, false or null"))
    }
    return BertNormalizer(
      cleansText: try flag("clean_text"), spacesIdeographs: try flag("handle_chinese_chars"),
      stripsAccents: strips.boolValue, lowercases: try flag("lowercase"))
  }

  /// What transformers' classes for BERT set, whatever `tokenizer.json` says.
  private mutating func apply(
    _ settings: WordPieceSettings, ids: [ByteText: Int], _ file: TokenizerJSON
  ) throws {
    guard settings.isBert else { return }
    let stored = normalizer
    normalizer.lowercases = settings.lowercases
    normalizer.spacesIdeographs = settings.spacesIdeographs
    normalizer.stripsAccents = settings.stripsAccents
    func note(_ name: String, _ key: String, _ stored: Bool?, _ counting: Bool?) {
      guard stored != counting else { return }
      func shown(_ value: Bool?) -> String { value.map { "\($0)" } ?? "null" }
      let source = settings.hasKey(key) ? "tokenizer_config.json says" : "transformers takes by default"
      discrepancies.append(
        Discrepancy(
          .normalizer, path: path,
          "has \(shown(stored)) for \(name) of its normalizer; \(key): \(shown(counting)), which \(source), counts"
        ))
    }
    note("lowercase", "do_lower_case", stored.lowercases, normalizer.lowercases)
    note(
      "handle_chinese_chars", "tokenize_chinese_chars", stored.spacesIdeographs, normalizer.spacesIdeographs)
    if stored.removesMarks != normalizer.removesMarks {
      note("strip_accents", "strip_accents", stored.stripsAccents, normalizer.stripsAccents)
    }
    let known = Set(added.map { $0.token.bytes })
    for name in settings.specialNames where !known.contains(Array(name.utf8)) {
      guard let id = ids[name] else {
        discrepancies.append(
          Discrepancy(.addedTokens, path: path, "does not have \(name); text that names it stays text"))
        continue
      }
      added.append(
        TokenizerJSON.Added(token: AddedToken(id: id, bytes: Array(name.utf8)), isNormalized: false))
    }
  }

  // MARK: The post-processor

  private mutating func addTemplate(cls: Int, sep: Int) {
    single = [.special(ids: [cls], typeID: 0), .text(typeID: 0), .special(ids: [sep], typeID: 0)]
    pair = single + [.pair(typeID: 1), .special(ids: [sep], typeID: 1)]
  }

  private mutating func readPostProcessor(_ value: JSONValue, tokenCount: Int, _ file: TokenizerJSON) throws {
    switch value["type"]?.stringValue {
    case nil where value.isNull: return
    case "BertProcessing":
      func id(_ role: String) throws -> Int {
        guard let id = value[role]?.arrayValue?.last?.intValue, (0..<tokenCount).contains(id) else {
          throw file.bad(.unknownAffix(role))
        }
        return id
      }
      addTemplate(cls: try id("cls"), sep: try id("sep"))
    case "TemplateProcessing":
      func items(_ name: String) throws -> [TemplateItem] {
        guard let items = value[name]?.arrayValue else { throw file.bad(.noPart("post_processor.\(name)")) }
        return try items.map { try WordPieceParts.item($0, value, tokenCount, file) }
      }
      (single, pair) = (try items("single"), try items("pair"))
      func texts(_ items: [TemplateItem]) -> [Bool] {
        items.compactMap { if case .special = $0 { nil } else if case .text = $0 { false } else { true } }
      }
      guard texts(single) == [false], texts(pair) == [false, true] else {
        throw file.bad(
          .unsupported(
            "post_processor TemplateProcessing without each text once, the first before the second, is not supported"
          ))
      }
    case let type:
      throw file.bad(
        .unsupported(
          "post_processor \(type ?? "?") with the model WordPiece is not supported "
            + "(only TemplateProcessing and BertProcessing)"))
    }
  }

  private static func item(
    _ item: JSONValue, _ processor: JSONValue, _ tokenCount: Int, _ file: TokenizerJSON
  ) throws -> TemplateItem {
    let content = item["Sequence"] ?? item["SpecialToken"]
    guard let content, let name = content["id"]?.stringValue, let type = content["type_id"]?.intValue,
      (0...255).contains(type)
    else { throw file.bad(.unsupported("post_processor has an item without an id and a type_id")) }
    if item["Sequence"] != nil {
      guard name == "A" || name == "B" else {
        throw file.bad(.unsupported("post_processor has a sequence \(name); there are A and B"))
      }
      return name == "A" ? .text(typeID: type) : .pair(typeID: type)
    }
    let ids = (processor["special_tokens"]?[name]?["ids"]?.arrayValue ?? []).map(\.intValue)
    guard !ids.isEmpty, ids.allSatisfy({ $0.map { (0..<tokenCount).contains($0) } ?? false }) else {
      throw file.bad(.unknownAffix(name))
    }
    return .special(ids: ids.compactMap { $0 }, typeID: type)
  }
}

/// What `tokenizer_config.json` and `special_tokens_map.json` say to a BERT tokenizer.
struct WordPieceSettings {
  private let configuration: JSONObject
  private let map: JSONObject
  private let path: String
  /// False for a class that takes `tokenizer.json` as it is.
  let isBert: Bool
  let lowercases: Bool
  let spacesIdeographs: Bool
  let stripsAccents: Bool?

  private static let path = "tokenizer_config.json"
  private static let roles = [
    ("unk_token", "[UNK]"), ("sep_token", "[SEP]"), ("pad_token", "[PAD]"), ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
  ]

  /// For a `tokenizer.json` without files beside it, which counts as it is.
  static let none = WordPieceSettings(isBert: false)
  /// For a `vocab.txt` without files beside it: uncased, the usual names.
  static let usual = WordPieceSettings(isBert: true)

  private init(isBert: Bool) {
    (configuration, map, path) = (JSONObject(), JSONObject(), Self.path)
    (self.isBert, lowercases, spacesIdeographs, stripsAccents) = (isBert, true, true, nil)
  }

  init(_ files: any ModelFiles) throws {
    let configuration = try files.json(named: Self.path)?.objectValue ?? JSONObject()
    let path = files.label(of: Self.path)
    self.configuration = configuration
    self.path = path
    map = try files.json(named: "special_tokens_map.json")?.objectValue ?? JSONObject()
    let name = configuration["tokenizer_class"]?.stringValue
    isBert = name != "PreTrainedTokenizerFast" && name != "TokenizersBackend"
    func flag(_ key: String) throws -> Bool? {
      guard let value = configuration[key], !value.isNull else { return nil }
      guard let flag = value.boolValue else {
        throw TokenizationError(
          .unsupported("\(key) is \(value.serialized()), not true or false"), path: path)
      }
      return flag
    }
    lowercases = try flag("do_lower_case") ?? true
    spacesIdeographs = try flag("tokenize_chinese_chars") ?? true
    stripsAccents = try flag("strip_accents")
  }

  func hasKey(_ key: String) -> Bool { configuration[key].map { !$0.isNull } ?? false }

  private static func text(_ value: JSONValue?) -> String? {
    value?.stringValue ?? value?["content"]?.stringValue
  }

  private func name(_ role: String, _ usual: String) -> String {
    Self.text(configuration[role]) ?? Self.text(map[role]) ?? usual
  }

  /// The names of special tokens: of the five roles, then others that are listed.
  var specialNames: [String] {
    var names = Self.roles.map { name($0.0, $0.1) }
    for object in [configuration, map] {
      names += (object["additional_special_tokens"]?.arrayValue ?? []).compactMap(Self.text)
    }
    var known: Set<ByteText> = []
    return names.filter { !$0.isEmpty && known.insert($0.bytes).inserted }
  }

  /// - Throws: when the vocabulary does not have the token.
  func requiredID(_ role: String, _ ids: [ByteText: Int]) throws -> Int {
    let name = name(role, Self.roles.first { $0.0 == role }?.1 ?? "")
    guard let id = ids[name] else { throw TokenizationError(.specialMissing(name, role: role), path: path) }
    return id
  }

  var unknownToken: String { name("unk_token", "[UNK]") }

  /// Writers without a limit put 10³⁰ there.
  var maximumLength: Int? {
    guard let length = configuration["model_max_length"]?.intValue, (1..<1 << 24).contains(length) else {
      return nil
    }
    return length
  }
}

/// `vocab.txt`, a token on each line, in the terms of `tokenizer.json`.
enum WordPieceVocabularyFile {
  private static let name = "vocab.txt"

  /// Nil when there is no such file.
  static func document(_ files: any ModelFiles) throws -> TokenizerLoader.Document? {
    guard let bytes = try files.bytes(named: name) else { return nil }
    let path = files.label(of: name)
    let (json, discrepancies) = try document(bytes, path: path, settings: WordPieceSettings(files))
    let sources = try AddedTokenSources(json, files, name: name)
    return TokenizerLoader.Document(
      json: sources.document, path: path, discrepancies: discrepancies + sources.discrepancies)
  }

  /// - Returns: the document, and what else a reader might take the file for.
  static func document(
    _ bytes: [UInt8], path: String, settings: WordPieceSettings
  ) throws -> (json: JSONValue, discrepancies: [Discrepancy]) {
    guard bytes.count <= 2 * WordPieceParts.vocabularyByteLimit else {
      throw TokenizationError(
        .vocabularyTooLarge(bytes: bytes.count, limit: WordPieceParts.vocabularyByteLimit), path: path)
    }
    var lines = bytes.split(separator: 10, omittingEmptySubsequences: false)
    if lines.last?.isEmpty == true { lines.removeLast() }
    guard !lines.isEmpty else { throw TokenizationError(.noTokens, path: path) }
    var lineOfToken: [ByteText: Int] = [:]
    var discrepancies: [Discrepancy] = []
    for (index, line) in lines.enumerated() {
      let line = line.last == 13 ? line.dropLast() : line
      guard let token = String(validating: line, as: UTF8.self) else {
        throw TokenizationError(.vocabularyLine(index + 1, .notUTF8), path: path)
      }
      guard !line.contains(13) else {
        throw TokenizationError(.vocabularyLine(index + 1, .carriageReturn), path: path)
      }
      // Every reader takes the last line of several with one token.
      if let earlier = lineOfToken.updateValue(index, forKey: ByteText(token)), discrepancies.count < 8 {
        discrepancies.append(
          Discrepancy(
            .vocabulary, path: path,
            "has \"\(token)\" on line \(earlier + 1) and on line \(index + 1), which counts"))
      }
    }
    let vocabulary = lineOfToken.sorted { $0.value < $1.value }.map {
      ($0.key.text, JSONValue($0.value))
    }
    let added: [JSONValue] = settings.specialNames.compactMap { name in
      lineOfToken[name].map {
        [
          "id": .init($0), "content": .string(name), "single_word": false, "lstrip": false, "rstrip": false,
          "normalized": false, "special": true,
        ]
      }
    }
    let normalizer: JSONValue = [
      "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": .bool(settings.spacesIdeographs),
      "strip_accents": settings.stripsAccents.map { .bool($0) } ?? .null,
      "lowercase": .bool(settings.lowercases),
    ]
    return (
      [
        "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": .array(added),
        "normalizer": normalizer, "pre_tokenizer": ["type": "BertPreTokenizer"], "post_processor": nil,
        "decoder": ["type": "WordPiece", "prefix": "##", "cleanup": true],
        "model": [
          "type": "WordPiece", "unk_token": .string(settings.unknownToken),
          "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
          "vocab": .object(JSONObject(vocabulary)),
        ],
      ], discrepancies
    )
  }
}
