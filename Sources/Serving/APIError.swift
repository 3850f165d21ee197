import HTTPTypes
import JSON

/// An error for a client, in the words of OpenAI's API or of another one (``ErrorDialect``).
package struct APIError: Error, Equatable {
  package var status: HTTPResponse.Status
  package var message: String
  /// The field of the request that is wrong, for example `messages[0].role`.
  package var parameter: String?
  package var code: String?
  /// Seconds, for the header `Retry-After`.
  var retryAfter: Int?
  /// Also the methods of a 405.
  var allow: String?
  /// The connection is not worth keeping.
  var closesConnection = false
  /// Nil: that of the route.
  var dialect: ErrorDialect?

  init(
    _ status: HTTPResponse.Status, _ message: String, parameter: String? = nil, code: String? = nil,
    retryAfter: Int? = nil, allow: String? = nil, closesConnection: Bool = false
  ) {
    self.status = status
    self.message = message
    self.parameter = parameter
    self.code = code
    self.retryAfter = retryAfter
    self.allow = allow
    self.closesConnection = closesConnection
  }

  /// OpenAI's kind of error.
  var type: String {
    switch status.code {
    case 401: "authentication_error"
    case 403: "permission_error"
    case 429: "rate_limit_error"
    case 400..<500: "invalid_request_error"
    default: "server_error"
    }
  }

  /// The body in OpenAI's words.
  var json: JSONValue {
    [
      "error": [
        "message": .string(message), "type": .string(type),
        "param": parameter.map(JSONValue.string) ?? .null, "code": code.map(JSONValue.string) ?? .null,
      ]
    ]
  }
}
