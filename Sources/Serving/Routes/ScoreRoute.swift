import HTTPTypes
import Hummingbird
import JSON

/// `POST /v1/score` and `/score`: scores of pairs in the request's order, in the form of vLLM. An embedding model's score is the
/// cosine of the two vectors.
struct ScoreRoute: APIRoute {
  let models: ServedModels
  let computing: Computing
  let name: String
  let method = HTTPRequest.Method.post
  let admission = Admission.keyAndBody

  func respond(to request: Request, context: APIContext) async throws -> Response {
    let fields = try await JSONFields(bodyOf: request)
    let score = try ScoreRequest(fields, models: models, limits: computing.limits)
    let numbers: [Float]
    let tokens: Int
    var warnings = score.warnings
    switch score.model {
    case let model as ServedReranker:
      let options = try ScoringOptions(fields, model: model, truncates: computing.limits.truncates)
      let scores = try await computing.scores(score.pairs, of: model, context: context)
      warnings += try options.check(scores, field: score.field)
      numbers = scores.map(options.number)
      tokens = scores.reduce(0) { $0 + $1.tokenCount }
    case let model as ServedEmbedder:
      (numbers, tokens) = try await cosines(score, model, fields, context)
    default: preconditionFailure("no scorer")
    }
    let data = numbers.enumerated().map { index, number -> JSONValue in
      ["index": .init(index), "object": "score", "score": RetrievalFormat.number(number)]
    }
    return Response(
      RetrievalFormat.adding(
        warnings,
        to: JSONObject([
          ("id", RetrievalFormat.id("score-")), ("object", "list"), ("created", RetrievalFormat.now),
          ("model", .string(score.model.name)), ("data", .array(data)),
          ("usage", RetrievalFormat.usage(tokens)),
        ])))
  }

  private func cosines(
    _ score: ScoreRequest, _ model: ServedEmbedder, _ fields: JSONFields, _ context: APIContext
  ) async throws -> ([Float], Int) {
    try fields.refuseUnsupported(
      "raw_scores", because: "the score of an embedding model is a cosine", unless: { $0 == false })
    try fields.refuseUnsupported(
      "use_activation", because: "the score of an embedding model is a cosine", unless: { $0 == true })
    let options = try EncodingOptions(fields, model: model, limits: computing.limits)
    // A query of many passages is embedded once.
    var places: [[UInt8]: Int] = [:]
    var texts: [String] = []
    func place(_ text: String) -> Int {
      let key = Array(text.utf8)
      if let place = places[key] { return place }
      places[key] = texts.count
      texts.append(text)
      return texts.count - 1
    }
    let pairs = score.pairs.map { (place($0.query), place($0.passage)) }
    let encoded = try texts.map { try options.encode(.text($0), of: model, field: score.field) }
    let vectors = try await computing.vectors(encoded, of: model, context: context)
    return (
      pairs.map { RetrievalFormat.cosine(vectors[$0.0], vectors[$0.1]) },
      encoded.reduce(0) { $0 + $1.ids.count }
    )
  }
}
