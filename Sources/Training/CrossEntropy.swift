import Compute
import Foundation
import Tensors
import Transformer

/// The cross-entropy of a language model's head and its gradient, over a large vocabulary in blocks: logits exist for some tokens and
/// some of the vocabulary at a time, and are computed twice.
package struct CrossEntropy {
  private let head: WeightMatrix
  private let bias: AlignedBuffer<Float>?
  private let logitScale: Float
  private let arithmetic: FloatArithmetic
  private let pool: WorkerPool

  /// Words of a block: whole panels.
  private static let block = 4096

  /// - Parameters:
  ///   - head: `[vocabulary, hiddenSize]`, frozen; a matrix of floats.
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

  /// What each token should be followed by.
  package enum Targets {
    /// Nil: the token does not count.
    case words([Int?])
    /// A word drawn from the model's own distribution, by a number in [0, 1) for each token: its gradient is then one of the model's
    /// Fisher information.
    case sampled([Double])
  }

  /// Floats of working memory for `rows` tokens.
  package static func workingFloats(rows: Int, hiddenSize: Int) -> Int {
    (rows + hiddenSize) * block + 2 * rows * hiddenSize + block * hiddenSize
  }

  /// - Parameters:
  ///   - hidden: `[rows, hiddenSize]`, after the final norm.
  ///   - gradient: of the sum of the tokens' losses with respect to `hidden`; written.
  /// - Returns: the loss of each token in nats; 0 for one that does not count.
  package func backward(
    _ hidden: UnsafePointer<Float>, rows: Int, targets: Targets, gradient: UnsafeMutablePointer<Float>
  ) -> [Double] {
    let width = head.inFeatures
    let logits = AlignedBuffer<Float>(count: rows * min(CrossEntropy.block, head.outFeatures))
    var state = [Row](repeating: Row(), count: rows)
    forEachBlock(hidden, rows: rows, into: logits) { words in
      update(&state) { row, state in
        let line = logits.pointer + row * words.count
        let highest = pool.kernels.maximum(line, count: words.count)
        if highest > state.highest {
          state.sum *= state.sum > 0 ? exponential(state.highest - highest) : 1
          state.highest = highest
        }
        state.sum += pool.kernels.sumExp(line, shift: state.highest, count: words.count)
      }
    }
    gradient.update(repeating: 0, count: rows * width)
    let part = AlignedBuffer<Float>(count: rows * width)
    forEachBlock(hidden, rows: rows, into: logits) { words in
      update(&state) { row, state in
        let line = logits.pointer + row * words.count
        differentiate(line, words: words, row: row, targets: targets, &state)
      }
      LinearAlgebra.multiply(
        x: logits.pointer, rows: rows, xRowStride: words.count,
        by: head.outputs(words).transposed(pool: pool), into: part.pointer, yRowStride: width,
        arithmetic: arithmetic, pool: pool)
      let (to, from) = (DisjointWrites(gradient), SharedPointer(part.pointer))
      pool.runRanges(rows * width, grain: 1024) { range in
        pool.kernels.add(to + range.lowerBound, from + range.lowerBound, count: range.count)
      }
    }
    return state.map(\.loss)
  }

  /// What is known of a token.
  private struct Row {
    var highest = -Float.infinity
    /// Σ exp(logit − highest)
    var sum = 0.0
    /// Of the words before the block, as `sum`.
    var passed = 0.0
    var isDrawn = false
    var loss = 0.0
  }

  /// Logits of a block → the gradient with respect to what the head gives.
  private func differentiate(
    _ line: UnsafeMutablePointer<Float>, words: Range<Int>, row: Int, targets: Targets, _ state: inout Row
  ) {
    let target: Int?
    switch targets {
    case .words(let all):
      guard let word = all[row] else { return line.update(repeating: 0, count: words.count) }
      target = words.contains(word) ? word - words.lowerBound : nil
    case .sampled(let numbers):
      target = draw(
        line, count: words.count, number: numbers[row], isLast: words.upperBound == head.outFeatures, &state)
    }
    if let target {
      state.loss = Double(state.highest) + log(state.sum) - Double(line[target])
    }
    _ = pool.kernels.expSum(line, shift: state.highest, count: words.count)
    pool.kernels.scale(line, by: Float(Double(logitScale) / state.sum), count: words.count)
    if let target { line[target] -= logitScale }
  }

  /// The word in whose part of [0, 1) the number is, if it is of this block.
  private func draw(
    _ logits: UnsafePointer<Float>, count: Int, number: Double, isLast: Bool, _ state: inout Row
  ) -> Int? {
    guard !state.isDrawn else { return nil }
    let goal = number * state.sum
    let before = state.passed
    state.passed += pool.kernels.sumExp(logits, shift: state.highest, count: count)
    guard isLast || state.passed > goal else { return nil }
    state.isDrawn = true
    var passed = before
    for first in stride(from: 0, to: count, by: 64) {
      let some = min(64, count - first)
      let sum = pool.kernels.sumExp(logits + first, shift: state.highest, count: some)
      guard passed + sum > goal else {
        passed += sum
        continue
      }
      for word in first..<first + some {
        passed += exponential(logits[word] - state.highest)
        if passed > goal { return word }
      }
    }
    // Sums of another order may end a digit below the goal.
    return (0..<count).max { logits[$0] < logits[$1] }
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
    for first in stride(from: 0, to: head.outFeatures, by: CrossEntropy.block) {
      let words = first..<min(head.outFeatures, first + CrossEntropy.block)
      LinearAlgebra.multiply(
        x: hidden, rows: rows, xRowStride: head.inFeatures, by: head.outputs(words), into: logits.pointer,
        yRowStride: words.count, arithmetic: arithmetic, pool: pool)
      let line = DisjointWrites(logits.pointer)
      pool.runRanges(rows, grain: 8) { range in
        for row in range {
          if let bias {
            pool.kernels.add(line + row * words.count, bias.pointer + first, count: words.count)
          }
          if logitScale != 1 {
            pool.kernels.scale(line + row * words.count, by: logitScale, count: words.count)
          }
        }
      }
      body(words)
    }
  }
}
