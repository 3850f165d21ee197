import HTTPTypes
import Hummingbird
import JSON

/// `POST /embed`: vectors of texts, in the form of Text Embeddings Inference.
struct EmbedRoute: APIRoute {
  let models: ServedModels
  let computing: Computing
  let name = "/embed"
  let method = HTTPRequest.Method.post
  let admission = Admission.keyAndBody
  let errorDialect = ErrorDialect.textEmbeddingsInference

  func respond(to request: Request, context: APIContext) async throws -> Response {
    let fields = try await JSONFields(bodyOf: request)
    let embedding = try EmbeddingRequest(
      fields, key: "inputs", known: .embed, normalizes: true, models: models, limits: computing.limits)
    let vectors = try await computing.vectors(
      embedding.texts, of: embedding.model, normalizes: embedding.normalizes, size: embedding.size,
      context: context)
    return Response(.array(vectors.map(RetrievalFormat.floats)))
  }
}
