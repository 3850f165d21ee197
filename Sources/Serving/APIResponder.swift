import Files
import Generation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import JSON
import Logging
import NIOCore

/// What a request brings besides itself.
struct ConnectionContext: InitializableFromSource, Sendable {
  let channel: any Channel
  let logger: Logger

  init(source: ApplicationRequestContextSource) {
    channel = source.channel
    logger = source.logger
  }
}

/// Answers HTTP requests: checks them, finds what they ask for, turns errors into JSON.
struct APIResponder: HTTPResponder {
  typealias Context = ConnectionContext

  let models: ServedModels
  let access: AccessControl
  let limits: ServerLimits
  let metrics = Metrics()
  private let connections = ConnectionRegistry()

  private enum Action {
    case page, health, metrics, models
    case model(String)
    case chat, completion
  }

  func respond(to request: Request, context: ConnectionContext) async throws -> Response {
    let start = ContinuousClock.now
    let path = APIResponder.path(request)
    var response: Response
    do {
      try access.checkOrigin(request)
      response = try await perform(request, path: path, context: context)
    } catch let error as APIError {
      response = APIResponder.response(error)
      if error.closesConnection { closeSoon(context.channel) }
    } catch is CancellationError {
      response = APIResponder.response(APIError(.init(code: 499), "the client closed the connection"))
    } catch is SlowBody {
      response = APIResponder.response(APIError(.requestTimeout, "the body did not come in time"))
      closeSoon(context.channel)
    } catch let error as any DiagnosedError {
      response = APIResponder.response(APIError(.internalServerError, error.description))
    }
    if request.method == .head { response = response.createHeadResponse() }
    // A body that is not valid HTTP is answered by the server itself: HTTPParserError passes through.
    for field in access.corsHeaders(request) { response.headers[field.name] = field.value }
    let known =
      action(path) == nil ? "other" : path.bytes.hasPrefix("/v1/models/") ? "/v1/models/{model}" : path
    metrics.count(path: known, status: response.status.code)
    context.logger.info(
      "\(request.method) \(known) \(response.status.code) \(Int((ContinuousClock.now - start).seconds * 1000)) ms"
    )
    return response
  }

  private static func path(_ request: Request) -> String {
    (request.head.path ?? "/").bytes.prefix(before: "?", "#")
  }

  private func action(_ path: String) -> Action? {
    switch path {
    case "/health": .health
    case "/metrics": .metrics
    case "/v1/models": .models
    case "/v1/chat/completions": .chat
    case "/v1/completions": .completion
    case _ where WebPage.paths.contains(path): .page
    case _ where path.bytes.hasPrefix("/v1/models/"):
      .model(path.bytes.dropping(prefix: "/v1/models/")?.removingPercentEncoding ?? path)
    default: nil
    }
  }

  private func perform(_ request: Request, path: String, context: ConnectionContext) async throws -> Response
  {
    guard let action = action(path) else {
      throw APIError(.notFound, "there is no \(path.bytes.prefix(scalars: 200))", code: "unknown_url")
    }
    let isPost =
      switch action {
      case .chat, .completion: true
      default: false
      }
    if request.method == .options, access.allowsOtherOrigins { return preflight(request, isPost: isPost) }
    guard isPost ? request.method == .post : request.method == .get || request.method == .head else {
      let allow = isPost ? "POST" : "GET, HEAD"
      throw APIError(.methodNotAllowed, "\(path) takes \(allow)", code: "method_not_allowed", allow: allow)
    }
    switch action {
    case .page: return WebPage.response(path: path) ?? Response(status: .notFound)
    case .health: return health()
    default: break
    }
    let client = try access.authenticate(
      request, address: context.channel.remoteAddress?.ipAddress ?? "local")
    switch action {
    case .metrics:
      return APIResponder.response(
        metrics.text(models: models.all), type: "text/plain; version=0.0.4; charset=utf-8")
    case .models:
      return APIResponder.response([
        "object": "list", "data": .array(models.all.map(\.json)),
      ])
    case .model(let name):
      guard let model = models.all.first(where: { $0.name.hasSameBytes(as: name) }) else {
        throw ServedModels.notFound(name.bytes.prefix(scalars: 200), known: models.all.map(\.name))
      }
      return APIResponder.response(model.json)
    default: break
    }
    try access.countRequest(client: client)
    let fields = try RequestFields(body: try await body(request))
    let answerRequest: AnswerRequest =
      if case .chat = action {
        try AnswerRequest(chat: fields, models: models)
      } else {
        try AnswerRequest(completion: fields, models: models)
      }
    return try await answer(answerRequest, client: client, channel: context.channel)
  }

