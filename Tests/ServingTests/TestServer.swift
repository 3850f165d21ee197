import Generation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import JSON
import Logging
import Models
import NIOCore
import Serving
import TestSupport
import Testing

/// The tiny model behind an engine, shared by the tests of this target.
enum TestModel {
  static let shared: Result<ServedModel, any Error> = Result { try make(name: "tiny") }

  static func make(name: String) throws -> ServedModel {
    try ServedModel.start(
      try OpenedModel(path: Fixture.tinyZhinao), name: name,
      resources: ServedModel.Resources(
        memoryLimit: 1 << 30, context: nil, parallel: 4, queue: 8, arithmetic: .exact, cacheType: .f16),
      otherBytes: 0
    ).model
  }

  /// A model whose answers and speed the test decides.
  static func standIn(_ model: StandInModel, queue: Int = 8, chats: Bool = true) -> ServedModel {
    let engine = GenerationEngine(
      model: model, tokenizer: ByteTokenizer(),
      limits: SchedulerLimits(parallel: 1, queue: queue, contextLimit: 200, budgetTokens: 200))
    return ServedModel(
      name: "stand-in", engine: engine, tokenizer: ByteTokenizer(),
      template: chats ? .chatML(defaultSystem: "S") : nil, stopTokens: [257], defaults: SamplingDefaults())
  }
}

/// A server on a free port of this machine.
struct TestServer {
  var models: [any ServedEntry]
  var access = AccessControl()
  var limits = ServerLimits()
  var namesAreExact = false

  /// The tiny model.
  init() throws { models = [try TestModel.shared.get()] }
  init(_ models: any ServedEntry...) { self.models = models }

  /// - Parameter body: gets a client with one connection.
  func run(_ body: @Sendable @escaping (TestClientOfAPI) async throws -> Void) async throws {
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let service = HTTPService(
      models: ServedModels(models, namesAreExact: namesAreExact), access: access, limits: limits,
      host: "localhost", port: 0, logger: logger)
    try await service.application().test(.live) { client in try await body(TestClientOfAPI(client: client)) }
  }
}

struct TestClientOfAPI: Sendable {
  let client: any TestClientProtocol

  func get(_ path: String, headers: HTTPFields = [:]) async throws -> TestResponse {
    try await send(.get, path, headers: headers)
  }

  func post(_ path: String, _ body: String, headers: HTTPFields = [:]) async throws -> TestResponse {
    var all: HTTPFields = [.contentType: "application/json"]
    for field in headers { all[field.name] = field.value }
    return try await send(.post, path, headers: all, body: body)
  }

  func send(
    _ method: HTTPRequest.Method, _ path: String, headers: HTTPFields = [:], body: String? = nil
  ) async throws -> TestResponse {
    try await client.execute(
      uri: path, method: method, headers: headers, body: body.map { ByteBuffer(string: $0) })
  }
}

extension TestResponse {
  var text: String { String(buffer: body) }

  func json() throws -> JSONValue { try JSONValue.parse(text) }

  /// The members of an OpenAI error body; checks that it has all four.
  func error() throws -> (message: String, type: String, parameter: String?, code: String?) {
    #expect(headers[.contentType] == "application/json")
    let object = try #require(try json()["error"]?.objectValue)
    #expect(object.keys == ["message", "type", "param", "code"])
    return (
      try #require(object["message"]?.stringValue), try #require(object["type"]?.stringValue),
      object["param"]?.stringValue, object["code"]?.stringValue
    )
  }

  /// Checks status, code and field of an error.
  func isError(
    _ status: Int, code: String?, parameter: String? = nil, _ comment: Comment? = nil,
    location: SourceLocation = #_sourceLocation
  ) throws {
    let error = try error()
    #expect(self.status.code == status, comment, sourceLocation: location)
    #expect(error.code == code, comment, sourceLocation: location)
    #expect(error.parameter == parameter, comment, sourceLocation: location)
    #expect(!error.message.isEmpty, comment, sourceLocation: location)
  }

  /// The JSON of each event of a stream; checks that `[DONE]` is the last.
  func events() throws -> [JSONValue] {
    let lines = text.split(separator: "\n\n").filter { !$0.hasPrefix(":") }
    #expect(lines.allSatisfy { $0.hasPrefix("data: ") } && lines.last == "data: [DONE]")
    return try lines.dropLast().map { try JSONValue.parse(String($0.dropFirst("data: ".count))) }
  }
}
