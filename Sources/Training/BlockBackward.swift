import Architecture
import Compute
import Tensors
import Transformer

/// One block backwards over some sequences: recomputes its activations from its input, then brings the gradient of its output to its
/// input and shows those of the projections' outputs on the way.
package struct BlockBackward {
  package let steps: BackwardSteps
  private let work: Buffers

  /// Working memory for `rows` tokens.
  private final class Buffers {
    let normed, middle, qkv, attention, dAttention, dQKV, gate, up, inner: AlignedBuffer<Float>
    let rows: Int

    init(_ c: DecoderConfiguration, rows: Int) {
      self.rows = rows
      func buffer(_ width: Int) -> AlignedBuffer<Float> { AlignedBuffer(count: rows * width) }
      normed = buffer(c.hiddenSize)
      middle = buffer(c.hiddenSize)
      qkv = buffer(c.qkvWidth)
      attention = buffer(c.attentionWidth)
      dAttention = buffer(c.attentionWidth)
      dQKV = buffer(c.qkvWidth)
      gate = buffer(c.intermediateSize)
      up = buffer(c.intermediateSize)
      inner = buffer(max(c.hiddenSize, c.intermediateSize))
    }
  }

  /// Floats of working memory for a token.
  package static func floatsOfRow(_ c: DecoderConfiguration) -> Int {
    2 * c.hiddenSize + 2 * c.qkvWidth + 2 * c.attentionWidth + 2 * c.intermediateSize
      + max(c.hiddenSize, c.intermediateSize)
  }

  /// - Parameter rows: the most tokens of a run.
  package init(_ steps: BackwardSteps, rows: Int) {
    self.steps = steps
    work = Buffers(steps.configuration, rows: rows)
  }

  /// Gets a projection, the gradient of its output, and how many floats lie from one row of that to the next.
  package typealias Tap = (ModuleKind, UnsafePointer<Float>, Int) throws -> Void

  /// - Parameters:
  ///   - x: the block's input, `[rows, hiddenSize]`, untouched.
  ///   - gradient: of the block's output; becomes that of its input.
  ///   - sequences: whole, from position 0, with caches that have room for them.
  package func run(
    _ weights: BackwardWeights, index: Int, x: UnsafePointer<Float>, sequences: [SequenceSlice],
    gradient: UnsafeMutablePointer<Float>, tap: Tap
  ) rethrows {
    let c = steps.configuration
    let rows = sequences.map { $0.firstRow + $0.rowCount }.max() ?? 0
    precondition(rows <= work.rows, "the working memory is for \(work.rows) rows, there are \(rows)")
    recompute(weights.layer, index: index, x: x, rows: rows, sequences: sequences)
    let (hidden, inner) = (c.hiddenSize, c.intermediateSize)

    try tap(.down, gradient, hidden)
    project(gradient, rowStride: hidden, rows, .down, weights, into: work.inner.pointer)
    steps.activate(work.inner.pointer, gate: work.gate.pointer, up: work.up.pointer, rows: rows)
    try tap(.gate, work.gate.pointer, inner)
    try tap(.up, work.up.pointer, inner)
    let dNormed = work.normed.pointer
    project(work.gate.pointer, rowStride: inner, rows, .gate, weights, into: dNormed)
    project(work.up.pointer, rowStride: inner, rows, .up, weights, into: work.inner.pointer)
    steps.forward.addResidual(work.inner.pointer, rows: rows, to: dNormed)
    steps.normalize(
      dNormed, x: work.middle.pointer, weight: weights.layer.postAttentionNorm, rows: rows, addingTo: gradient
    )

    try tap(.attentionOutput, gradient, hidden)
    project(gradient, rowStride: hidden, rows, .attentionOutput, weights, into: work.dAttention.pointer)
    steps.attend(
      work.qkv.pointer, out: work.attention.pointer, dOut: work.dAttention.pointer, sequences: sequences,
      into: work.dQKV.pointer)
    var first = 0
    for kind in weights.layer.attentionInputs {
      let gradient = work.dQKV.pointer + first
      try tap(kind, gradient, c.qkvWidth)
      let target = first == 0 ? dNormed : work.inner.pointer
      project(gradient, rowStride: c.qkvWidth, rows, kind, weights, into: target)
      if first > 0 { steps.forward.addResidual(target, rows: rows, to: dNormed) }
      first += weights.layer[kind].outFeatures
    }
    steps.normalize(dNormed, x: x, weight: weights.layer.inputNorm, rows: rows, addingTo: gradient)
  }

  /// The block up to gate and up: what closes it has no part in the gradients of activations.
  private func recompute(
    _ layer: DecoderLayer, index: Int, x: UnsafePointer<Float>, rows: Int, sequences: [SequenceSlice]
  ) {
    let forward = steps.forward
    let c = steps.configuration
    forward.normalize(x, weight: layer.inputNorm, rows: rows, into: work.normed.pointer)
    forward.projectQKV(work.normed.pointer, rows: rows, projection: layer.qkv, into: work.qkv.pointer)
    forward.attend(work.qkv.pointer, sequences: sequences, layer: index, into: work.attention.pointer)
    layer.o.apply(
      work.attention.pointer, rows: rows, into: work.middle.pointer, yRowStride: c.hiddenSize,
      pool: steps.pool
    )
    forward.addResidual(x, rows: rows, to: work.middle.pointer)
    forward.normalize(
      work.middle.pointer, weight: layer.postAttentionNorm, rows: rows, into: work.normed.pointer)
    Linear.apply(
      [
        (layer.gate, work.gate.pointer, c.intermediateSize), (layer.up, work.up.pointer, c.intermediateSize),
      ],
      to: work.normed.pointer, rows: rows, pool: steps.pool)
  }

  private func project(
    _ dy: UnsafePointer<Float>, rowStride: Int, _ rows: Int, _ kind: ModuleKind, _ weights: BackwardWeights,
    into dx: UnsafeMutablePointer<Float>
  ) {
    steps.project(
      dy, rowStride: rowStride, rows: rows, by: weights(kind), arithmetic: weights.arithmetic, into: dx)
  }
}
