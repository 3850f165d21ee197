import Foundation
import HTTPTypes
import Hummingbird

/// Lets only clients with a key pass, and notes what to call the client.
struct Authentication: RouterMiddleware {
  let access: AccessControl

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    var context = context
    context.client = try access.authenticate(request, address: context.client)
    return try await next(request, context)
  }
}

/// Counts requests, and refuses those of a client that has sent too many.
struct RateLimit: RouterMiddleware {
  let access: AccessControl

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    try access.countRequest(client: context.client)
    return try await next(request, context)
  }
}

/// Collects a JSON body of at most `byteCount` bytes.
struct BodyLimit: RouterMiddleware {
  let byteCount: Int

  func handle(
    _ request: Request, context: APIContext, next: (Request, APIContext) async throws -> Response
  ) async throws -> Response {
    // A page of another site can send forms and plain text here without asking; JSON it cannot.
    guard BodyLimit.mediaType(request) == "application/json" else {
      throw APIError(
        .unsupportedMediaType, "expected Content-Type: application/json", code: "unsupported_media_type",
        closesConnection: true)
    }
    if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > byteCount {
      throw tooLarge
    }
    var request = request
    request.body = RequestBody(buffer: try await collect(request.body))
    return try await next(request, context)
  }

  private func collect(_ body: RequestBody) async throws -> ByteBuffer {
    var bytes = ByteBuffer()
    do {
      for try await part in body {
        guard part.readableBytes <= byteCount - bytes.readableBytes else { throw tooLarge }
        bytes.writeImmutableBuffer(part)
      }
    } catch let error as APIError {
      throw error
    } catch let error as SlowBody {
      throw error
    } catch is CancellationError {
      throw CancellationError()
    } catch {
      throw BrokenConnection(cause: error)
    }
    return bytes
  }

  private var tooLarge: APIError {
    APIError(
      .contentTooLarge, "the body is larger than \(byteCount) bytes", code: "body_too_large",
      closesConnection: true)
  }

  /// `Content-Type` without its parameters.
  private static func mediaType(_ request: Request) -> String? {
    request.headers[.contentType].map { value in
      String(value.unicodeScalars.prefix { $0 != ";" }).trimmingCharacters(in: .whitespaces).lowercased()
    }
  }
}
