import Architecture
import Foundation
import Transformer

/// How the memory of a serving process is divided, known before the first request.
package struct MemoryPlan: Equatable, Sendable {
  /// Weights, mapped from their file; they stay in memory while they are used.
  package let weightBytes: Int
  /// Activations and logits of the largest forward pass.
  package let workBytes: Int
  package let bytesPerToken: Int
  package let limitBytes: Int
  /// The maximum number of tokens of prompt and answer together.
  package let contextLimit: Int
  /// Tokens that all caches together may hold.
  package let budgetTokens: Int

  /// - Parameters:
  ///   - limit: bytes the process should stay below.
  ///   - weightBytes: of this model; `otherBytes`: of other models in the process.
  ///   - context: what the person asked for; nil: as much as the model was made for.
  ///   - parallel: sequences of a forward pass.
  ///   - bytesPerToken: of the caches, keys and values of all layers.
  /// - Throws: ``GenerationError/memoryLimitTooSmall`` when not even a short conversation fits.
  package init(
    _ c: DecoderConfiguration, limit: Int, weightBytes: Int, otherBytes: Int = 0, context: Int?,
    parallel: Int, bytesPerToken: Int
  ) throws(GenerationError) {
    workBytes = MemoryPlan.workBytes(
      c, parallel: parallel, logitRows: max(parallel, ForwardPass.scoredRows))
    self.weightBytes = weightBytes
    self.bytesPerToken = bytesPerToken
    limitBytes = limit
    let wanted = min(context ?? c.contextLength, c.contextLength)
    let fixedBytes = otherBytes + weightBytes + workBytes
    let affordable = MemoryPlan.tokens(
      in: limit - fixedBytes, bytesPerToken: bytesPerToken + RotaryEmbedding.bytesPerPosition(c.rotary))
    let least = min(wanted, MemoryPlan.leastContext)
    guard affordable >= least else {
      throw .memoryLimitTooSmall(
        limit: limit, needed: fixedBytes + least * bytesPerToken, weights: weightBytes + otherBytes,
        work: workBytes, token: bytesPerToken)
    }
    contextLimit = min(wanted, affordable)
    // Room for twice the running sequences at full length; the second half serves the caches of waiting conversations.
    budgetTokens = max(contextLimit, min(affordable, 2 * parallel * contextLimit))
  }

  /// Tokens of context for one conversation on a terminal, from the same budget as a server's. A person who starts a model
  /// that is too large for the machine has decided to wait: the answer is then the shortest useful context, not an error.
  package static func conversationContext(
    _ c: DecoderConfiguration, limit: Int = defaultLimit(), weightBytes: Int, bytesPerToken: Int
  ) -> Int {
    let bytes = limit - weightBytes - workBytes(c, parallel: 1, logitRows: 1)
    let affordable = tokens(
      in: bytes, bytesPerToken: bytesPerToken + RotaryEmbedding.bytesPerPosition(c.rotary))
    return min(c.contextLength, max(2 * leastContext, affordable))
  }

  /// Bytes that one sequence of `tokens` tokens takes beside the weights: keys and values, tables of rotation, and the activations
  /// of one pass, which do not grow with the prompt.
  package static func sequenceBytes(_ c: DecoderConfiguration, tokens: Int, type: KVCacheType) -> Int {
    tokens * (bytesPerToken(c, type: type) + RotaryEmbedding.bytesPerPosition(c.rotary))
      + workBytes(c, parallel: 1, logitRows: 1)
  }

  /// Bytes that a token takes in the caches of all layers, with its share of what a cache takes for tokens in half precision.
  package static func bytesPerToken(_ c: DecoderConfiguration, type: KVCacheType) -> Int {
    let capacity = 16384
    return max(1, KVCache.byteCount(configuration: c, capacity: capacity, type: type) / capacity)
  }

  private static let leastContext = 256

  private static func workBytes(_ c: DecoderConfiguration, parallel: Int, logitRows: Int) -> Int {
    let rows = ForwardPass.promptTokens + parallel
    // Hidden state and its norm, queries, keys and values, attention, gate and up; the largest rounded copy in 8 bits.
    let row =
      4 * (2 * c.hiddenSize + c.qkvWidth + c.attentionWidth + 2 * c.intermediateSize) + 2 * c.intermediateSize
    return rows * row + logitRows * c.vocabularySize * 8 + (64 << 20)
  }

  private static func tokens(in bytes: Int, bytesPerToken: Int) -> Int {
    bytes / bytesPerToken / CachePool.grain * CachePool.grain
  }

  /// Bytes this process may use by itself: four fifths of what is available now, or of what its control group allows.
  package static func defaultLimit() -> Int {
    var available = Int(ProcessInfo.processInfo.physicalMemory)
    if let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("MemAvailable:") }),
      let kilobytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
    {
      available = min(available, kilobytes << 10)
    }
    for path in ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"] {
      if let text = try? String(contentsOfFile: path, encoding: .utf8),
        let bytes = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)), bytes > 0
      {
        available = min(available, bytes)
      }
    }
    return available / 5 * 4
  }
}
