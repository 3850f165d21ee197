import HTTPTypes
import Hummingbird
import JSON

/// `POST /v1/chat/completions`: the next message of a conversation.
struct ChatCompletionsRoute: APIRoute {
  let models: ServedModels
  let answering: Answering
  let name = "/v1/chat/completions"
  let method = HTTPRequest.Method.post
  let admission = Admission.keyAndBody

  func respond(to request: Request, context: APIContext) async throws -> Response {
    let fields = try await JSONFields(bodyOf: request)
    return try await answering.respond(to: AnswerRequest(chat: fields, models: models), context: context)
  }
}
