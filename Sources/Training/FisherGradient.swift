import Compute
import Foundation
import Tensors
import Transformer

/// Gradients of a language model's head whose mean square is the Fisher information, over a large vocabulary in blocks: logits exist for
/// some tokens and some of the vocabulary at a time.
package struct FisherGradient {
  private let head: WeightMatrix
  private let bias: AlignedBuffer<Float>?
  private let logitScale: Float
  private let arithmetic: FloatArithmetic
  private let pool: WorkerPool

  /// Words of a block: whole panels.
  private static let block = 4096
  /// Words whose logits are computed again for a draw among them; whole panels, and parts of a block.
  package static let drawnBlock = 1024

  /// - Parameters:
  ///   - head: `[vocabulary, hiddenSize]`, frozen, in any form.
  ///   - logitScale: logits are multiplied with it.
  package init(
    head: Linear, logitScale: Float = 1, arithmetic: FloatArithmetic = .fp32, pool: WorkerPool = .shared
  ) {
    if case .intPanels = head.weight {
      // Integer matrices are not cut into blocks.
      let floats = head.weight.floatPanels(pool: pool)
      self.head = .panels(
        PanelMatrix(
          elements: floats.pointer, dtype: .f32, outFeatures: head.outFeatures, inFeatures: head.inFeatures,
          owner: floats))
    } else {
      self.head = head.weight
    }
    bias = head.bias
    self.logitScale = logitScale
    self.arithmetic = arithmetic
    self.pool = pool
  }

  /// Floats of working memory for `rows` tokens.
  package static func workingFloats(rows: Int, hiddenSize: Int) -> Int {
    (rows + hiddenSize) * block + 2 * rows * hiddenSize + block * hiddenSize
  }

  /// What is known of a token.
  private struct Row {
    var highest = -Float.infinity
    /// Σ exp(logit − highest)
    var sum = 0.0
  }

  /// A gradient of every token whose mean square is the Fisher information: of a word that is drawn from the model's own distribution,
  /// against the mean of other such words instead of all words. One product with the head suffices for it.
  /// - Parameters:
  ///   - numbers: in [0, 1), for each token as many, at least two; the first draws the word, the others those that it is compared with.
  ///   - gradient: `[rows, hiddenSize]`, written.
  /// - Returns: the words, in the order of the numbers.
  @discardableResult
  package func drawFisherGradient(
    _ hidden: UnsafePointer<Float>, rows: Int, numbers: [Double], gradient: UnsafeMutablePointer<Float>
  ) -> [Int] {
    let each = numbers.count / max(1, rows)
    precondition(each >= 2 && numbers.count == rows * each, "numbers for each token")
    let words = draw(hidden, rows: rows, numbers: numbers)
    let width = head.inFeatures
    let gradient = DisjointWrites(gradient)
    // The mean of n draws adds 1/n to the variance of the word's.
    let others = Float(each - 1)
    let factor = logitScale / (1 + 1 / others).squareRoot()
    pool.runRanges(rows) { range in
      Scratch.withFloats(width) { vector in
        for row in range {
          let line = gradient + row * width
          line.update(repeating: 0, count: width)
          for place in 0..<each {
            head.copyRow(words[row * each + place], into: vector, kernels: pool.kernels)
            pool.kernels.scale(vector, by: place == 0 ? -factor : factor / others, count: width)
            pool.kernels.add(line, vector, count: width)
          }
        }
      }
    }
    return words
  }

  /// Draws words by their probabilities: first the block of each, then the word in it, for which the logits of that block are computed
  /// again.
  /// - Parameter numbers: as many for each token.
  private func draw(_ hidden: UnsafePointer<Float>, rows: Int, numbers: [Double]) -> [Int] {
    let logits = AlignedBuffer<Float>(count: rows * min(FisherGradient.block, head.outFeatures))
    var blocks: [[Row]] = []
    forEachBlock(hidden, rows: rows, into: logits) { words in
      for part in stride(from: 0, to: words.count, by: FisherGradient.drawnBlock) {
        let count = min(FisherGradient.drawnBlock, words.count - part)
        var state = [Row](repeating: Row(), count: rows)
        update(&state) { row, state in
          let line = logits.pointer + row * words.count + part
          state.highest = pool.kernels.maximum(line, count: count)
          state.sum = pool.kernels.sumExp(line, shift: state.highest, count: count)
        }
        blocks.append(state)
      }
    }
    // The block of each draw, and how much of the block's sum lies before the word.
    let each = numbers.count / rows
    var places: [[(draw: Int, goal: Double)]] = blocks.map { _ in [] }
    for row in 0..<rows {
      let highest = blocks.reduce(-Float.infinity) { max($0, $1[row].highest) }
      let sums = blocks.map { $0[row].sum * exponential($0[row].highest - highest) }
      let total = sums.reduce(0, +)
      for draw in row * each..<(row + 1) * each {
        var goal = numbers[draw] * total
        var block = 0
        while block + 1 < sums.count && goal >= sums[block] {
          goal -= sums[block]
          block += 1
        }
        places[block].append((draw, sums[block] > 0 ? goal / sums[block] * blocks[block][row].sum : 0))
      }
    }
    var words = [Int](repeating: 0, count: numbers.count)
    for (block, draws) in places.enumerated() {
      for first in stride(from: 0, to: draws.count, by: rows) {
        let some = Array(draws[first..<min(draws.count, first + rows)])
        let found = find(some, rowOf: { $0 / each }, hidden, block: block, states: blocks[block], logits)
        for (draw, word) in zip(some, found) { words[draw.draw] = word }
      }
    }
    return words
  }

  private func find(
    _ draws: [(draw: Int, goal: Double)], rowOf: (Int) -> Int, _ hidden: UnsafePointer<Float>, block: Int,
    states: [Row], _ logits: AlignedBuffer<Float>
  ) -> [Int] {
    guard !draws.isEmpty else { return [] }
    let width = head.inFeatures
    let rows = draws.map { rowOf($0.draw) }
    let inputs = AlignedBuffer<Float>(count: draws.count * width)
    for (place, row) in rows.enumerated() {
      (inputs.pointer + place * width).update(from: hidden + row * width, count: width)
    }
    let first = block * FisherGradient.drawnBlock
    let words = first..<min(head.outFeatures, first + FisherGradient.drawnBlock)
    computeLogits(inputs.pointer, rows: draws.count, words: words, into: logits)
    let found = AlignedBuffer<Int>(count: draws.count)
    pool.runRanges(draws.count) { range in
      for place in range {
        found[place] =
          words.lowerBound
          + word(
            logits.pointer + place * words.count, count: words.count, goal: draws[place].goal,
            highest: states[rows[place]].highest)
      }
    }
    return found.array
  }

  /// The word at which the sum of exp(logit − highest) passes the goal.
  private func word(_ logits: UnsafePointer<Float>, count: Int, goal: Double, highest: Float) -> Int {
    var passed = 0.0
    for first in stride(from: 0, to: count, by: 64) {
      let some = min(64, count - first)
      let sum = pool.kernels.sumExp(logits + first, shift: highest, count: some)
      guard passed + sum > goal else {
        passed += sum
        continue
      }
      for word in first..<first + some {
        passed += exponential(logits[word] - highest)
        if passed > goal { return word }
      }
    }
    // Sums of another order may end a digit below the goal.
    return (0..<count).max { logits[$0] < logits[$1] } ?? 0
  }

  /// By the kernels, so that every machine draws the same.
  private func exponential(_ x: Float) -> Double {
    withUnsafePointer(to: x) { pool.kernels.sumExp($0, shift: 0, count: 1) }
  }

  private func update(_ state: inout [Row], _ body: @Sendable (Int, inout Row) -> Void) {
    state.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return }
      let rows = DisjointWrites(base)
      pool.runRanges(buffer.count) { range in
        for row in range { body(row, &(rows + row).pointee) }
      }
    }
  }

  /// Computes the logits of each block of words, `[rows, words of the block]`.
  private func forEachBlock(
    _ hidden: UnsafePointer<Float>, rows: Int, into logits: AlignedBuffer<Float>, _ body: (Range<Int>) -> Void
  ) {
    for first in stride(from: 0, to: head.outFeatures, by: FisherGradient.block) {
      let words = first..<min(head.outFeatures, first + FisherGradient.block)
      computeLogits(hidden, rows: rows, words: words, into: logits)
      body(words)
    }
  }

  private func computeLogits(
    _ hidden: UnsafePointer<Float>, rows: Int, words: Range<Int>, into logits: AlignedBuffer<Float>
  ) {
    LinearAlgebra.multiply(
      x: hidden, rows: rows, xRowStride: head.inFeatures, by: head.outputs(words), into: logits.pointer,
      yRowStride: words.count, arithmetic: arithmetic, pool: pool)
    guard bias != nil || logitScale != 1 else { return }
    let line = DisjointWrites(logits.pointer)
    pool.runRanges(rows, grain: 8) { range in
      for row in range {
        if let bias {
          pool.kernels.add(
            line + row * words.count, bias.pointer + words.lowerBound, count: words.count)
        }
        pool.kernels.scale(line + row * words.count, by: logitScale, count: words.count)
      }
    }
  }
}
