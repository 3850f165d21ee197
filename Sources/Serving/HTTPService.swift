import Foundation
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import ServiceLifecycle

/// What bounds a request.
package struct ServerLimits: Sendable {
  /// Bytes of a body.
  package var bodyBytes = 4 << 20
  /// Bytes of all header fields, and of one.
  package var headerBytes = 32 << 10
  package var headerFields = 100
  /// Until a new connection has sent a request's head.
  package var headerTime = Duration.seconds(15)
  /// Until a body is complete.
  package var bodyTime = Duration.seconds(30)
  /// Until an idle connection is closed.
  package var idleTime = Duration.seconds(75)
  /// Until an answer ends, waiting included.
  package var requestTime = Duration.seconds(600)
  /// Tokens of an answer.
  package var newTokens = Int.max
  package var connections = 1024

  package init() {}
}

/// The server: models, access, limits, an address.
package struct HTTPService: Sendable {
  private let responder: APIResponder
  private let limits: ServerLimits
  private let host: String
  private let port: Int
  private let logger: Logger
  /// How long requests may go on after the server was told to stop, and until it has stopped in any case.
  private static let grace = (requests: Duration.seconds(6), all: Duration.seconds(9))

  package init(
    models: ServedModels, access: AccessControl, limits: ServerLimits, host: String, port: Int, logger: Logger
  ) {
    responder = APIResponder(models: models, access: access, limits: limits)
    self.limits = limits
    self.host = host
    self.port = port
    self.logger = logger
  }

  /// Serves until `stop` says to; requests under way then have some seconds to finish.
  /// - Parameters:
  ///   - started: called with the port when connections are accepted.
  ///   - stop: yields once for each demand to stop.
  /// - Throws: when the address cannot be used.
  package func run(stop: AsyncStream<Void>, started: @escaping @Sendable (Int) -> Void) async throws {
    let limits = limits
    var configuration = HTTP1Channel.Configuration(
      additionalChannelHandlers: [
        ConnectionGuard(
          headerTime: .init(limits.headerTime), bodyTime: .init(limits.bodyTime))
      ], idleTimeout: .init(limits.idleTime))
    configuration.httpDecoder = .init(
      maxHeaderFieldSize: limits.headerBytes, maxHeaderListSize: limits.headerBytes,
      maxHeaderFieldCount: limits.headerFields)
    var quiet = logger
    quiet.logLevel = max(logger.logLevel, .warning)
    let application = Application(
      responder: responder, server: .http1(configuration: configuration),
      configuration: ApplicationConfiguration(
        address: .hostname(host, port: port), serverName: "zhinao-serve", backlog: 512,
        availableConnectionsDelegate: MaximumAvailableConnections(limits.connections)),
      onServerRunning: { channel in started(channel.localAddress?.port ?? port) }, logger: logger)
    var group = ServiceGroupConfiguration(services: [application], logger: quiet)
    group.maximumGracefulShutdownDuration = HTTPService.grace.all
    let services = ServiceGroup(configuration: group)
    let stopping = Task {
      for await _ in stop {
        for model in responder.models.all { model.engine.drain(until: .now + HTTPService.grace.requests) }
        await services.triggerGracefulShutdown()
      }
    }
    defer { stopping.cancel() }
    try await services.run()
  }
}
