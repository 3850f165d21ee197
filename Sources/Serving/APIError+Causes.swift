import Files
import Generation
import HTTPTypes
import Hummingbird
import JSON
import Retrieval
import Tokenization

/// The connection failed while a request's body was read: there is nobody to answer, or the server below answers itself.
struct BrokenConnection: Error {
  let cause: any Error
}

extension APIError {
  /// What a client is told of an error, whatever threw it: the one place that decides.
  package init(describing error: any Error) {
    switch error {
    case let error as APIError: self = error
    case let error as JSONFieldError: self.init(error)
    case let error as JSONError:
      self.init(.badRequest, "the body is \(error.description)")
    case let error as GenerationError: self.init(error)
    case let error as ChatTemplateError: self.init(error)
    case let error as RetrievalError: self.init(error)
    case RetrievalFailure.notFinite:
      self.init(
        .internalServerError, "the model's numbers are not finite; a weight may be NaN or infinite",
        code: "not_finite")
    case is CancellationError: self.init(.init(code: 499), "the client closed the connection")
    case is SlowBody:
      self.init(.requestTimeout, "the body did not come in time", closesConnection: true)
    case let error as HTTPError: self.init(error.status, error.body ?? error.status.reasonPhrase)
    case let error as any DiagnosedError: self.init(.internalServerError, error.description)
    default: self.init(.internalServerError, "an unexpected error occurred: \(error)")
    }
  }

  /// A field that is wrong: 400, with its path.
  private init(_ error: JSONFieldError) {
    let name = error.field.isEmpty ? error.document : error.field
    let code: String? = if case .unsupported = error.reason { "unsupported_parameter" } else { nil }
    self.init(
      .badRequest, "\(name) \(error.detail)", parameter: error.field.isEmpty ? nil : error.field, code: code)
  }

  /// A conversation that the template refuses, in the template's words: 400. A template that is wrong itself: 500.
  private init(_ error: ChatTemplateError) {
    if error.concernsConversation {
      self.init(.badRequest, error.detail, parameter: "messages", code: "chat_template_error")
    } else {
      self.init(.internalServerError, error.description, code: "chat_template_error")
    }
  }

  private init(_ error: RetrievalError) {
    switch error.reason {
    case .tooLong:
      self.init(.badRequest, error.description, parameter: "input", code: "context_length_exceeded")
    case .invalidToken: self.init(.badRequest, error.description, parameter: "input")
    default: self.init(.internalServerError, error.description)
    }
  }

  private init(_ error: GenerationError) {
    let text = error.description
    switch error {
    case .emptyPrompt, .unknownToken, .tokenWithoutRow: self.init(.badRequest, text, parameter: "prompt")
    case .promptTooLong, .messageTooLong: self.init(.badRequest, text, code: "context_length_exceeded")
    case .noTokenLeft: self.init(.badRequest, text, code: "no_token_left")
    case .nothingToAnswer: self.init(.badRequest, text, parameter: "messages")
    case .queueFull(_, let seconds):
      self.init(.tooManyRequests, text, code: "queue_full", retryAfter: seconds)
    case .shuttingDown: self.init(.serviceUnavailable, text, code: "shutting_down", retryAfter: 5)
    case .timedOut: self.init(.serviceUnavailable, text, code: "timed_out", retryAfter: 5)
    case .notFinite: self.init(.internalServerError, text, code: "not_finite")
    case .memoryLimitTooSmall: self.init(.internalServerError, text)
    }
  }
}
