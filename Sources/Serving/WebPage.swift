import Hummingbird
import HummingbirdCore

/// The chat page and its parts, compiled into the program.
package enum WebPage {
  /// Nothing from elsewhere, no code or styles but these files: what a model writes can never become a program.
  private static let policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

  package static let files: [String: (type: String, bytes: [UInt8])] = [
    "/": ("text/html; charset=utf-8", PackageResources.index_html),
    "/style.css": ("text/css; charset=utf-8", PackageResources.style_css),
    "/markdown.js": ("text/javascript; charset=utf-8", PackageResources.markdown_js),
    "/script.js": ("text/javascript; charset=utf-8", PackageResources.script_js),
  ]

  static var paths: [String] { Array(files.keys) }

  static func response(path: String) -> Response? {
    guard let file = files[path] else { return nil }
    return Response(
      status: .ok,
      headers: [
        .contentType: file.type, .contentSecurityPolicy: policy, .xContentTypeOptions: "nosniff",
        .cacheControl: "no-cache", .init("Referrer-Policy")!: "no-referrer",
      ], body: ResponseBody(byteBuffer: ByteBuffer(bytes: file.bytes)))
  }
}
