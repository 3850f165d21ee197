import Hummingbird

/// Counts every response and writes a line for it.
struct RequestLog: RouterMiddleware {
  let routes: [any APIRoute]
  let metrics: Metrics

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    let start = ContinuousClock.now
    let response = try await next(request, context)
    // Names that a client makes up would let the metrics grow without end.
    let name = routes.first { $0.matches(request.uri.path) }?.name ?? "other"
    metrics.count(path: name, status: response.status.code)
    let milliseconds = Int((ContinuousClock.now - start).seconds * 1000)
    context.logger.info("\(request.method) \(name) \(response.status.code) \(milliseconds) ms")
    return response
  }
}

/// The response to HEAD is the one to GET without its body, errors included.
struct HeadResponses: RouterMiddleware {
  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    let response = try await next(request, context)
    return request.method == .head ? response.createHeadResponse() : response
  }
}
