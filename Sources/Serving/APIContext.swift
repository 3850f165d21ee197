import Hummingbird
import NIOCore

/// What travels with a request through middleware and routes.
struct APIContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  let channel: any Channel
  /// What the queue and the rate limit call the client: its address, and which key it has once that is known.
  var client: String

  init(source: ApplicationRequestContextSource) {
    coreContext = CoreRequestContextStorage(source: source)
    channel = source.channel
    client = source.channel.remoteAddress?.ipAddress ?? "local"
  }
}
