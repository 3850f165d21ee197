import HTTPTypes
import Hummingbird
import JSON
import Retrieval

/// `POST /v1/rerank`, `/rerank` and `/v2/rerank`: passages in the order of their relevance to a query.
///
/// A body with `texts` is answered as Text Embeddings Inference does. Otherwise the response has what clients of Cohere, Jina
/// and vLLM look for: each reads the members that it knows.
struct RerankRoute: APIRoute {
  let models: ServedModels
  let computing: Computing
  let name: String
  /// Whether results have their document when the request does not say.
  let returnsDocuments: Bool
  let method = HTTPRequest.Method.post
  let admission = Admission.keyAndBody
  let errorDialect = ErrorDialect.cohere

  func respond(to request: Request, context: APIContext) async throws -> Response {
    let fields = try await JSONFields(bodyOf: request)
    guard fields.isPresent("texts") && !fields.isPresent("documents") else {
      return try await documents(fields, context)
    }
    do {
      return try await texts(fields, context)
    } catch {
      var described = APIError(describing: error)
      described.dialect = .textEmbeddingsInference
      throw described
    }
  }

  private func scores(_ rerank: RerankRequest, _ context: APIContext) async throws -> [RerankScore] {
    try await computing.scores(
      rerank.passages.map { RerankingItem(query: rerank.query, passage: $0) }, of: rerank.model,
      context: context)
  }

  private func documents(_ fields: JSONFields, _ context: APIContext) async throws -> Response {
    let rerank = try RerankRequest(
      documents: fields, returnsDocuments: returnsDocuments, models: models, limits: computing.limits)
    let scores = try await scores(rerank, context)
    let warnings = try rerank.warnings + rerank.options.check(scores, field: "documents")
    let results = RetrievalFormat.ranking(scores).prefix(rerank.most).map { index -> JSONValue in
      var members = JSONObject([
        ("index", .init(index)),
        ("relevance_score", RetrievalFormat.number(rerank.options.number(scores[index]))),
      ])
      if rerank.returnsText { members["document"] = ["text": .string(rerank.passages[index])] }
      return .object(members)
    }
    return Response(
      RetrievalFormat.adding(
        warnings,
        to: JSONObject([
          ("id", RetrievalFormat.id("rerank-")), ("object", "list"),
          ("model", .string(rerank.model.name)),
          ("usage", RetrievalFormat.usage(scores.reduce(0) { $0 + $1.tokenCount })),
          ("results", .array(results)),
          ("meta", ["api_version": ["version": "2"], "billed_units": ["search_units": 1]]),
        ])))
  }

  private func texts(_ fields: JSONFields, _ context: APIContext) async throws -> Response {
    let rerank = try RerankRequest(texts: fields, models: models, limits: computing.limits)
    let scores = try await scores(rerank, context)
    _ = try rerank.options.check(scores, field: "texts")
    return Response(
      .array(
        RetrievalFormat.ranking(scores).map { index in
          var members = JSONObject([
            ("index", .init(index)), ("score", RetrievalFormat.number(rerank.options.number(scores[index]))),
          ])
          if rerank.returnsText { members["text"] = .string(rerank.passages[index]) }
          return .object(members)
        }))
  }
}
