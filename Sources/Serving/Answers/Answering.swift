import Hummingbird
import NIOCore

/// Hands requests for answers to their engines and waits for what comes.
struct Answering: Sendable {
  let limits: ServerLimits
  private let connections = ConnectionRegistry()

  init(limits: ServerLimits) { self.limits = limits }

  func respond(to request: AnswerRequest, context: APIContext) async throws -> Response {
    let ticket = try request.model.engine.submit(
      request.generationRequests(
        client: context.client, timeLimit: limits.requestTime, tokenLimit: limits.newTokens))
    let channel = context.channel
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
      for entry in entries { try writer.add(entry) }
    }
    if ticket.isCancelled { throw CancellationError() }
    return Response(writer.response)
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
