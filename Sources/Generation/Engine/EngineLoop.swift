import Files
import Tokenization
import Transformer

/// What the thread of a ``GenerationEngine`` does.
struct EngineLoop {
  private let engine: GenerationEngine
  private let model: any LanguageModel
  private let tokenizer: any Tokenizer
  private var caches: CachePool
  private var queue = FairQueue<GenerationEngine.Submission>()
  private var running: [RunningRequest] = []
  /// Requests whose turn has come, and whose prompts begin as one that is being read.
  private var followers: [Follower] = []
  private var pace = PromptPace()
  private let saved: SavedPrefixes?
  private let cacheType: KVCacheType
  /// Measured when the first long prompt comes.
  private var promptSpeed: PromptSpeed?

  init(
    engine: GenerationEngine, model: any LanguageModel, tokenizer: any Tokenizer, cacheType: KVCacheType,
    makeCache: @escaping () -> KVCache
  ) {
    self.engine = engine
    self.model = model
    self.tokenizer = tokenizer
    self.cacheType = cacheType
    saved = engine.saved
    let limits = engine.limits
    caches = CachePool(
      contextLimit: limits.contextLimit, budgetTokens: limits.budgetTokens, maximumCount: limits.caches,
      saved: saved, make: makeCache)
  }

  /// Returns when the engine is drained.
  mutating func run() {
    while true {
      let (arrived, drainDeadline) = engine.collect(
        isIdle: running.isEmpty && queue.isEmpty && followers.isEmpty)
      for submission in arrived { queue.append(submission, client: submission.request.client) }
      let now = engine.now()
      if let drainDeadline, now >= drainDeadline { failAll(.shuttingDown) }
      drop(now)
      admit()
      if running.isEmpty {
        if queue.isEmpty && followers.isEmpty && drainDeadline != nil {
          saved?.finish()
          return
        }
        continue
      }
      step()
    }
  }

  // MARK: Who runs

  /// Ends what was cancelled or has no time left.
  private mutating func drop(_ now: ContinuousClock.Instant) {
    func isLate(_ request: GenerationRequest) -> Bool { request.deadline.map { now >= $0 } ?? false }
    var endings: [(index: Int, ending: RunningRequest.Ending)] = []
    for (index, one) in running.enumerated() {
      if one.submission.ticket.isCancelled {
        endings.append((index, .finished(.cancelled)))
      } else if isLate(one.stepper.request) {
        endings.append((index, one.stepper.isGenerating ? .finished(.length) : .failed(.timedOut)))
      }
    }
    end(endings)
    var dropped: [GenerationEngine.Submission] = []
    queue.removeAll { submission in
      guard submission.ticket.isCancelled || isLate(submission.request) else { return false }
      dropped.append(submission)
      return true
    }
    followers.removeAll { follower in
      guard follower.submission.ticket.isCancelled || isLate(follower.submission.request) else {
        return false
      }
      dropped.append(follower.submission)
      return true
    }
    failWaiting(dropped, .timedOut)
  }

  /// A request that waits until another one has read what their prompts have in common, and then copies it: reading it twice at
  /// once would take twice as long for both.
  private struct Follower {
    let submission: GenerationEngine.Submission
    var leader: SequenceStepper
    /// How many tokens they have in common.
    var tokens: Int

    /// Also when the leader was cancelled: its cache keeps what was read.
    func mustWait(_ running: [RunningRequest]) -> Bool {
      !leader.isGenerating && leader.sequence.tokens.count < tokens
        && running.contains { $0.stepper === leader }
    }
  }

  private mutating func admit() {
    // Their turn has come before that of those in line.
    var index = 0
    while index < followers.count {
      if followers[index].mustWait(running) {
        index += 1
      } else if let other = follower(followers[index].submission) {
        followers[index] = other
        index += 1
      } else {
        guard start(followers[index].submission) else { return }
        followers.remove(at: index)
      }
    }
    // A follower has its place already: one client's followers take no more turns than its other requests would.
    while running.count + followers.count < engine.limits.parallel, let next = queue.first {
      if let follower = follower(next) {
        followers.append(follower)
      } else if !start(next) {
        return
      }
      _ = queue.popFirst()
    }
  }

  /// The request that has most to read of what this one begins with; nil: waiting for none saves much.
  private func follower(_ submission: GenerationEngine.Submission) -> Follower? {
    let request = submission.request
    guard request.promptLogprobs == nil else { return nil }
    var best: Follower?
    for one in running where !one.stepper.isGenerating && one.stepper.request.variant == request.variant {
      let common = zip(one.stepper.request.prompt, request.prompt).prefix { $0 == $1 }.count
      let tokens = min(common, request.prompt.count - 1)
      if tokens - one.stepper.sequence.tokens.count >= CachePool.leastGain, tokens > best?.tokens ?? 0 {
        best = Follower(submission: submission, leader: one.stepper, tokens: tokens)
      }
    }
    return best
  }

