import HTTPTypes
import Hummingbird
import JSON

/// `POST /similarity`: cosines of a text and others, in the form of Text Embeddings Inference.
struct SimilarityRoute: APIRoute {
  let models: ServedModels
  let computing: Computing
  let name = "/similarity"
  let method = HTTPRequest.Method.post
  let admission = Admission.keyAndBody
  let errorDialect = ErrorDialect.textEmbeddingsInference

  func respond(to request: Request, context: APIContext) async throws -> Response {
    let fields = try await JSONFields(bodyOf: request)
    let model = try models.embedder(named: try fields.string("model"))
    _ = try RetrievalFields.similarity.check(fields)
    guard let inputs = try fields.object("inputs") else { throw fields.error("inputs", .missing) }
    let parameters =
      try fields.object("parameters")
      ?? JSONFields(JSONObject(), document: fields.document, prefix: "parameters.")
    let options = try EncodingOptions(parameters, model: model, limits: computing.limits)
    let source = try inputs.requiredString("source_sentence")
    let sentences = try RerankRequest.strings(inputs, "sentences", most: computing.limits.inputs)
    let encoded = try ([source] + sentences).map {
      try options.encode(.text($0), of: model, field: "inputs")
    }
    let vectors = try await computing.vectors(encoded, of: model, context: context)
    return Response(
      .array(vectors.dropFirst().map { RetrievalFormat.number(RetrievalFormat.cosine(vectors[0], $0)) }))
  }
}
