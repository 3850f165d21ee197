import HTTPTypes
import Hummingbird
import JSON

/// `POST /predict`: scores of pairs with the name of the model's label, in the form of Text Embeddings Inference.
struct PredictRoute: APIRoute {
  let models: ServedModels
  let computing: Computing
  let name = "/predict"
  let method = HTTPRequest.Method.post
  let admission = Admission.keyAndBody
  let errorDialect = ErrorDialect.textEmbeddingsInference

  func respond(to request: Request, context: APIContext) async throws -> Response {
    let fields = try await JSONFields(bodyOf: request)
    let model = try models.reranker(named: try fields.string("model"))
    _ = try RetrievalFields.predict.check(fields)
    let options = try ScoringOptions(fields, model: model, truncates: computing.limits.truncates)
    let (pairs, isBatch) = try PredictRoute.pairs(fields, most: computing.limits.inputs)
    let scores = try await computing.scores(pairs, of: model, context: context)
    _ = try options.check(scores, field: "inputs")
    let predictions = scores.map { score -> JSONValue in
      ["score": RetrievalFormat.number(options.number(score)), "label": .string(model.label)]
    }
    return Response(.array(isBatch ? predictions.map { [$0] } : predictions))
  }

  /// `[a, b]` is a pair, `[[a, b], …]` are several.
  private static func pairs(_ fields: JSONFields, most: Int) throws -> (pairs: [RerankingItem], isBatch: Bool)
  {
    guard let value = fields["inputs"] else { throw fields.error("inputs", .missing) }
    let wanted = "a pair of strings, or an array of such pairs, because the model scores pairs"
    guard let array = value.arrayValue else { throw fields.unexpected("inputs", expected: wanted) }
    guard let first = array.first else { throw TextInput.empty("inputs") }
    guard array.count <= max(2, most) else {
      throw fields.refusal("inputs", "has \(array.count) elements; at most \(most) are taken in one request")
    }
    func pair(_ value: JSONValue) throws -> RerankingItem {
      guard let texts = value.arrayValue, texts.count == 2, let query = texts[0].stringValue,
        let passage = texts[1].stringValue
      else { throw fields.unexpected("inputs", expected: wanted) }
      return RerankingItem(query: query, passage: passage)
    }
    if first.stringValue != nil { return ([try pair(value)], false) }
    return (try array.map(pair), true)
  }
}
