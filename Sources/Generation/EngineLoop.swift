import Compute
import Tokenization
import Transformer

/// What the thread of a ``GenerationEngine`` does.
struct EngineLoop {
  private let engine: GenerationEngine
  private let decoder: Decoder
  private let tokenizer: any Tokenizer
  private var caches: CachePool
  private var queue = FairQueue<GenerationEngine.Submission>()
  private var running: [RunningSequence] = []
  private var pace = PromptPace()

  init(
    engine: GenerationEngine, decoder: Decoder, tokenizer: any Tokenizer, makeCache: @escaping () -> KVCache
  ) {
    self.engine = engine
    self.decoder = decoder
    self.tokenizer = tokenizer
    let limits = engine.limits
    caches = CachePool(
      contextLimit: limits.contextLimit, budgetTokens: limits.budgetTokens, maximumCount: limits.caches,
      make: makeCache)
  }

  /// Returns when the engine is drained.
  mutating func run() {
    while true {
      let (arrived, drainDeadline) = engine.collect(isIdle: running.isEmpty && queue.isEmpty)
      for submission in arrived { queue.append(submission, client: submission.request.client) }
      let now = ContinuousClock.now
      if let drainDeadline, now >= drainDeadline { failAll(.shuttingDown) }
      drop(now)
      admit()
      if running.isEmpty {
        if queue.isEmpty && drainDeadline != nil { return }
        continue
      }
      step()
    }
  }

  // MARK: Who runs

  /// Ends what was cancelled or has no time left.
  private mutating func drop(_ now: ContinuousClock.Instant) {
    func isLate(_ request: GenerationRequest) -> Bool { request.deadline.map { now >= $0 } ?? false }
    for sequence in running {
      if sequence.submission.ticket.isCancelled {
        end(sequence, .finished(.cancelled))
      } else if isLate(sequence.request) {
        end(sequence, sequence.isGenerating ? .finished(.length) : .failed(.timedOut))
      }
    }
    var dropped = 0
    queue.removeAll { submission in
      guard submission.ticket.isCancelled || isLate(submission.request) else { return false }
      submission.ticket.post(.failed(.timedOut), index: submission.index)
      dropped += 1
      return true
    }
    if dropped > 0 { engine.report { $0.waiting -= dropped } }
  }

  private mutating func admit() {
    while running.count < engine.limits.parallel, let next = queue.first {
      let needed = next.request.prompt.count + next.request.maximumNewTokens
      guard let cached = caches.acquire(prompt: next.request.prompt, needed: needed),
        let submission = queue.popFirst()
      else { break }
      let sequence = RunningSequence(submission, cached: cached, tokenizer: tokenizer)
      running.append(sequence)
      engine.report {
        $0.waiting -= 1
        $0.running += 1
        $0.promptTokens += submission.request.prompt.count
        $0.reusedTokens += sequence.reusedTokens
        $0.cachedTokens = caches.chargedTokens
      }
      if submission.request.maximumNewTokens == 0 { end(sequence, .finished(.length)) }
    }
  }

  private mutating func end(_ sequence: RunningSequence, _ outcome: RunningSequence.Outcome) {
    var reason = "error"
    switch outcome {
    case .goesOn: return
    case .finished(let finish):
      reason = finish.rawValue
      sequence.finish(finish)
    case .failed(let error): sequence.post(.failed(error))
    }
    running.removeAll { $0 === sequence }
    caches.release(sequence.cached)
    engine.report {
      $0.running -= 1
      $0.finished[reason, default: 0] += 1
      $0.cachedTokens = caches.chargedTokens
    }
    engine.requestTook((ContinuousClock.now - sequence.submission.submitted).seconds)
  }

  private mutating func failAll(_ error: SchedulingError) {
    for sequence in running { end(sequence, .failed(error)) }
    var count = 0
    while let submission = queue.popFirst() {
      submission.ticket.post(.failed(error), index: submission.index)
      count += 1
    }
    engine.report { $0.waiting -= count }
  }

  // MARK: One forward pass

