import Hummingbird

/// `GET /health`: whether the server takes requests. Needs no key.
struct HealthRoute: APIRoute {
  let models: ServedModels
  let name = "/health"
  let admission = Admission.open

  func respond(to request: Request, context: APIContext) -> Response {
    let isDraining = models.all.contains { $0.isDraining }
    return Response(
      ["status": isDraining ? "shutting down" : "ok"], status: isDraining ? .serviceUnavailable : .ok)
  }
}