  private func preflight(_ request: Request, isPost: Bool) -> Response {
    Response(
      status: .noContent,
      headers: [
        .accessControlAllowMethods: isPost ? "POST" : "GET",
        .accessControlAllowHeaders: "authorization, content-type", .accessControlMaxAge: "600",
      ])
  }

  private func health() -> Response {
    let isDraining = models.all.contains(where: \.engine.isDraining)
    return APIResponder.response(
      ["status": isDraining ? "shutting down" : "ok"], status: isDraining ? .serviceUnavailable : .ok)
  }

  // MARK: Bodies

  private func body(_ request: Request) async throws -> [UInt8] {
    // A page of another site can send forms and plain text here without asking; JSON it cannot.
    let type = request.headers[.contentType]?.bytes.prefix(before: ";").lowercased().bytes.trimmed
    guard type == "application/json" else {
      throw APIError(
        .unsupportedMediaType, "expected Content-Type: application/json", code: "unsupported_media_type",
        closesConnection: true)
    }
    let tooLarge = APIError(
      .contentTooLarge, "the body is larger than \(limits.bodyBytes) bytes", code: "body_too_large",
      closesConnection: true)
    if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > limits.bodyBytes {
      throw tooLarge
    }
    var bytes: [UInt8] = []
    for try await part in request.body {
      guard bytes.count + part.readableBytes <= limits.bodyBytes else { throw tooLarge }
      bytes += part.readableBytesView
    }
    return bytes
  }

  /// Reads on for a while, so that the response is not lost with unread data, but not for long.
  private func closeSoon(_ channel: any Channel) {
    _ = channel.eventLoop.scheduleTask(in: .seconds(2)) { channel.close(promise: nil) }
  }

  static func response(_ json: JSONValue, status: HTTPResponse.Status = .ok) -> Response {
    response(json.serialized(), type: "application/json", status: status)
  }

  static func response(_ text: String, type: String, status: HTTPResponse.Status = .ok) -> Response {
    Response(
      status: status, headers: [.contentType: type, .xContentTypeOptions: "nosniff"],
      body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
  }

  static func response(_ error: APIError) -> Response {
    var response = response(error.json, status: error.status)
    if let seconds = error.retryAfter { response.headers[.retryAfter] = String(seconds) }
    if let allow = error.allow { response.headers[.allow] = allow }
    if error.status == .unauthorized { response.headers[.wwwAuthenticate] = "Bearer" }
    if error.closesConnection { response.headers[.connection] = "close" }
    return response
  }

  // MARK: Answers

  private func answer(_ request: AnswerRequest, client: String, channel: any Channel) async throws -> Response
  {
    let ticket: GenerationTicket
    do {
      ticket = try request.model.engine.submit(
        request.generationRequests(
          client: client, timeLimit: limits.requestTime, tokenLimit: limits.newTokens))
    } catch { throw APIError(error) }
    connections.cancel(ticket, whenClosed: channel)
    let registration = Registration { [connections] in
      ticket.cancel()
      connections.release(ticket, of: channel)
    }
    if request.options.streams {
      return EventStream(request: request, ticket: ticket, registration: registration).response
    }
    defer { registration.end() }
    var writer = AnswerWriter(request)
    while let entries = await ticket.next() {
      for entry in entries { _ = try writer.add(entry) }
    }
    if ticket.isCancelled { throw CancellationError() }
    return APIResponder.response(writer.response)
  }
}

/// Something to end when a response is over, or is never written at all.
final class Registration: Sendable {
  private let action: @Sendable () -> Void
  init(_ action: @escaping @Sendable () -> Void) { self.action = action }
  /// May happen more than once.
  func end() { action() }
  deinit { action() }
}
