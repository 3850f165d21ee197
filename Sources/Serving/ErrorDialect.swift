import HTTPTypes
import JSON

/// In whose words an error is told. Clients make their exceptions from the status and the body.
package enum ErrorDialect: Sendable {
  /// `{"error": {"message", "type", "param", "code"}}`.
  case openAI
  /// OpenAI's body, and `message` beside it, where Cohere's clients look.
  case cohere
  /// Text Embeddings Inference: `{"error", "error_type"}`, with its own statuses.
  case textEmbeddingsInference

  func body(of error: APIError) -> JSONValue {
    switch self {
    case .openAI: return error.json
    case .cohere:
      var members = error.json.objectValue ?? JSONObject()
      members["message"] = .string(error.message)
      return .object(members)
    case .textEmbeddingsInference:
      return ["error": .string(error.message), "error_type": .string(ErrorDialect.type(of: error))]
    }
  }

  func status(of error: APIError) -> HTTPResponse.Status {
    guard self == .textEmbeddingsInference else { return error.status }
    switch ErrorDialect.type(of: error) {
    // A body that is no JSON stays 400; one that is, with a wrong field, is 422.
    case "Validation" where error.status == .badRequest && error.parameter != nil:
      return .unprocessableContent
    case "Backend": return HTTPResponse.Status(code: 424, reasonPhrase: "Failed Dependency")
    default: return error.status
    }
  }

  private static func type(of error: APIError) -> String {
    switch error.code {
    case "empty_input": return "Empty"
    case "wrong_model_kind": return "Backend"
    default: break
    }
    switch error.status.code {
    case 401, 403: return "Unauthorized"
    case 429: return "Overloaded"
    case 503: return "Unhealthy"
    case 500...: return "Backend"
    default: return "Validation"
    }
  }
}
