import HTTPTypes
import Hummingbird
import JSON

/// `POST /v2/embed`: vectors of texts in several types at once, in the form of Cohere's API.
struct CohereEmbedRoute: APIRoute {
  /// How a vector is written.
  private enum Form: String, CaseIterable {
    case float, base64
    /// The signs of eight components in a byte, the first one highest, as numbers from 0 to 255.
    case ubinary
    /// The same less 128.
    case binary

    static let names = allCases.map(\.rawValue).joined(separator: ", ")
    var isBinary: Bool { self == .ubinary || self == .binary }

    func json(_ vector: [Float]) -> JSONValue {
      switch self {
      case .float: RetrievalFormat.floats(vector)
      case .base64: RetrievalFormat.base64(vector)
      case .ubinary: .array(RetrievalFormat.signs(vector).map { .init(Int($0)) })
      case .binary: .array(RetrievalFormat.signs(vector).map { .init(Int($0) - 128) })
      }
    }
  }

  let models: ServedModels
  let computing: Computing
  let name = "/v2/embed"
  let method = HTTPRequest.Method.post
  let admission = Admission.keyAndBody
  let errorDialect = ErrorDialect.cohere

  func respond(to request: Request, context: APIContext) async throws -> Response {
    let fields = try await JSONFields(bodyOf: request)
    let embedding = try EmbeddingRequest(
      fields, key: "texts", sizeKey: "output_dimension", known: .cohere, normalizes: nil, models: models,
      limits: computing.limits)
    let forms = try CohereEmbedRoute.forms(
      fields, components: embedding.size ?? embedding.model.backend.dimensions)
    let vectors = try await computing.vectors(
      embedding.texts, of: embedding.model, normalizes: embedding.normalizes, size: embedding.size,
      context: context)
    let written = forms.map { form in (form.rawValue, JSONValue.array(vectors.map(form.json))) }
    return Response(
      RetrievalFormat.adding(
        embedding.warnings,
        to: JSONObject([
          ("id", RetrievalFormat.id("embd-")), ("embeddings", .object(JSONObject(written))),
          ("texts", fields["texts"] ?? []),
          (
            "meta",
            [
              "api_version": ["version": "2"],
              "billed_units": ["input_tokens": .init(embedding.texts.reduce(0) { $0 + $1.ids.count })],
            ]
          ), ("response_type", "embeddings_by_type"),
        ])))
  }

  private static func forms(_ fields: JSONFields, components: Int) throws -> [Form] {
    let names = try fields.strings("embedding_types", most: 8)
    guard !names.isEmpty else { return [.float] }
    return try names.map { name in
      guard let form = Form(rawValue: name) else {
        throw fields.unexpected("embedding_types", expected: "an array of \(Form.names)")
      }
      guard !form.isBinary || components % 8 == 0 else {
        throw fields.refusal(
          "embedding_types", "asks for bits of \(components) components, which fill no bytes")
      }
      return form
    }
  }
}
