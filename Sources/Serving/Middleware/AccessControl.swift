import Crypto
import Files
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore

/// Who may ask: keys, the pages a browser may ask from, how often.
package struct AccessControl: Sendable {
  /// SHA-256 of the accepted keys; none: everybody may ask.
  private let keyDigests: [SHA256.Digest]
  /// Origins that browsers may ask from besides the server's own page; `*`: any.
  private let corsOrigins: Set<ByteText>
  /// Names this server goes by; nil: any.
  private let hosts: Set<ByteText>?
  private let rateLimiter: RateLimiter?
  /// Whether a proxy's `X-Forwarded-For` says who the client is.
  private let trustsForwarding: Bool

  /// - Parameter hosts: names accepted in `Host`. A server without keys on a loopback address should name them: otherwise
  ///   a web page can reach it by letting its own name point to 127.0.0.1.
  package init(
    keys: [String] = [], corsOrigins: [String] = [], hosts: [String]? = nil, requestsPerMinute: Int? = nil,
    trustsForwarding: Bool = false
  ) {
    keyDigests = keys.map { SHA256.hash(data: Data($0.utf8)) }
    self.corsOrigins = Set(corsOrigins.map(\.bytes))
    self.hosts = hosts.map { Set($0.map { $0.lowercased().bytes }) }
    rateLimiter = requestsPerMinute.map { RateLimiter(perMinute: $0) }
    self.trustsForwarding = trustsForwarding
  }

  /// Checks where a request says it goes to and comes from.
  func checkOrigin(_ request: Request) throws {
    let authority = request.head.authority?.lowercased() ?? ""
    if let hosts, !hosts.contains(AccessControl.hostName(authority)) {
      throw APIError(
        .forbidden, "the host name \"\(authority)\" is not one of this server's; see --allowed-host",
        code: "unknown_host")
    }
    guard let origin = request.headers[.origin], !isAllowed(origin) else { return }
    guard let own = URL(string: origin), let host = own.host else {
      throw APIError(
        .forbidden, "the origin \"\(origin)\" is not allowed; see --cors", code: "unknown_origin")
    }
    let name =
      (host.bytes.contains(":") && !host.bytes.hasPrefix("[") ? "[\(host)]" : host)
      + (own.port.map { ":\($0)" } ?? "")
    guard name.lowercased().hasSameBytes(as: authority) else {
      throw APIError(
        .forbidden, "the origin \"\(origin)\" is not allowed; see --cors", code: "unknown_origin")
    }
  }

  /// Checks the key.
  /// - Returns: what to call the client in the queue and the rate limit.
  func authenticate(_ request: Request, address: String) throws -> String {
    let client = clientAddress(request, address: address)
    guard !keyDigests.isEmpty else { return client }
    let header = request.headers[.authorization] ?? ""
    let key = header.bytes.dropping(prefix: "Bearer ")
    let digest = SHA256.hash(data: Data((key ?? header).utf8))
    // Every key is compared, and digests compare in constant time: how long it takes tells nothing.
    var found: Int?
    for (index, known) in keyDigests.enumerated() where known == digest { found = index }
    guard let found, key != nil else {
      throw APIError(
        .unauthorized, "a valid API key is needed: Authorization: Bearer KEY", code: "invalid_api_key")
    }
    return "\(found) \(client)"
  }

  /// Counts a request.
  func countRequest(client: String) throws {
    if let seconds = rateLimiter?.take(client: client) {
      throw APIError(
        .tooManyRequests, "too many requests; try again in \(seconds) seconds", code: "rate_limit_exceeded",
        retryAfter: seconds)
    }
  }

  /// What a browser must be told to let a page of another origin read the response.
  func corsHeaders(_ request: Request) -> HTTPFields {
    guard let origin = request.headers[.origin], isAllowed(origin) else { return [:] }
    return [.accessControlAllowOrigin: origin, .vary: "Origin"]
  }

  var allowsOtherOrigins: Bool { !corsOrigins.isEmpty }

  private func isAllowed(_ origin: String) -> Bool {
    corsOrigins.contains("*") || corsOrigins.contains(origin)
  }

  private func clientAddress(_ request: Request, address: String) -> String {
    guard trustsForwarding, let name = HTTPField.Name("X-Forwarded-For"),
      let last = request.headers[name]?.bytes.split(separator: ",").last(where: { !$0.isEmpty })
    else { return address }
    return last.bytes.trimmed.bytes.prefix(scalars: 64)
  }

  /// `Host` without its port.
  private static func hostName(_ authority: String) -> String {
    if authority.bytes.hasPrefix("["), let end = authority.bytes.range(of: "]") {
      return String(authority[..<end.upperBound])
    }
    return authority.bytes.prefix(before: ":")
  }
}
