import Foundation
import Hummingbird

/// `GET /v1/models`: what is served.
struct ModelListRoute: APIRoute {
  let models: ServedModels
  let name = "/v1/models"

  func respond(to request: Request, context: APIContext) -> Response {
    Response(["object": "list", "data": .array(models.all.map { $0.json })])
  }
}

/// `GET /v1/models/{model}`: one model. Its name may have slashes.
struct ModelRoute: APIRoute {
  let models: ServedModels
  let name = "/v1/models/{model}"
  let path: RouterPath = "/v1/models/**"

  func respond(to request: Request, context: APIContext) throws -> Response {
    let written = context.parameters.getCatchAll().joined(separator: "/")
    let name = written.removingPercentEncoding ?? written
    guard let model = models.all.first(where: { $0.name == name }) else {
      throw ServedModels.notFound(String(name.unicodeScalars.prefix(200)), known: models.all.map { $0.name })
    }
    return Response(model.json)
  }
}
