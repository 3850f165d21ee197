import HTTPTypes
import Hummingbird

/// Refuses requests that were sent to another host name, or by a page of an origin that may not ask.
struct OriginCheck: RouterMiddleware {
  let access: AccessControl

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    try access.checkOrigin(request)
    return try await next(request, context)
  }
}

/// Tells a browser that a page of another origin may read the response, errors included.
struct CrossOriginHeaders: RouterMiddleware {
  let access: AccessControl

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    var response = try await next(request, context)
    for field in access.corsHeaders(request) { response.headers[field.name] = field.value }
    return response
  }
}

/// Answers a browser that asks beforehand whether a page may send a request.
struct Preflight: RouterMiddleware {
  let routes: [any APIRoute]
  let access: AccessControl

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    guard request.method == .options, access.allowsOtherOrigins,
      let route = routes.first(where: { $0.matches(request.uri.path) })
    else { return try await next(request, context) }
    return Response(
      status: .noContent,
      headers: [
        .accessControlAllowMethods: route.method.rawValue,
        .accessControlAllowHeaders: "authorization, content-type", .accessControlMaxAge: "600",
      ])
  }
}
