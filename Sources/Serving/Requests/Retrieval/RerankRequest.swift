import JSON
import Retrieval

/// A request to order passages by how well they answer a query, decoded.
struct RerankRequest: Sendable {
  let model: ServedReranker
  let query: String
  let passages: [String]
  /// At most so many results.
  let most: Int
  let returnsText: Bool
  let options: ScoringOptions
  var warnings: [String]

  /// Decodes the body that Cohere's, Jina's and vLLM's clients send.
  /// - Parameter returnsDocuments: when the request does not say.
  init(documents fields: JSONFields, returnsDocuments: Bool, models: ServedModels, limits: ServerLimits)
    throws
  {
    model = try models.reranker(named: try fields.string("model"))
    warnings = try RetrievalFields.rerank.check(fields)
    query = try fields.requiredString("query")
    passages = try RerankRequest.documents(fields, most: limits.inputs)
    let top = try fields.integer("top_n", in: 0...Int.max) ?? 0
    most = top == 0 ? passages.count : top
    returnsText = try fields.bool("return_documents") ?? returnsDocuments
    options = try ScoringOptions(fields, model: model, truncates: limits.truncates)
    // The pair is cut to the model's length in any case; a shorter limit of one document is not.
    let longest = model.backend.maximumLength
    try fields.refuseUnsupported(
      "max_tokens_per_doc", because: "documents are cut where a pair has \(longest) tokens, not before",
      unless: { $0.intValue.map { $0 >= longest } ?? false })
  }

  /// Decodes the body that clients of Text Embeddings Inference send.
  init(texts fields: JSONFields, models: ServedModels, limits: ServerLimits) throws {
    model = try models.reranker(named: try fields.string("model"))
    warnings = try RetrievalFields.rerankTexts.check(fields)
    query = try fields.requiredString("query")
    passages = try RerankRequest.strings(fields, "texts", most: limits.inputs)
    most = passages.count
    returnsText = try fields.bool("return_text") ?? false
    options = try ScoringOptions(fields, model: model, truncates: limits.truncates)
  }

  /// Strings, or objects with a text.
  private static func documents(_ fields: JSONFields, most: Int) throws -> [String] {
    guard let value = fields["documents"] else { throw fields.error("documents", .missing) }
    guard let array = value.arrayValue else {
      throw fields.unexpected("documents", expected: "an array of strings, or of objects with a text")
    }
    try check(array, fields, "documents", most: most)
    return try array.map { element in
      guard let text = element.stringValue ?? element["text"]?.stringValue else {
        throw fields.unexpected("documents", expected: "an array of strings, or of objects with a text")
      }
      return text
    }
  }

  static func strings(_ fields: JSONFields, _ key: String, most: Int) throws -> [String] {
    guard let value = fields[key] else { throw fields.error(key, .missing) }
    guard let array = value.arrayValue else { throw fields.unexpected(key, expected: "an array of strings") }
    try check(array, fields, key, most: most)
    let texts = array.compactMap(\.stringValue)
    guard texts.count == array.count else { throw fields.unexpected(key, expected: "an array of strings") }
    return texts
  }

  private static func check(_ array: [JSONValue], _ fields: JSONFields, _ key: String, most: Int) throws {
    guard !array.isEmpty else { throw TextInput.empty(key) }
    guard array.count <= most else {
      throw fields.refusal(key, "has \(array.count) elements; at most \(most) are taken in one request")
    }
  }
}

/// How pairs are scored.
struct ScoringOptions: Sendable {
  /// The model's own number instead of one from 0 to 1.
  var isRaw: Bool
  /// False: a pair that is too long is an error.
  var truncates: Bool
  private let longest: Int

  init(_ fields: JSONFields, model: ServedReranker, truncates: Bool) throws(JSONFieldError) {
    let longest = model.backend.maximumLength
    self.longest = longest
    self.truncates = try EncodingOptions.truncation(fields)?.truncates ?? truncates
    let raw = try fields.bool("raw_scores")
    let activated = try fields.bool("use_activation")
    if let raw, let activated, raw == activated {
      throw fields.refusal("use_activation", "and raw_scores ask for opposite things")
    }
    isRaw = raw ?? activated.map { !$0 } ?? false
    if fields.isPresent("truncate_prompt_tokens") {
      try fields.refuseUnsupported(
        "truncate_prompt_tokens", because: "pairs are cut where they have \(longest) tokens, not before",
        unless: { [-1, longest].contains($0.intValue) })
      self.truncates = true
    }
  }

  func number(_ score: RerankScore) -> Float { isRaw ? score.raw : score.relevance }

  /// Refuses pairs that were cut, or says that there are any.
  /// - Parameter field: of the texts.
  /// - Returns: what the client should know.
  func check(_ scores: [RerankScore], field: String) throws -> [String] {
    let cut = scores.indices.filter { scores[$0].isTruncated }
    guard let first = cut.first else { return [] }
    guard truncates else {
      throw APIError(
        .badRequest, "\(field): pair \(first) is longer than the \(longest) tokens that the model takes",
        parameter: field, code: "context_length_exceeded")
    }
    let places = cut.prefix(8).map(String.init).joined(separator: ", ") + (cut.count > 8 ? ", …" : "")
    return [
      "\(cut.count) of \(scores.count) pairs are longer than the model takes and were cut: \(places)"
    ]
  }
}
