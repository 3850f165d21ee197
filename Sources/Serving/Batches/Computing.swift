import Hummingbird
import Logging
import NIOCore
import Retrieval
import Synchronization
import Tokenization

/// Hands texts and pairs to their engines and waits for vectors and scores.
struct Computing: Sendable {
  let limits: ServerLimits
  private let connections = ConnectionRegistry()
  private let reported = OnceForEach()

  init(limits: ServerLimits) { self.limits = limits }

  /// One vector for each text.
  /// - Parameters:
  ///   - normalizes: nil: as the model's folder says.
  ///   - size: the first components only; nil: all.
  func vectors(
    _ texts: [EncodedText], of model: ServedEmbedder, normalizes: Bool? = nil, size: Int? = nil,
    context: APIContext
  ) async throws -> [[Float]] {
    let items = texts.map { EmbeddingItem(text: $0, normalizes: normalizes, size: size) }
    let start = ContinuousClock.now
    let vectors = try await run(items, on: model.engine, context: context)
    let truncated = texts.count(where: \.isTruncated)
    model.engine.record(
      tokens: texts.reduce(0) { $0 + $1.ids.count }, truncated: truncated, since: start)
    if truncated > 0 { report(model.name, model.maximumLength, context) }
    return vectors
  }

  /// One score for each pair.
  func scores(_ pairs: [RerankingItem], of model: ServedReranker, context: APIContext) async throws
    -> [RerankScore]
  {
    let start = ContinuousClock.now
    let scores = try await run(pairs, on: model.engine, context: context)
    let truncated = scores.count(where: \.isTruncated)
    model.engine.record(
      tokens: scores.reduce(0) { $0 + $1.tokenCount }, truncated: truncated, since: start)
    if truncated > 0 { report(model.name, model.backend.maximumLength, context) }
    return scores
  }

  private func run<Item, Value>(
    _ items: [Item], on engine: BatchEngine<Item, Value>, context: APIContext
  ) async throws -> [Value] {
    let ticket = try engine.submit(items, client: context.client, timeLimit: limits.requestTime)
    connections.cancel(ticket, whenClosed: context.channel)
    defer { connections.release(ticket, of: context.channel) }
    return try await ticket.values()
  }

  /// Says once for each model that texts are cut; metrics count all of them.
  private func report(_ name: String, _ maximum: Int, _ context: APIContext) {
    guard reported.isFirst(name) else { return }
    context.logger.warning(
      "\(name): a text was longer than the model takes, \(maximum) tokens, and was cut; zhinao_retrieval_truncated_total counts such texts"
    )
  }
}

/// Remembers what has been said.
private final class OnceForEach: Sendable {
  private let names = Mutex<Set<String>>([])
  func isFirst(_ name: String) -> Bool { names.withLock { $0.insert(name).inserted } }
}
