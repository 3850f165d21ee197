import Hummingbird
import JSON

/// `GET /info`: the model that the routes of Text Embeddings Inference use, in its form.
struct InfoRoute: APIRoute {
  let models: ServedModels
  let limits: ServerLimits
  let name = "/info"
  let errorDialect = ErrorDialect.textEmbeddingsInference

  func respond(to request: Request, context: APIContext) throws -> Response {
    let type: JSONValue
    let length: Int
    let batches: BatchLimits
    let configuration: JSONObject
    let model: any ServedEntry
    if let embedder = models.models(ServedEmbedder.self).first {
      type = ["embedding": ["pooling": .string(embedder.backend.settings.pooling.rawValue)]]
      (model, length, batches) = (embedder, embedder.maximumLength, embedder.engine.limits)
      configuration = embedder.configuration
    } else if let reranker = models.models(ServedReranker.self).first {
      let label = reranker.label
      type = [
        "reranker": [
          "id2label": ["0": .string(label)], "label2id": .object(JSONObject([(label, 0)])),
        ]
      ]
      (model, length, batches) = (reranker, reranker.backend.maximumLength, reranker.engine.limits)
      configuration = reranker.configuration
    } else {
      throw APIError(
        .badRequest, "no model here makes embeddings or reranks; /v1/models lists what there is",
        code: "wrong_model_kind")
    }
    let elementType = configuration["dtype"] ?? configuration["torch_dtype"]
    return Response([
      "model_id": .string(model.name), "model_sha": nil,
      "model_dtype": .string(elementType?.stringValue ?? "float32"),
      "served_model_name": .string(model.name), "model_type": type,
      "max_concurrent_requests": .init(batches.queue), "max_input_length": .init(length),
      "max_batch_tokens": .init(batches.batchTokens), "max_batch_requests": nil,
      "max_client_batch_size": .init(limits.inputs), "auto_truncate": .bool(limits.truncates),
      "tokenization_workers": 1, "version": .string(InfoRoute.version),
    ])
  }

  /// Of Text Embeddings Inference's API.
  private static let version = "1.8.0"
}
