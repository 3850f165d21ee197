import Hummingbird

/// `GET /metrics`: numbers for Prometheus.
struct MetricsRoute: APIRoute {
  let models: ServedModels
  let metrics: Metrics
  let name = "/metrics"

  func respond(to request: Request, context: APIContext) -> Response {
    Response(text: metrics.text(models: models), type: "text/plain; version=0.0.4; charset=utf-8")
  }
}
