import Compute
import Foundation
import Tensors
import Transformer

/// The cross-entropy of a language model's head and its gradient with respect to what goes into the head. Logits exist for some tokens
/// at a time, in place of which their gradients come, so memory does not grow with tokens × vocabulary. Tokens that do not count are
/// left out.
package final class CrossEntropy {
  private let head: Linear
  private let logitScale: Float
  private let arithmetic: FloatArithmetic
  private let pool: WorkerPool
  /// Kept from one use to the next: the system clears fresh memory.
  private var work: Work?

  private struct Work {
    let rows: Int
    let logits, inputs, part: AlignedBuffer<Float>
    let losses: AlignedBuffer<Double>

    init(rows: Int, vocabulary: Int, width: Int) {
      self.rows = rows
      logits = AlignedBuffer(count: rows * vocabulary)
      inputs = AlignedBuffer(count: rows * width)
      part = AlignedBuffer(count: rows * width)
      losses = AlignedBuffer(count: rows)
    }
  }

  /// Bytes of the logits that exist at a time.
  private static let logitBytes = 64 << 20

  /// - Parameters:
  ///   - head: `[vocabulary, hiddenSize]`, frozen, in any form.
  ///   - logitScale: logits are multiplied with it.
  package init(
    head: Linear, logitScale: Float = 1, arithmetic: FloatArithmetic = .fp32, pool: WorkerPool = .shared
  ) {
    self.head = head
    self.logitScale = logitScale
    self.arithmetic = arithmetic
    self.pool = pool
  }

  /// Tokens whose logits exist at a time: enough for a product to reach its speed.
  package static func rowsAtOnce(vocabulary: Int) -> Int {
    max(48, min(1024, logitBytes / (4 * max(1, vocabulary)))) / 48 * 48
  }

  /// Floats of working memory for `rows` tokens.
  package static func workingFloats(rows: Int, hiddenSize: Int, vocabulary: Int) -> Int {
    min(rows, rowsAtOnce(vocabulary: vocabulary)) * (vocabulary + 2 * hiddenSize)
  }

  /// - Parameters:
  ///   - hidden: `[rows, hiddenSize]`, after the final norm.
  ///   - targets: the word that should follow each token; nil: the token does not count.
  ///   - factor: what the gradient is multiplied with.
  ///   - gradient: factor times that of the sum of the tokens' losses with respect to `hidden`; written; it may be `hidden`. Nil: only
  ///     losses are wanted.
  /// - Returns: the loss of each token in nats; 0 for one that does not count.
  package func backward(
    _ hidden: UnsafePointer<Float>, rows: Int, targets: [Int?], factor: Double = 1,
    gradient: UnsafeMutablePointer<Float>?
  ) -> [Double] {
    let width = head.inFeatures
    let vocabulary = head.outFeatures
    if let gradient {
      for row in 0..<rows where targets[row] == nil {
        (gradient + row * width).update(repeating: 0, count: width)
      }
    }
    let wanted = gradient == nil ? nil : factor
    var losses = [Double](repeating: 0, count: rows)
    let counted = (0..<rows).filter { targets[$0] != nil }
    let most = min(counted.count, CrossEntropy.rowsAtOnce(vocabulary: vocabulary))
    guard most > 0 else { return losses }
    let work: Work
    if let old = self.work, old.rows >= most {
      work = old
    } else {
      work = Work(rows: most, vocabulary: vocabulary, width: width)
      self.work = work
    }
    let (logits, inputs, part, found) = (work.logits, work.inputs, work.part, work.losses)
    let (head, logitScale, kernels) = (head, logitScale, pool.kernels)
    for first in stride(from: 0, to: counted.count, by: most) {
      let some = counted[first..<min(counted.count, first + most)]
      for (place, row) in some.enumerated() {
        (inputs.pointer + place * width).update(from: hidden + row * width, count: width)
      }
      LinearAlgebra.multiply(
        x: inputs.pointer, rows: some.count, xRowStride: width, by: head.weight, into: logits.pointer,
        yRowStride: vocabulary, arithmetic: arithmetic, pool: pool)
      let words = some.compactMap { targets[$0] }
      let lines = DisjointWrites(logits.pointer)
      pool.runRanges(some.count) { range in
        for place in range {
          found[place] = CrossEntropy.differentiate(
            lines + place * vocabulary, word: words[place], factor: wanted, head: head,
            logitScale: logitScale, kernels: kernels)
        }
      }
      for (place, row) in some.enumerated() { losses[row] = found[place] }
      guard let gradient else { continue }
      LinearAlgebra.multiply(
        dy: logits.pointer, rows: some.count, dyRowStride: vocabulary, byTransposeOf: head.weight,
        into: part.pointer, dxRowStride: width, arithmetic: arithmetic, pool: pool)
      for (place, row) in some.enumerated() {
        (gradient + row * width).update(from: part.pointer + place * width, count: width)
      }
    }
    return losses
  }

  /// What the head gives for one token → the gradient with respect to it, unless `factor` is nil.
  /// - Returns: the token's loss.
  private static func differentiate(
    _ line: UnsafeMutablePointer<Float>, word: Int, factor: Double?, head: Linear, logitScale: Float,
    kernels: Kernels
  ) -> Double {
    let count = head.outFeatures
    if let bias = head.bias { kernels.add(line, bias.pointer, count: count) }
    if logitScale != 1 { kernels.scale(line, by: logitScale, count: count) }
    let highest = kernels.maximum(line, count: count)
    let sum = kernels.sumExp(line, shift: highest, count: count)
    let loss = Double(highest) + log(sum) - Double(line[word])
    if let factor {
      let whole = factor * Double(logitScale)
      _ = kernels.expSum(line, shift: highest, count: count)
      kernels.scale(line, by: Float(whole / sum), count: count)
      line[word] -= Float(whole)
    }
    return loss
  }
}
