import Compute
import Synchronization
import Transformer

/// One run of a model over pending tokens of one or more sequences.
///
/// Rows of a pass do not mix, so that what else is in it changes no answer.
package struct ForwardPass {
  /// Prompt tokens of a pass that no answer waits for.
  package static let promptTokens = 512

  private let parts: [(stepper: SequenceStepper, index: Int, tokens: [Int])]
  /// Tokens of the answers in this pass, one each.
  package let generatingRows: Int
  package let rows: Int

  /// Answers come first, one token each. What `promptTokens` leaves is given to the prompts, the first of them first.
  package init(_ steppers: [SequenceStepper], promptTokens: Int) {
    var parts: [(stepper: SequenceStepper, index: Int, tokens: [Int])] = []
    for (index, stepper) in steppers.enumerated() where stepper.isGenerating {
      parts.append((stepper, index, Array(stepper.pendingTokens)))
    }
    generatingRows = parts.count
    var room = promptTokens
    for (index, stepper) in steppers.enumerated() where !stepper.isGenerating && room > 0 {
      let tokens = Array(stepper.pendingTokens.prefix(room))
      room -= tokens.count
      parts.append((stepper, index, tokens))
    }
    self.parts = parts
    rows = parts.reduce(0) { $0 + $1.tokens.count }
  }

  /// Runs the model and chooses the next token of every sequence whose pending tokens are then all in its cache.
  /// - Parameter pool: threads that choose tokens, one sequence each.
  /// - Returns: the steps of those sequences; `index` is the sequence's place in the list that the pass was made from. A
  ///   sequence of whose prompt only a part ran has none.
  package func run(on model: any LanguageModel, pool: WorkerPool = .shared) -> [(index: Int, step: Step)] {
    let hidden = model.hiddenStates(batch: parts.map { ($0.tokens, $0.stepper.sequence.cache) })
    var rows = 0
    var complete: [(stepper: SequenceStepper, index: Int, row: Int)] = []
    var ended: [(index: Int, step: Step)] = []
    for (stepper, index, tokens) in parts {
      stepper.sequence.append(tokens)
      defer { rows += tokens.count }
      let scored = stepper.tokensToScore(afterRows: tokens.count)
      if let scores = score(scored, of: stepper, hidden: hidden, firstRow: rows, model: model, pool: pool) {
        stepper.take(scores)
      } else {
        ended.append((index, .failed(.notFinite)))
        continue
      }
      guard stepper.pendingTokens.isEmpty else { continue }
      if stepper.hasRoom {
        complete.append((stepper, index, rows + tokens.count - 1))
      } else {
        ended.append((index, .finished(.length, last: nil)))
      }
    }
    guard !complete.isEmpty else { return ended }
    let logits = logits(
      of: complete.map { ($0.row, $0.stepper.sequence.cache.variant) }, hidden: hidden, model: model)
    let choices = ForwardPass.choose(
      complete.map(\.stepper.chooser), logits: logits, vocabularySize: model.vocabularySize, pool: pool)
    return ended + zip(complete, choices).map { ($0.index, $0.stepper.take($1)) }
  }

  /// Rows of logits that are in memory together when prompts are scored; products work on 16 rows at a time.
  static let scoredRows = 16

  /// Log probabilities of tokens of a prompt.
  /// - Parameter firstRow: the row of `hidden` that decides the first of `tokens`.
  /// - Returns: nil when a logit is not finite.
  private func score(
    _ tokens: ArraySlice<Int>, of stepper: SequenceStepper, hidden: AlignedBuffer<Float>, firstRow: Int,
    model: any LanguageModel, pool: WorkerPool
  ) -> [TokenLogprobs]? {
    guard !tokens.isEmpty else { return [] }
    let tokens = Array(tokens)
    let topCount = stepper.request.promptLogprobs ?? 0
    let (tokenCount, unused) = (stepper.tokenizer.tokenCount, stepper.tokenizer.unusedIDs)
    let scores = Mutex([TokenLogprobs?](repeating: nil, count: tokens.count))
    for start in stride(from: 0, to: tokens.count, by: ForwardPass.scoredRows) {
      let count = min(ForwardPass.scoredRows, tokens.count - start)
      let logits = model.logits(
        hidden, rows: firstRow + start..<firstRow + start + count,
        variants: [Int](repeating: stepper.sequence.cache.variant, count: count))
      pool.run(count) { row in
        let all = UnsafeMutableBufferPointer(
          start: logits.pointer + row * model.vocabularySize, count: model.vocabularySize)
        guard let logits = Logits.ofTokens(all, count: tokenCount, unused: unused) else { return }
        let score = TokenLogprobs(
          UnsafeBufferPointer(logits), chosen: tokens[start + row], topCount: topCount)
        scores.withLock { $0[start + row] = score }
      }
    }
    let known = scores.withLock { $0.compactMap(\.self) }
    return known.count == tokens.count ? known : nil
  }

  /// `[rows.count, vocabularySize]` of some rows of `hidden`, which belong to sequences of those variants.
  private func logits(
    of rows: [(row: Int, variant: Int)], hidden: AlignedBuffer<Float>, model: any LanguageModel
  ) -> AlignedBuffer<Float> {
    let variants = rows.map(\.variant)
    if rows.count == 1 {
      return model.logits(hidden, rows: rows[0].row..<rows[0].row + 1, variants: variants)
    }
    let width = hidden.count / self.rows
    let last = AlignedBuffer<Float>(count: rows.count * width)
    for (index, row) in rows.map(\.row).enumerated() {
      (last.pointer + index * width).update(from: hidden.pointer + row * width, count: width)
    }
    return model.logits(last, rows: 0..<rows.count, variants: variants)
  }

  private static func choose(
    _ choosers: [TokenChooser], logits: AlignedBuffer<Float>, vocabularySize: Int, pool: WorkerPool
  ) -> [TokenChooser.Choice] {
    let choices = Mutex([TokenChooser.Choice?](repeating: nil, count: choosers.count))
    pool.run(choosers.count) { index in
      let row = UnsafeMutableBufferPointer(
        start: logits.pointer + index * vocabularySize, count: vocabularySize)
      let choice = choosers[index].choose(row)
      choices.withLock { $0[index] = choice }
    }
    return choices.withLock { $0.compactMap(\.self) }
  }
}
