import HTTPTypes
import Hummingbird
import JSON
import NIOCore

extension Response {
  init(_ json: JSONValue, status: HTTPResponse.Status = .ok) {
    self.init(text: json.serialized(), type: "application/json", status: status)
  }

  init(text: String, type: String, status: HTTPResponse.Status = .ok) {
    self.init(
      status: status, headers: [.contentType: type, .xContentTypeOptions: "nosniff"],
      body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
  }

  init(_ error: APIError) {
    let dialect = error.dialect ?? .openAI
    self.init(dialect.body(of: error), status: dialect.status(of: error))
    if let seconds = error.retryAfter { headers[.retryAfter] = String(seconds) }
    if let allow = error.allow { headers[.allow] = allow }
    if error.status == .unauthorized { headers[.wwwAuthenticate] = "Bearer" }
    if error.closesConnection { headers[.connection] = "close" }
  }
}
