import Compute
import Dispatch
import Files
import Synchronization
import Tokenization
import Transformer

/// A model that says the same over and over, notes which tokens ran after how many, and can be made to wait before each
/// forward pass, so that a test decides how far it gets.
package final class StandInModel: LanguageModel {
  package struct Run: Equatable, Sendable {
    package var tokens: [Int]
    package var position: Int
    package init(tokens: [Int], position: Int) {
      self.tokens = tokens
      self.position = position
    }
  }
  package let vocabularySize = 260
  package let contextLength: Int
  /// What it says, one id a step; nil: its logits are NaN.
  private let answer: [Int]?
  private let runs = Mutex<[Run]>([])
  private let step = Mutex(0)
  private let isOpen: Atomic<Bool>
  private let gate = DispatchSemaphore(value: 0)

  package init(answer: [Int]?, contextLength: Int = 1000, waits: Bool = false) {
    self.answer = answer
    self.contextLength = contextLength
    isOpen = Atomic(!waits)
  }

  /// Lets so many forward passes run.
  package func allow(_ passes: Int) { for _ in 0..<passes { gate.signal() } }

  /// Lets all forward passes run from now on.
  package func open() {
    isOpen.store(true, ordering: .relaxed)
    gate.signal()
  }

  /// Runs since the last call.
  package func takeRuns() -> [Run] {
    runs.withLock { runs in
      defer { runs = [] }
      return runs
    }
  }

  package func makeCache(capacity: Int, type: KVCacheType) -> KVCache { KVCache(capacity: capacity) }

  package func hiddenStates(batch: [(tokens: [Int], cache: KVCache)]) -> AlignedBuffer<Float> {
    if !isOpen.load(ordering: .relaxed) { gate.wait() }
    for (tokens, cache) in batch {
      runs.withLock { $0.append(Run(tokens: tokens, position: cache.count)) }
      cache.advance(by: tokens.count)
    }
    return AlignedBuffer(zeros: batch.reduce(0) { $0 + $1.tokens.count })
  }

  package func logits(_ hidden: AlignedBuffer<Float>, rows: Range<Int>) -> AlignedBuffer<Float> {
    let logits = AlignedBuffer<Float>(zeros: rows.count * vocabularySize)
    for row in 0..<rows.count {
      guard let answer else {
        logits[row * vocabularySize] = .nan
        continue
      }
      let id = step.withLock { step in
        defer { step += 1 }
        return answer[step % answer.count]
      }
      logits[row * vocabularySize + id] = 1
    }
    return logits
  }
}

/// Another model whose forward passes wait until a test lets them run.
package final class GatedModel: LanguageModel {
  private let model: any LanguageModel
  private let isOpen = Atomic(false)
  private let gate = DispatchSemaphore(value: 0)

  package init(_ model: any LanguageModel) { self.model = model }

  /// Lets all forward passes run from now on.
  package func open() {
    isOpen.store(true, ordering: .relaxed)
    gate.signal()
  }

  package var vocabularySize: Int { model.vocabularySize }
  package var contextLength: Int { model.contextLength }
  package func makeCache(capacity: Int, type: KVCacheType) -> KVCache {
    model.makeCache(capacity: capacity, type: type)
  }
  package func hiddenStates(batch: [(tokens: [Int], cache: KVCache)]) -> AlignedBuffer<Float> {
    if !isOpen.load(ordering: .relaxed) { gate.wait() }
    return model.hiddenStates(batch: batch)
  }
  package func logits(_ hidden: AlignedBuffer<Float>, rows: Range<Int>) -> AlignedBuffer<Float> {
    model.logits(hidden, rows: rows)
  }
}

/// One id a byte; ChatML's marks behind them.
package struct ByteTokenizer: Tokenizer {
  package let tokenCount = 259
  package let specialTokens: [ByteText: Int] = ["<|im_start|>": 256, "<|im_end|>": 257, "<eod>": 258]
  /// What stands before a text that gets affixes.
  private let prefix: [Int]
  package init(prefix: [Int] = []) { self.prefix = prefix }
  package var affixes: (prefix: [Int], suffix: [Int]) { (prefix, []) }

  package func encode(_ text: String, specials: SpecialTokens, addingAffixes: Bool) -> [Int] {
    var ids = addingAffixes ? prefix : []
    var rest = Array(text.utf8)[...]
    while let byte = rest.first {
      let special = specials == .plain ? nil : specialTokens.first { rest.starts(with: $0.key.text.utf8) }
      ids.append(special?.value ?? Int(byte))
      rest.removeFirst(special?.key.text.utf8.count ?? 1)
    }
    return ids
  }
  package func decode(_ ids: [Int], skippingSpecials: Bool) throws -> String {
    String(
      decoding: try ids.flatMap { try bytes(of: $0, skippingSpecials: skippingSpecials) ?? [] }, as: UTF8.self
    )
  }
  package func bytes(of id: Int, skippingSpecials: Bool) throws -> [UInt8]? {
    if id < 256 { return [UInt8(id)] }
    return skippingSpecials ? nil : specialTokens.first { $0.value == id }.map { Array($0.key.text.utf8) }
  }
}

/// A clock that a test moves.
package final class ManualClock: Sendable {
  private let time = Mutex(ContinuousClock.now)
  package init() {}
  package var now: ContinuousClock.Instant { time.withLock { $0 } }
  package func advance(by duration: Duration) { time.withLock { $0 += duration } }
}
