import HTTPTypes
import Hummingbird
import HummingbirdCore
import NIOCore
import NIOHTTPTypes

/// The body of a request did not come in time.
struct SlowBody: Error {}

/// Bounds what one connection may cost: time until a request's head, time until its body is complete. A client that closes its
/// side is gone: its connection is closed, which ends its requests.
final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart
  typealias OutboundIn = HTTPResponsePart
  typealias OutboundOut = HTTPResponsePart

  private let headerTime: TimeAmount
  private let bodyTime: TimeAmount
  private var timer: Scheduled<Void>?
  private var requests = 0
  private var isResponding = false

  init(headerTime: TimeAmount, bodyTime: TimeAmount) {
    self.headerTime = headerTime
    self.bodyTime = bodyTime
  }

  func handlerAdded(context: ChannelHandlerContext) {
    // Covers the first request; between later ones the server's idle time counts.
    let loopBound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleTask(in: headerTime) {
      let (handler, context) = loopBound.value
      if handler.requests == 0 {
        handler.refuse(context, status: .requestTimeout, "no request came in time")
      }
    }
  }

  func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

  func channelInactive(context: ChannelHandlerContext) {
    timer?.cancel()
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head:
      requests += 1
      isResponding = true
      timer?.cancel()
      let loopBound = NIOLoopBound(context, eventLoop: context.eventLoop)
      timer = context.eventLoop.scheduleTask(in: bodyTime) { loopBound.value.fireErrorCaught(SlowBody()) }
    case .body: break
    case .end: timer?.cancel()
    }
    context.fireChannelRead(data)
  }

  func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
    if case .end = unwrapOutboundIn(data) { isResponding = false }
    context.write(data, promise: promise)
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case ChannelEvent.inputClosed = event {
      context.close(promise: nil)
    } else {
      context.fireUserInboundEventTriggered(event)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // A request that cannot be understood never reaches the responder.
    if !isResponding && !(error is SlowBody) {
      refuse(context, status: .badRequest, "the request is not valid HTTP")
    } else {
      context.fireErrorCaught(error)
    }
  }

  private func refuse(_ context: ChannelHandlerContext, status: HTTPResponse.Status, _ message: String) {
    let body = ByteBuffer(string: APIError(status, message).json.serialized())
    let head = HTTPResponse(
      status: status,
      headerFields: [
        .contentType: "application/json", .contentLength: String(body.readableBytes), .connection: "close",
      ])
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(wrapOutboundOut(.body(body)), promise: nil)
    let loopBound = NIOLoopBound(context, eventLoop: context.eventLoop)
    context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in loopBound.value.close(promise: nil)
    }
  }
}

@available(*, unavailable)
extension ConnectionGuard: Sendable {}
