import Hummingbird

/// Puts the API together: which routes there are, and what every request passes on its way to one.
struct APIRouter {
  let models: ServedModels
  let access: AccessControl
  let limits: ServerLimits

  func responder() -> RouterResponder<APIContext> {
    let metrics = Metrics()
    let answers = Answering(limits: limits)
    let routes: [any APIRoute] =
      PageRoute.all + [
        HealthRoute(models: models), MetricsRoute(models: models, metrics: metrics),
        ModelListRoute(models: models), ModelRoute(models: models),
        ChatCompletionsRoute(models: models, answering: answers),
        CompletionsRoute(models: models, answering: answers),
      ]
    let router = Router(context: APIContext.self)
    // From the outside in.
    router.add(middleware: RequestLog(routes: routes, metrics: metrics))
    router.add(middleware: HeadResponses())
    router.add(middleware: CrossOriginHeaders(access: access))
    router.add(middleware: ErrorRendering())
    router.add(middleware: OriginCheck(access: access))
    router.add(middleware: Preflight(routes: routes, access: access))
    router.add(middleware: KnownRoutes(routes: routes))
    let keyed = router.group().add(middleware: Authentication(access: access))
    let limited = keyed.group().add(middleware: RateLimit(access: access))
      .add(middleware: BodyLimit(byteCount: limits.bodyBytes))
    for route in routes {
      switch route.admission {
      case .open: APIRouter.add(route, to: router)
      case .key: APIRouter.add(route, to: keyed)
      case .keyAndBody: APIRouter.add(route, to: limited)
      }
    }
    return router.buildResponder()
  }

  private static func add(_ route: any APIRoute, to router: some RouterMethods<APIContext>) {
    for method in route.methods {
      router.on(route.path, method: method) { request, context in
        try await route.respond(to: request, context: context)
      }
    }
  }
}