  /// - Returns: false when there is no room for the request yet.
  private mutating func start(_ submission: GenerationEngine.Submission) -> Bool {
    guard let sequence = caches.acquire(submission.request) else { return false }
    let stepper = SequenceStepper(submission.request, in: sequence, tokenizer: tokenizer)
    running.append(RunningRequest(submission: submission, stepper: stepper))
    engine.report {
      $0.waiting -= 1
      $0.running += 1
      $0.promptTokens += submission.request.prompt.count
      $0.reusedTokens += stepper.reusedTokens
      $0.cachedTokens = caches.chargedTokens
    }
    logPlan(stepper)
    running[running.count - 1].reportPrompt()
    if !stepper.hasWork { end([(running.count - 1, .finished(.length))]) }
    return true
  }

  /// Says what a long prompt takes before it is read.
  private mutating func logPlan(_ stepper: SequenceStepper) {
    let prompt = stepper.request.prompt
    let positions = stepper.reusedTokens..<prompt.count
    guard let log = engine.log, positions.count >= PromptSpeed.leastTokens, let decoder = model as? Decoder
    else { return }
    let speed = promptSpeed ?? .measured(decoder, tokens: prompt, type: cacheType)
    promptSpeed = speed
    let seconds = speed.seconds(positions)
    guard seconds >= PromptSpeed.longSeconds else { return }
    let bytes = KVCache.byteCount(
      configuration: decoder.configuration, capacity: prompt.count, type: cacheType)
    log(
      "a prompt of \(prompt.count) tokens, \(stepper.reusedTokens) of them known, takes about "
        + "\(Int(seconds.rounded())) s and \(ByteCount.text(bytes)) of keys and values"
        + (running.count > 1 ? "; other answers run meanwhile and make it longer" : ""))
  }

  private mutating func end(_ endings: [(index: Int, ending: RunningRequest.Ending)]) {
    guard !endings.isEmpty else { return }
    let ended = endings.map { (running[$0.index], $0.ending) }
    let gone = Set(endings.map(\.index))
    running = running.enumerated().filter { !gone.contains($0.offset) }.map(\.element)
    for (one, ending) in ended {
      // Of a prompt that nobody waits for any more, what was read is worth as much.
      if !one.stepper.isGenerating {
        saved?.save(one.stepper.sequence, promptTokens: one.stepper.request.prompt.count)
      }
      caches.release(one.stepper.sequence)
      engine.report {
        $0.running -= 1
        $0.finished[ending.name, default: 0] += 1
        $0.cachedTokens = caches.chargedTokens
      }
      engine.requestTook((engine.now() - one.submission.submitted).seconds)
      // Whoever waits for the event then finds it counted.
      one.submission.post(one.lastEvent(ending))
    }
  }

  private mutating func failAll(_ error: GenerationError) {
    end(running.indices.map { ($0, .failed(error)) })
    var waiting: [GenerationEngine.Submission] = []
    while let submission = queue.popFirst() { waiting.append(submission) }
    waiting += followers.map(\.submission)
    followers = []
    failWaiting(waiting, error)
  }

  private func failWaiting(_ submissions: [GenerationEngine.Submission], _ error: GenerationError) {
    guard !submissions.isEmpty else { return }
    engine.report { $0.waiting -= submissions.count }
    for submission in submissions { submission.post(.failed(error)) }
  }

  // MARK: One forward pass

  private mutating func step() {
    let start = engine.now()
    let steppers = running.map(\.stepper)
    let isAwaited = steppers.contains(where: \.isGenerating)
    let pass = ForwardPass(steppers, promptTokens: isAwaited ? pace.tokens : ForwardPass.promptTokens)
    let steps = pass.run(on: model)
    let now = engine.now()
    engine.report { statistics in
      for (index, step) in steps where step.piece != nil {
        statistics.generatedTokens += 1
        if let before = running[index].lastTokenTime {
          statistics.timePerToken.record((now - before).seconds)
        } else {
          statistics.timeToFirstToken.record((now - running[index].submission.submitted).seconds)
        }
      }
    }
    report(steps, at: now)
    let seconds = (engine.now() - start).seconds
    pace.observe(
      promptRows: pass.rows - pass.generatingRows, otherRows: pass.generatingRows, seconds: seconds)
    engine.report {
      $0.forwardPasses += 1
      $0.busySeconds += seconds
      $0.cachedTokens = caches.chargedTokens
    }
  }

  /// Tells the requests of their tokens, and ends those that are complete.
  private mutating func report(_ steps: [(index: Int, step: Step)], at now: ContinuousClock.Instant) {
    var endings: [(index: Int, ending: RunningRequest.Ending)] = []
    for (index, step) in steps {
      running[index].reportPrompt()
      if let piece = step.piece {
        if running[index].lastTokenTime == nil {
          let stepper = running[index].stepper
          saved?.save(stepper.sequence, promptTokens: stepper.request.prompt.count)
        }
        running[index].lastTokenTime = now
        running[index].submission.post(.piece(piece))
      }
      switch step {
      case .goesOn: break
      case .finished(let reason, _): endings.append((index, .finished(reason)))
      case .failed(let error): endings.append((index, .failed(error)))
      }
    }
    end(endings)
  }
}
