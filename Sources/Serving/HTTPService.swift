import Foundation
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import ServiceLifecycle

/// The server: models, access, limits, an address.
package struct HTTPService: Sendable {
  private let models: ServedModels
  private let access: AccessControl
  private let limits: ServerLimits
  private let host: String
  private let port: Int
  private let logger: Logger
  /// How long requests may go on after the server was told to stop, and until it has stopped in any case.
  private static let grace = (requests: Duration.seconds(6), all: Duration.seconds(9))

  package init(
    models: ServedModels, access: AccessControl, limits: ServerLimits, host: String, port: Int, logger: Logger
  ) {
    self.models = models
    self.access = access
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
    var quiet = logger
    quiet.logLevel = max(logger.logLevel, .warning)
    var group = ServiceGroupConfiguration(services: [application(started: started)], logger: quiet)
    group.maximumGracefulShutdownDuration = HTTPService.grace.all
    let services = ServiceGroup(configuration: group)
    let stopping = Task {
      for await _ in stop {
        for model in models.all { model.drain(until: .now + HTTPService.grace.requests) }
        await services.triggerGracefulShutdown()
      }
    }
    defer { stopping.cancel() }
    try await services.run()
  }

  /// What ``run(stop:started:)`` runs. Tests run it themselves.
  package func application(started: @escaping @Sendable (Int) -> Void = { _ in }) -> some ApplicationProtocol
  {
    var http = HTTP1Channel.Configuration(
      additionalChannelHandlers: [
        ConnectionGuard(headerTime: .init(limits.headerTime), bodyTime: .init(limits.bodyTime))
      ], idleTimeout: .init(limits.idleTime))
    http.httpDecoder = .init(
      maxHeaderFieldSize: limits.headerBytes, maxHeaderListSize: limits.headerBytes,
      maxHeaderFieldCount: limits.headerFields)
    let port = port
    return Application(
      responder: APIRouter(models: models, access: access, limits: limits).responder(),
      server: .http1(configuration: http),
      configuration: ApplicationConfiguration(
        address: .hostname(host, port: port), serverName: "zhinao-serve", backlog: 512,
        availableConnectionsDelegate: MaximumAvailableConnections(limits.connections)),
      onServerRunning: { channel in started(channel.localAddress?.port ?? port) }, logger: logger)
  }
}
