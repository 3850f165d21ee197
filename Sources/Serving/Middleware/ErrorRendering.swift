import Hummingbird
import NIOCore

/// Turns whatever a route or a middleware throws into the error body of OpenAI's API.
struct ErrorRendering: RouterMiddleware {
  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    do {
      return try await next(request, context)
    } catch let error as BrokenConnection {
      throw error.cause
    } catch {
      let described = APIError(describing: error)
      if described.closesConnection { ErrorRendering.closeSoon(context.channel) }
      return Response(described)
    }
  }

  /// Reads on for a while, so that the response is not lost with unread data, but not for long.
  private static func closeSoon(_ channel: any Channel) {
    _ = channel.eventLoop.scheduleTask(in: .seconds(2)) { channel.close(promise: nil) }
  }
}
