import JSON
import Retrieval
import Tokenization

/// How the texts of a request become the ids that an embedding model reads.
struct EncodingOptions: Sendable {
  /// What is put before each text; not before token ids.
  var prompt: String?
  /// False: a text that is too long is an error.
  var truncates: Bool
  var side: TruncationSide
  /// Ids that a text keeps, special ones included; nil: as many as the model takes.
  var length: Int?
  var specials: SpecialTokens

  /// - Parameter limits: what the server does when the request does not say.
  init(_ fields: JSONFields, model: ServedEmbedder, limits: ServerLimits) throws {
    truncates = limits.truncates
    side = .right
    if let sides = try EncodingOptions.truncation(fields) {
      truncates = sides.truncates
      side = sides.side ?? .right
    }
    for key in ["truncation_direction", "truncation_side"] {
      guard let name = try fields.string(key) else { continue }
      guard let value = TruncationSide(rawValue: name.lowercased()) else {
        throw fields.unexpected(key, expected: "left or right")
      }
      side = value
    }
    let added = model.backend.tokenizer.addedTokenCount(isPair: false)
    if let count = try fields.integer("truncate_prompt_tokens"), count != -1 {
      guard count > added, count <= model.maximumLength else {
        throw fields.unexpected(
          "truncate_prompt_tokens", expected: "-1, or \(added + 1) to \(model.maximumLength) tokens")
      }
      length = count
      truncates = true
    } else if fields.isPresent("truncate_prompt_tokens") {
      truncates = true
    }
    specials = try fields.bool("allow_special_tokens").map { $0 ? .recognized : .plain } ?? limits.specials
    prompt = try EncodingOptions.prompt(fields, model.backend.settings)
  }

  /// `truncate`: a flag, as TEI has it, or Cohere's NONE, START and END; nil when absent.
  static func truncation(_ fields: JSONFields) throws(JSONFieldError) -> (
    truncates: Bool, side: TruncationSide?
  )? {
    guard let value = fields["truncate"] else { return nil }
    if let flag = value.boolValue { return (flag, nil) }
    switch value.stringValue {
    case "NONE": return (false, nil)
    case "START": return (true, .left)
    case "END": return (true, .right)
    default: throw fields.unexpected("truncate", expected: "true, false, NONE, START or END")
    }
  }

  /// The prompt that `prompt_name` or `input_type` asks for, or the model's default.
  private static func prompt(_ fields: JSONFields, _ settings: EmbeddingSettings) throws(JSONFieldError)
    -> String?
  {
    let usual = settings.defaultPromptName.flatMap { settings.prompts[$0] }
    if let name = try fields.string("prompt_name") {
      try fields.refuseUnsupported("input_type", because: "prompt_name has chosen the prompt already")
      guard let prompt = settings.prompts[name] else {
        let names = settings.prompts.keys.sorted().joined(separator: ", ")
        throw fields.unexpected(
          "prompt_name",
          expected: names.isEmpty ? "none, because the model has no prompts" : "one of \(names)")
      }
      return prompt
    }
    guard let type = try fields.string("input_type") else { return usual }
    let names: [String]
    switch type {
    case "query", "search_query": names = ["query", "search_query"]
    case "document", "passage", "search_document":
      names = ["document", "passage", "search_document", "corpus"]
    case "classification", "clustering": names = [type]
    default:
      throw fields.unexpected(
        "input_type",
        expected: "search_query, search_document, query, passage, document, classification or clustering")
    }
    // A model without a prompt for it takes such texts as they are.
    return names.lazy.compactMap { settings.prompts[$0] }.first
  }

  /// - Parameter field: what to call the input in messages.
  func encode(_ input: TextInput, of model: ServedEmbedder, field: String) throws -> EncodedText {
    do {
      switch input {
      case .text(let text):
        return try model.backend.encode(
          text, pair: nil, prompt: prompt, truncates: truncates, side: side, specials: specials,
          maximumLength: length)
      case .ids(let ids):
        let rows = model.backend.tokenizer.tokenCount
        if let wrong = ids.first(where: { $0 >= rows }) {
          throw APIError(
            .badRequest, "\(field): token id \(wrong) is outside the vocabulary, 0 to \(rows - 1)",
            parameter: field)
        }
        let encoded = EncodedText(ids: ids, typeIDs: Array(repeating: 0, count: ids.count))
        guard ids.count <= model.maximumLength || truncates else {
          throw RetrievalError(.tooLong(tokens: ids.count, limit: model.maximumLength), path: model.name)
        }
        return cut(encoded, to: min(length ?? .max, model.maximumLength))
      }
    } catch let error as RetrievalError {
      var described = APIError(describing: error)
      if described.parameter != nil { described.parameter = field }
      throw described
    }
  }

  private func cut(_ text: EncodedText, to length: Int) -> EncodedText {
    guard text.ids.count > length else { return text }
    let ids = side == .right ? text.ids.prefix(length) : text.ids.suffix(length)
    return EncodedText(ids: Array(ids), typeIDs: Array(repeating: 0, count: length), isTruncated: true)
  }
}
