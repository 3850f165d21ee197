import Hummingbird
import NIOCore

/// Turns whatever a route or a middleware throws into the error body of the API that the route belongs to.
struct ErrorRendering: RouterMiddleware {
  let routes: [any APIRoute]

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    do {
      return try await next(request, context)
    } catch let error as BrokenConnection {
      throw error.cause
    } catch {
      var described = APIError(describing: error)
      if described.dialect == nil {
        described.dialect = routes.first { $0.matches(request.uri.path) }?.errorDialect
      }
      if described.closesConnection { ErrorRendering.closeSoon(context.channel) }
      return Response(described)
    }
  }

  /// Reads on for a while, so that the response is not lost with unread data, but not for long.
  private static func closeSoon(_ channel: any Channel) {
    _ = channel.eventLoop.scheduleTask(in: .seconds(2)) { channel.close(promise: nil) }
  }
}
