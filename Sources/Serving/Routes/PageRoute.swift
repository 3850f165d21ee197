import Hummingbird
import NIOCore

/// `GET /`: the chat page, and `GET` of each of its parts, compiled into the program. Needs no key.
package struct PageRoute: APIRoute {
  package let name: String
  let type: String
  package let bytes: [UInt8]
  let admission = Admission.open

  package static let all = [
    PageRoute(name: "/", type: "text/html; charset=utf-8", bytes: PackageResources.index_html),
    PageRoute(name: "/style.css", type: "text/css; charset=utf-8", bytes: PackageResources.style_css),
    PageRoute(
      name: "/markdown.js", type: "text/javascript; charset=utf-8", bytes: PackageResources.markdown_js),
    PageRoute(name: "/search.js", type: "text/javascript; charset=utf-8", bytes: PackageResources.search_js),
    PageRoute(name: "/script.js", type: "text/javascript; charset=utf-8", bytes: PackageResources.script_js),
  ]

  /// Nothing from elsewhere, no code or styles but these files: what a model writes can never become a program.
  private static let policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

  func respond(to request: Request, context: APIContext) -> Response {
    Response(
      status: .ok,
      headers: [
        .contentType: type, .contentSecurityPolicy: PageRoute.policy, .xContentTypeOptions: "nosniff",
        .cacheControl: "no-cache", .init("Referrer-Policy")!: "no-referrer",
      ], body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
  }
}
