import HTTPTypes
import Hummingbird

/// Answers what no route does: 404, or 405 with the methods that the path has.
struct KnownRoutes: RouterMiddleware {
  let routes: [any APIRoute]

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    let path = request.uri.path
    guard let route = routes.first(where: { $0.matches(path) }) else {
      let shown = String(path.unicodeScalars.prefix(200))
      throw APIError(.notFound, "there is no \(shown)", code: "unknown_url")
    }
    guard route.methods.contains(request.method) else {
      let allowed = route.methods.map(\.rawValue).joined(separator: ", ")
      throw APIError(
        .methodNotAllowed, "\(route.name) takes \(allowed)", code: "method_not_allowed", allow: allowed)
    }
    return try await next(request, context)
  }
}
