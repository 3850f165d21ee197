import Compute
import Transformer

/// A sequence of which some tokens are scored.
package struct ScoredSequence: Equatable, Sendable {
  /// Ids in `0 ..< vocabularySize`, one at least.
  package var ids: [Int]
  /// The first scored token, an index into `ids`; those after it are scored too. At least 1: the first token of a sequence is
  /// predicted from nothing.
  package var firstScored: Int

  package init(ids: [Int], firstScored: Int) {
    self.ids = ids
    self.firstScored = firstScored
  }
}

/// What a model says of the scored tokens of a sequence.
package struct SequenceLikelihood: Equatable, Sendable {
  /// Σ log p of the scored tokens, natural logarithms, in double precision from fp32 logits.
  package var logProbability: Double
  /// Whether each scored token is the likeliest one; of equal ones the first.
  package var isGreedy: Bool
  package var tokenCount: Int

  package init(logProbability: Double, isGreedy: Bool, tokenCount: Int) {
    self.logProbability = logProbability
    self.isGreedy = isGreedy
    self.tokenCount = tokenCount
  }
}

/// Scores the choices of questions, and runs nothing twice that two sequences begin with: neither the examples before all
/// questions nor a question before its choices.
///
/// The tokens that a group of questions begins with stay in a cache; what the choices of one question share runs once after it;
/// the rest of each choice runs after that. The last token of a choice never runs: nothing is predicted from it. A token's score
/// has the same bits whatever else is scored.
package final class ChoiceScorer {
  /// Tokens that run through the layers together.
  private static let batchTokens = 1024
  /// Bytes of keys and values that the questions of a batch hold together.
  private static let batchCacheBytes = 512 << 20
  /// A prefix shorter than this is run again rather than kept.
  private static let leastPrefix = 8

  private let decoder: Decoder
  private let pool: WorkerPool
  private let cacheType: KVCacheType
  private let capacity: Int
  /// All ids but the last of what the last batch began with.
  private let prefix: KVCache
  /// What the last batch began with. The last of them has not run, so that what follows it is predicted anew each time.
  private var prefixIDs: [Int] = []
  /// Of the ids from the second on; not a number where nobody needed them.
  private var prefixScores: [TokenScore] = []
  /// Tokens that ran, and tokens that were asked for.
  package private(set) var tokensRun = 0
  package private(set) var tokensAsked = 0

  private struct TokenScore {
    var logProbability: Double
    var isGreedy: Bool
  }

  /// - Parameter capacity: tokens of the longest sequence to come.
  package init(
    decoder: Decoder, capacity: Int, cacheType: KVCacheType = .f32, pool: WorkerPool = .shared
  ) {
    self.decoder = decoder
    self.capacity = max(1, capacity)
    self.cacheType = cacheType
    self.pool = pool
    prefix = decoder.makeCache(capacity: self.capacity, type: cacheType)
  }

  /// How many of the questions should be scored together, at least one.
  package func batchSize(_ questions: ArraySlice<[ScoredSequence]>) -> Int {
    guard let first = questions.first else { return 0 }
    var (tokens, bytes, count) = (0, 0, 0)
    var shared = first[0].ids.count
    for question in questions {
      shared = min(shared, question.map { ChoiceScorer.common($0.ids, first[0].ids) }.min() ?? 0)
      tokens += ChoiceScorer.rows(question)
      let longest = question.map(\.ids.count).max() ?? 0
      bytes += KVCache.byteCount(configuration: decoder.configuration, capacity: longest, type: cacheType)
      let fits =
        tokens - count * shared <= ChoiceScorer.batchTokens
        && (bytes <= ChoiceScorer.batchCacheBytes || ChoiceScorer.needsOneRun(question))
      if count > 0 && !fits { break }
      count += 1
    }
    return count
  }

  /// Scores of a batch of questions.
  /// - Parameters:
  ///   - questions: of each its sequences, one at least; none has more ids than the capacity.
  ///   - next: the question after them, which shows what is worth keeping.
  /// - Throws: ``EvaluationError`` when the model gives no finite probability.
  package func score(_ questions: [[ScoredSequence]], next: [ScoredSequence]? = nil) throws
    -> [[SequenceLikelihood]]
  {
    for sequence in questions.joined() {
      precondition(!sequence.ids.isEmpty && sequence.ids.count <= capacity && sequence.firstScored >= 1)
      tokensAsked += sequence.ids.count
    }
    // The tokens that run of each question for all its choices.
    let shared = questions.map { ChoiceScorer.sharedFeed($0) }
    try keepPrefix(questions, next: next)
    let known = prefix.count
    var scores = questions.map { question in
      question.map { [TokenScore?](repeating: nil, count: $0.ids.count) }
    }
    for (q, question) in questions.enumerated() {
      for (s, sequence) in question.enumerated() {
        for token in sequence.firstScored..<max(sequence.firstScored, min(known + 1, sequence.ids.count)) {
          scores[q][s][token] = prefixScores[token - 1]
        }
      }
    }

    // What all choices of a question begin with.
    let isWhole = questions.map { ChoiceScorer.needsOneRun($0) }
    let caches = zip(questions, isWhole).map { question, isWhole -> KVCache? in
      if isWhole { return nil }
      let longest = question.map(\.ids.count).max() ?? 1
      return prefix.copy(configuration: decoder.configuration, capacity: max(longest, known + 1), pool: pool)
    }
    let wholes = questions.indices.filter { isWhole[$0] && shared[$0] > known }
    if !wholes.isEmpty {
      let parts = wholes.map {
        (tokens: Array(questions[$0][0].ids[known..<shared[$0]]), prefix: Optional(prefix))
      }
      let states = decoder.hiddenStates(parts)
      try take(states, of: wholes, questions, from: known, to: shared, into: &scores)
    }
    let divided = questions.indices.filter { !isWhole[$0] && shared[$0] > known }
    if !divided.isEmpty {
      let parts = divided.map {
        (tokens: Array(questions[$0][0].ids[known..<shared[$0]]), cache: caches[$0]!)
      }
      let states = decoder.hiddenStates(batch: parts)
      try take(states, of: divided, questions, from: known, to: shared, into: &scores)
    }

    // The rest of each choice.
    var rest: [(question: Int, sequence: Int)] = []
    for (q, question) in questions.enumerated() where !isWhole[q] {
      for (s, sequence) in question.enumerated() where sequence.ids.count - 1 > shared[q] {
        rest.append((q, s))
      }
    }
    try takeRest(rest, questions, shared: shared, caches: caches, into: &scores)

    return zip(questions, scores).map { question, scores in
      zip(question, scores).map { sequence, scores in
        var total = SequenceLikelihood(logProbability: 0, isGreedy: true, tokenCount: 0)
        for token in sequence.firstScored..<max(sequence.firstScored, sequence.ids.count) {
          guard let score = scores[token] else { preconditionFailure("token \(token) was not scored") }
          total.logProbability += score.logProbability
          total.isGreedy = total.isGreedy && score.isGreedy
          total.tokenCount += 1
        }
        return total
      }
    }
  }

  // MARK: What is shared

  private static func common(_ a: some Sequence<Int>, _ b: some Sequence<Int>) -> Int {
    zip(a, b).prefix { $0 == $1 }.count
  }

  /// Tokens that run once for all choices of a question: what all begin with, without any choice's last token.
  private static func sharedFeed(_ question: [ScoredSequence]) -> Int {
    let first = question[0].ids
    return question.map { min($0.ids.count - 1, common($0.ids, first)) }.min() ?? 0
  }

  /// Whether nothing runs beyond what the choices share.
  private static func needsOneRun(_ question: [ScoredSequence]) -> Bool {
    let shared = sharedFeed(question)
    return question.allSatisfy { $0.ids.count - 1 <= shared }
  }

  /// Tokens that run for a question.
  private static func rows(_ question: [ScoredSequence]) -> Int {
    let shared = sharedFeed(question)
    return shared + question.reduce(0) { $0 + $1.ids.count - 1 - shared }
  }

  /// Makes the cache hold what the batch and the question after it begin with.
  private func keepPrefix(_ questions: [[ScoredSequence]], next: [ScoredSequence]?) throws {
    let first = questions[0][0].ids
    var wanted = first.count
    var held = prefixIDs.count
    for question in questions + (next.map { [$0] } ?? []) {
      for sequence in question { wanted = min(wanted, ChoiceScorer.common(sequence.ids, first)) }
    }
    for sequence in questions.joined() {
      wanted = min(wanted, ChoiceScorer.common(sequence.ids, first))
      held = min(held, ChoiceScorer.common(sequence.ids, prefixIDs))
    }
    let needsScores = questions.joined().contains { $0.firstScored < max(wanted, held) }
    let lacksScores = prefixScores.prefix(max(0, held - 1)).contains { $0.logProbability.isNaN }
    truncatePrefix(to: needsScores && lacksScores ? 0 : held)
    guard wanted >= prefixIDs.count + ChoiceScorer.leastPrefix else { return }
    while prefix.count < wanted - 1 {
      let (start, end) = (prefix.count, min(wanted - 1, prefix.count + ChoiceScorer.batchTokens))
      let states = decoder.hiddenStates(Array(first[start..<end]), cache: prefix)
      tokensRun += end - start
      prefixScores +=
        needsScores
        ? try scores(states, rows: (start..<end).map { ($0 - start, first[$0 + 1]) })
        : [TokenScore](repeating: TokenScore(logProbability: .nan, isGreedy: false), count: end - start)
      prefixIDs = Array(first[...end])
    }
  }

  /// Forgets the shared tokens from `count` on, and some before it if the cache must (``KVCache/truncate(to:)``).
  private func truncatePrefix(to count: Int) {
    let asked = max(0, count - 1)
    prefix.truncate(to: asked)
    prefixIDs.removeLast(prefixIDs.count - (prefix.count == asked ? count : prefix.count + 1))
    prefixScores.removeLast(prefixScores.count - prefix.count)
  }

  // MARK: Scores

  /// Takes the scores that the states of the shared tokens of some questions give.
  private func take(
    _ states: AlignedBuffer<Float>, of chosen: [Int], _ questions: [[ScoredSequence]], from known: Int,
    to shared: [Int],
    into scores: inout [[[TokenScore?]]]
  ) throws {
    var wanted: [(row: Int, target: Int)] = []
    var places: [(question: Int, sequence: Int, token: Int)] = []
    var firstRow = 0
    for q in chosen {
      for (s, sequence) in questions[q].enumerated() {
        // The state at a place predicts the token after it. What sequences share is scored for each: it is cheap beside running.
        let tokens =
          max(
            sequence.firstScored, known + 1)..<max(
            max(sequence.firstScored, known + 1), min(shared[q], sequence.ids.count - 1) + 1)
        for token in tokens {
          wanted.append((firstRow + token - 1 - known, sequence.ids[token]))
          places.append((q, s, token))
        }
      }
      firstRow += shared[q] - known
      tokensRun += shared[q] - known
    }
    for (place, score) in zip(places, try self.scores(states, rows: wanted)) {
      scores[place.question][place.sequence][place.token] = score
    }
  }

  /// Runs the rest of the choices in batches, and takes their scores.
  private func takeRest(
    _ rest: [(question: Int, sequence: Int)], _ questions: [[ScoredSequence]], shared: [Int],
    caches: [KVCache?],
    into scores: inout [[[TokenScore?]]]
  ) throws {
    var start = 0
    while start < rest.count {
      var (end, rows) = (start, 0)
      while end < rest.count {
        let (q, s) = rest[end]
        let count = questions[q][s].ids.count - 1 - shared[q]
        if end > start && rows + count > ChoiceScorer.batchTokens { break }
        rows += count
        end += 1
      }
      let states = decoder.hiddenStates(
        rest[start..<end].map { q, s in
          (tokens: Array(questions[q][s].ids[shared[q]..<questions[q][s].ids.count - 1]), prefix: caches[q])
        })
      tokensRun += rows
      var wanted: [(row: Int, target: Int)] = []
      var places: [(question: Int, sequence: Int, token: Int)] = []
      var firstRow = 0
      for (q, s) in rest[start..<end] {
        let sequence = questions[q][s]
        let first = max(sequence.firstScored, shared[q] + 1)
        for token in first..<max(first, sequence.ids.count) {
          wanted.append((firstRow + token - 1 - shared[q], sequence.ids[token]))
          places.append((q, s, token))
        }
        firstRow += sequence.ids.count - 1 - shared[q]
      }
      for (place, score) in zip(places, try self.scores(states, rows: wanted)) {
        scores[place.question][place.sequence][place.token] = score
      }
      start = end
    }
  }

  /// log softmax at the targets, for some rows of `states`; a row may be asked for several targets, one after another.
  private func scores(_ states: AlignedBuffer<Float>, rows wanted: [(row: Int, target: Int)]) throws
    -> [TokenScore]
  {
    guard !wanted.isEmpty else { return [] }
    let width = decoder.configuration.hiddenSize
    let size = decoder.vocabularySize
    // Each row of logits is made once.
    let rows = Set(wanted.map(\.row)).sorted()
    var result = [TokenScore](
      repeating: TokenScore(logProbability: .nan, isGreedy: false), count: wanted.count)
    var targets: [Int: [Int]] = [:]
    for (index, item) in wanted.enumerated() { targets[item.row, default: []].append(index) }
    let step = max(1, WindowRunner.logitBytes / (4 * size))
    for first in stride(from: 0, to: rows.count, by: step) {
      let block = Array(rows[first..<min(first + step, rows.count)])
      let some = AlignedBuffer<Float>(count: block.count * width)
      for (index, row) in block.enumerated() {
        (some.pointer + index * width).update(from: states.pointer + row * width, count: width)
      }
      let logits = decoder.logits(some, rows: 0..<block.count)
      let sums = AlignedBuffer<Double>(count: block.count)
      let tops = AlignedBuffer<Float>(count: block.count)
      let kernels = pool.kernels
      pool.run(block.count) { index in
        let row = logits.pointer + index * size
        tops.pointer[index] = kernels.maximum(row, count: size)
        sums.pointer[index] = logSumExp(row, count: size, kernels: kernels)
      }
      for (index, row) in block.enumerated() {
        let logits = logits.pointer + index * size
        for item in targets[row] ?? [] {
          let target = wanted[item].target
          let logProbability = Double(logits[target]) - sums.pointer[index]
          guard logProbability.isFinite else { throw EvaluationError(.logitsNotFinite(model: "the model")) }
          var isGreedy = logits[target] == tops.pointer[index]
          if isGreedy { isGreedy = !(0..<target).contains { logits[$0] == logits[target] } }
          result[item] = TokenScore(logProbability: logProbability, isGreedy: isGreedy)
        }
      }
    }
    return result
  }
}
