import JSON
import Retrieval

/// A request to score pairs of texts, decoded; in vLLM's form.
struct ScoreRequest: Sendable {
  let model: any ServedEntry
  let pairs: [RerankingItem]
  /// The field of the second texts, for messages.
  let field: String
  let warnings: [String]

  init(_ fields: JSONFields, models: ServedModels, limits: ServerLimits) throws {
    model = try models.scorer(named: try fields.string("model"))
    warnings = try RetrievalFields.score.check(fields)
    let names = [
      ("text_1", "text_2"), ("data_1", "data_2"), ("queries", "documents"), ("queries", "items"),
    ]
    guard let (first, second) = names.first(where: { fields.isPresent($0) && fields.isPresent($1) }) else {
      throw APIError(
        .badRequest,
        "expected text_1 and text_2, data_1 and data_2, queries and documents, or queries and items",
        parameter: "text_1")
    }
    field = second
    let left = try ScoreRequest.texts(fields, first, most: limits.inputs)
    let right = try ScoreRequest.texts(fields, second, most: limits.inputs)
    guard left.count == right.count || left.count == 1 else {
      throw APIError(
        .badRequest,
        "Input lengths must be either 1:1, 1:N or N:N; \(first) has \(left.count), \(second) \(right.count)",
        parameter: second)
    }
    pairs = right.enumerated().map { index, passage in
      RerankingItem(query: left[left.count == 1 ? 0 : index], passage: passage)
    }
  }

  /// A string, or an array of strings.
  private static func texts(_ fields: JSONFields, _ key: String, most: Int) throws -> [String] {
    if let text = fields[key]?.stringValue { return [text] }
    return try RerankRequest.strings(fields, key, most: most)
  }
}
