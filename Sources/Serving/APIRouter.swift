import Hummingbird

/// Puts the API together: which routes there are, and what every request passes on its way to one.
struct APIRouter {
  let models: ServedModels
  let access: AccessControl
  let limits: ServerLimits

  func responder() -> RouterResponder<APIContext> {
    let metrics = Metrics()
    let answers = Answering(limits: limits)
    let computing = Computing(limits: limits)
    let routes: [any APIRoute] =
      PageRoute.all + [
        HealthRoute(models: models), MetricsRoute(models: models, metrics: metrics),
        ModelListRoute(models: models), ModelRoute(models: models),
        ChatCompletionsRoute(models: models, answering: answers),
        CompletionsRoute(models: models, answering: answers),
      ] + retrieval(computing)
    let router = Router(context: APIContext.self)
    // From the outside in.
    router.add(middleware: RequestLog(routes: routes, metrics: metrics))
    router.add(middleware: HeadResponses())
    router.add(middleware: CrossOriginHeaders(access: access))
    router.add(middleware: ErrorRendering(routes: routes))
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

  /// Vectors and scores, in the words of OpenAI, Cohere, Jina, vLLM and Text Embeddings Inference.
  private func retrieval(_ computing: Computing) -> [any APIRoute] {
    ["/v1/embeddings", "/embeddings"].map { EmbeddingsRoute(models: models, computing: computing, name: $0) }
      + [("/v1/rerank", true), ("/rerank", true), ("/v2/rerank", false)].map {
        RerankRoute(models: models, computing: computing, name: $0, returnsDocuments: $1)
      }
      + ["/v1/score", "/score"].map { ScoreRoute(models: models, computing: computing, name: $0) }
      + [
        CohereEmbedRoute(models: models, computing: computing),
        EmbedRoute(models: models, computing: computing), PredictRoute(models: models, computing: computing),
        SimilarityRoute(models: models, computing: computing),
        TokenizeRoute(models: models, limits: limits), DecodeRoute(models: models, limits: limits),
        InfoRoute(models: models, limits: limits),
      ]
  }

  private static func add(_ route: any APIRoute, to router: some RouterMethods<APIContext>) {
    for method in route.methods {
      router.on(route.path, method: method) { request, context in
        try await route.respond(to: request, context: context)
      }
    }
  }
}
