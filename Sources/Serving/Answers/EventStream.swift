import Generation
import Hummingbird
import HummingbirdCore
import JSON
import NIOCore

/// An answer as server-sent events: one `data:` line of JSON a chunk, `[DONE]` at the end.
struct EventStream: Sendable {
  let request: AnswerRequest
  let ticket: GenerationTicket
  let registration: Registration
  /// A comment is sent when nothing else was for this long, so that proxies keep the connection.
  private static let heartbeat = Duration.seconds(10)

  var response: Response {
    Response(
      status: .ok,
      headers: [
        .contentType: "text/event-stream; charset=utf-8", .cacheControl: "no-store",
        .xContentTypeOptions: "nosniff",
        // nginx would collect events before it passes them on.
        .init("X-Accel-Buffering")!: "no",
      ],
      body: ResponseBody { writer in
        defer { registration.end() }
        let heart = Task {
          while true {
            try await Task.sleep(for: EventStream.heartbeat)
            ticket.nudge()
          }
        }
        defer { heart.cancel() }
        try await write(to: &writer)
        try await writer.finish(nil)
      })
  }

  private func write(to writer: inout any ResponseBodyWriter) async throws {
    var answer = AnswerWriter(request)
    try await writer.write(EventStream.events(answer.opening()))
    while let entries = await ticket.next() {
      do {
        // Everything that is there goes out in one piece.
        var chunks: [JSONValue] = []
        for entry in entries { chunks += try answer.chunks(entry) }
        if !chunks.isEmpty {
          try await writer.write(EventStream.events(chunks))
        } else if entries.isEmpty {
          try await writer.write(ByteBuffer(string: ": still here\n\n"))
        }
      } catch let error as GenerationError {
        try await writer.write(EventStream.events([APIError(describing: error).json]))
        return
      }
    }
    guard !ticket.isCancelled else { return }
    if request.options.includesUsage { try await writer.write(EventStream.events([answer.usageChunk])) }
    try await writer.write(ByteBuffer(string: "data: [DONE]\n\n"))
  }

  private static func events(_ chunks: [JSONValue]) -> ByteBuffer {
    ByteBuffer(string: chunks.map { "data: \($0.serialized())\n\n" }.joined())
  }
}
