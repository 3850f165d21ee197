import HTTPTypes
import Hummingbird

/// One path of the API.
protocol APIRoute: Sendable {
  /// As in documentation and metrics, for example `/v1/models/{model}`.
  var name: String { get }
  /// What the router matches.
  var path: RouterPath { get }
  /// GET routes answer HEAD, too.
  var method: HTTPRequest.Method { get }
  var admission: Admission { get }
  /// In whose words the route's clients expect errors.
  var errorDialect: ErrorDialect { get }

  func respond(to request: Request, context: APIContext) async throws -> Response
}

/// What a request needs before a route sees it.
enum Admission: Sendable {
  case open
  /// A key, where the server has keys.
  case key
  /// A key, a place within the rate limit, and a JSON body within the size limit.
  case keyAndBody
}

extension APIRoute {
  var path: RouterPath { RouterPath(name) }
  var method: HTTPRequest.Method { .get }
  var admission: Admission { .key }
  var errorDialect: ErrorDialect { .openAI }

  var methods: [HTTPRequest.Method] { method == .get ? [.get, .head] : [method] }

  /// Whether the route's path is `path`, without empty parts: the router itself does not mind `//` or a slash at the end.
  func matches(_ path: String) -> Bool {
    var parts = path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)[...]
    guard parts.popFirst()?.isEmpty == true else { return false }
    if parts.count == 1 && parts.first?.isEmpty == true { return self.path.isEmpty }
    guard parts.allSatisfy({ !$0.isEmpty }) else { return false }
    for element in self.path {
      if element == .recursiveWildcard { return !parts.isEmpty }
      guard let part = parts.popFirst(), element ~= Substring(part) else { return false }
    }
    return parts.isEmpty
  }
}
