import HTTPTypes
import Hummingbird
import JSON

/// `POST /v1/completions`: texts, or token ids, continued as they are.
struct CompletionsRoute: APIRoute {
  let models: ServedModels
  let answering: Answering
  let name = "/v1/completions"
  let method = HTTPRequest.Method.post
  let admission = Admission.keyAndBody

  func respond(to request: Request, context: APIContext) async throws -> Response {
    let fields = try await JSONFields(bodyOf: request)
    return try await answering.respond(
      to: AnswerRequest(completion: fields, models: models), context: context)
  }
}