  private mutating func step() {
    let start = ContinuousClock.now
    // Answers first: one token each. What is left of the pass goes to prompts, the oldest first.
    let generating = running.filter(\.isGenerating)
    var room = generating.isEmpty ? PromptPace.most : pace.tokens
    var batch = generating.map { (sequence: $0, tokens: Array($0.pendingTokens)) }
    for sequence in running where !sequence.isGenerating && room > 0 {
      let tokens = Array(sequence.pendingTokens.prefix(room))
      room -= tokens.count
      batch.append((sequence, tokens))
    }
    let hidden = decoder.hiddenStates(batch: batch.map { ($0.tokens, $0.sequence.cached.cache) })
    for (sequence, tokens) in batch { sequence.cached.append(tokens) }

    var row = -1
    var complete: [(sequence: RunningSequence, row: Int)] = []
    for (sequence, tokens) in batch {
      row += tokens.count
      if sequence.pendingTokens.isEmpty { complete.append((sequence, row)) }
    }
    choose(complete, hidden: hidden)
    record(generating: generating.count, complete: complete.count, rows: row + 1, since: start)
  }

  /// Next tokens of the sequences whose last hidden states are at the given rows.
  private mutating func choose(
    _ complete: [(sequence: RunningSequence, row: Int)], hidden: AlignedBuffer<Float>
  ) {
    guard !complete.isEmpty else { return }
    let width = decoder.configuration.hiddenSize
    let last = AlignedBuffer<Float>(count: complete.count * width)
    for (index, item) in complete.enumerated() {
      (last.pointer + index * width).update(from: hidden.pointer + item.row * width, count: width)
    }
    let logits = decoder.logits(last, rows: 0..<complete.count)
    let size = decoder.vocabularySize
    let tokenCount = tokenizer.tokenCount
    let times = complete.map { $0.sequence.lastTokenTime }
    var outcomes = [RunningSequence.Outcome](repeating: .goesOn, count: complete.count)
    complete.map(\.sequence).withUnsafeBufferPointer { sequences in
      outcomes.withUnsafeMutableBufferPointer { outcomes in
        guard let first = sequences.baseAddress, let firstOutcome = outcomes.baseAddress else { return }
        // Each task advances a sequence of its own.
        let (sequences, outcomes) = (SharedPointer(first), DisjointWrites(firstOutcome))
        decoder.steps.pool.run(complete.count) { index in
          let line = UnsafeMutableBufferPointer(start: logits.pointer + index * size, count: size)
          outcomes[index] = sequences[index].advance(line, tokenCount: tokenCount)
        }
      }
    }
    engine.report { statistics in
      for (index, item) in complete.enumerated() {
        guard let time = item.sequence.lastTokenTime, time != times[index] else { continue }
        statistics.generatedTokens += 1
        if let before = times[index] {
          statistics.timePerToken.record((time - before).seconds)
        } else {
          statistics.timeToFirstToken.record((time - item.sequence.submission.submitted).seconds)
        }
      }
    }
    for (index, item) in complete.enumerated() { end(item.sequence, outcomes[index]) }
  }

  private mutating func record(
    generating: Int, complete: Int, rows: Int, since start: ContinuousClock.Instant
  ) {
    let seconds = (ContinuousClock.now - start).seconds
    pace.observe(promptRows: rows - generating, otherRows: generating, seconds: seconds)
    engine.report {
      $0.forwardPasses += 1
      $0.busySeconds += seconds
      $0.cachedTokens = caches.chargedTokens
    }
  }
}

/// How many prompt tokens may join a pass that answers wait for.
struct PromptPace {
  /// Prompt tokens of a pass that no answer waits for.
  static let most = 512
  /// What prompts may add to the time between two tokens of an answer.
  private static let patience = 0.1
  private var tokensPerSecond = 640.0

  /// A multiple of 16: products work on 16 rows at a time.
  var tokens: Int { max(16, min(PromptPace.most, Int(tokensPerSecond * PromptPace.patience) / 16 * 16)) }

  /// Learns from a pass how fast prompts are.
  mutating func observe(promptRows: Int, otherRows: Int, seconds: Double) {
    guard promptRows >= 16, promptRows > otherRows, seconds > 0 else { return }
    tokensPerSecond += 0.2 * (Double(promptRows + otherRows) / seconds - tokensPerSecond)
  }
}

extension Duration {
  package var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
