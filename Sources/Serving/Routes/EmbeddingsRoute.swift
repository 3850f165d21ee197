import HTTPTypes
import Hummingbird
import JSON

/// `POST /v1/embeddings` and `/embeddings`: vectors of texts, in the form of OpenAI's API.
struct EmbeddingsRoute: APIRoute {
  let models: ServedModels
  let computing: Computing
  let name: String
  let method = HTTPRequest.Method.post
  let admission = Admission.keyAndBody

  func respond(to request: Request, context: APIContext) async throws -> Response {
    let fields = try await JSONFields(bodyOf: request)
    let isBase64 = try EmbeddingsRoute.isBase64(fields)
    let embedding = try EmbeddingRequest(
      fields, key: "input", known: .embeddings, normalizes: nil, models: models, limits: computing.limits)
    let vectors = try await computing.vectors(
      embedding.texts, of: embedding.model, normalizes: embedding.normalizes, size: embedding.size,
      context: context)
    let data = vectors.enumerated().map { index, vector -> JSONValue in
      [
        "object": "embedding", "index": .init(index),
        "embedding": isBase64 ? RetrievalFormat.base64(vector) : RetrievalFormat.floats(vector),
      ]
    }
    let tokens = embedding.texts.reduce(0) { $0 + $1.ids.count }
    return Response(
      RetrievalFormat.adding(
        embedding.warnings,
        to: JSONObject([
          ("id", RetrievalFormat.id("embd-")), ("object", "list"), ("created", RetrievalFormat.now),
          ("data", .array(data)), ("model", .string(embedding.model.name)),
          ("usage", RetrievalFormat.usage(tokens)),
        ])))
  }

  private static func isBase64(_ fields: JSONFields) throws(JSONFieldError) -> Bool {
    switch try fields.string("encoding_format") {
    case nil, "float": return false
    case "base64": return true
    default: throw fields.unexpected("encoding_format", expected: "float or base64")
    }
  }
}
