import Architecture
import Compute
import Tensors
import Transformer

/// One block with its LoRA updates, forward and backward. The backward pass starts from the block's input and from activations that
/// were kept in the forward pass or are computed again from it, to the same bits.
final class TrainingBlock {
  /// What the backward pass needs of a forward pass beside the input.
  final class Activations {
    /// Rotated queries and keys, and values: `[rows, qkvWidth]`.
    let qkv: AlignedBuffer<Float>
    /// `[rows, attentionWidth]`
    let attention: AlignedBuffer<Float>
    /// The residual stream between attention and feed-forward: `[rows, hiddenSize]`.
    let middle: AlignedBuffer<Float>
    /// `[rows, intermediateSize]` each, before the activation.
    let gate, up: AlignedBuffer<Float>
    /// scale · x · Aᵀ of each update, one after the other: `[rows, rank]` each.
    let narrow: AlignedBuffer<Float>

    init(_ c: DecoderConfiguration, rows: Int, ranks: Int) {
      qkv = AlignedBuffer(count: rows * c.qkvWidth)
      attention = AlignedBuffer(count: rows * c.attentionWidth)
      middle = AlignedBuffer(count: rows * c.hiddenSize)
      gate = AlignedBuffer(count: rows * c.intermediateSize)
      up = AlignedBuffer(count: rows * c.intermediateSize)
      narrow = AlignedBuffer(count: max(1, rows * ranks))
    }

    static func floatsOfRow(_ c: DecoderConfiguration, ranks: Int) -> Int {
      c.qkvWidth + c.attentionWidth + c.hiddenSize + 2 * c.intermediateSize + ranks
    }
  }

  /// A layer at one state of its adapter.
  struct Layer {
    let index: Int
    let weights: DecoderLayer
    let updates: [PreparedUpdate]
    /// Of norms that are trained.
    let inputNorm, postAttentionNorm: Parameter?
  }

  let steps: BackwardSteps
  let scale: Float
  let rows: Int
  private let arithmetic: FloatArithmetic
  private let normed, dNormed, inner, dInner, dAttention, dQKV: AlignedBuffer<Float>
  private let dNarrow, dropped: AlignedBuffer<Float>
  private var configuration: DecoderConfiguration { steps.configuration }
  private var pool: WorkerPool { steps.pool }

  /// - Parameters:
  ///   - rows: the most tokens of a run.
  ///   - scale: of B · A.
  init(
    _ steps: BackwardSteps, rows: Int, rank: Int, scale: Float, dropsOut: Bool, arithmetic: FloatArithmetic
  ) {
    self.steps = steps
    self.rows = rows
    self.scale = scale
    self.arithmetic = arithmetic
    let c = steps.configuration
    func buffer(_ width: Int) -> AlignedBuffer<Float> { AlignedBuffer(count: max(1, rows * width)) }
    normed = buffer(c.hiddenSize)
    dNormed = buffer(c.hiddenSize)
    inner = buffer(c.intermediateSize)
    dInner = buffer(max(c.hiddenSize, c.intermediateSize))
    dAttention = buffer(c.attentionWidth)
    dQKV = buffer(c.qkvWidth)
    dNarrow = buffer(rank)
    dropped = buffer(dropsOut ? max(c.hiddenSize, c.attentionWidth, c.intermediateSize) : 0)
  }

  /// Floats of working memory for a token.
  static func floatsOfRow(_ c: DecoderConfiguration, rank: Int, dropsOut: Bool) -> Int {
    2 * c.hiddenSize + c.intermediateSize + max(c.hiddenSize, c.intermediateSize) + c.attentionWidth
      + c.qkvWidth + rank + (dropsOut ? max(c.hiddenSize, c.attentionWidth, c.intermediateSize) : 0)
  }

  // MARK: Forward

  /// - Parameters:
  ///   - x: the block's input, `[rows, hiddenSize]`, untouched.
  ///   - output: `[rows, hiddenSize]`; nil: the block is computed for its activations only.
  ///   - dropout: nil: nothing is dropped.
  func forward(
    _ layer: Layer, x: UnsafePointer<Float>, sequences: [SequenceSlice], dropout: Dropout?,
    into kept: Activations, output: UnsafeMutablePointer<Float>?
  ) {
    let c = configuration
    let weights = layer.weights
    let forward = steps.forward
    let count = sequences.map { $0.firstRow + $0.rowCount }.max() ?? 0
    precondition(count <= rows, "the working memory is for \(rows) rows, there are \(count)")
    forward.normalize(x, weight: weights.inputNorm, rows: count, into: normed.pointer)
    forward.projectQKV(normed.pointer, rows: count, projection: weights.qkv, into: kept.qkv.pointer)
    var first = 0
    for kind in weights.attentionInputs {
      add(layer, kind, normed, count, dropout, kept, to: kept.qkv.pointer + first, rowStride: c.qkvWidth)
      first += weights[kind].outFeatures
    }
    forward.attend(
      kept.qkv.pointer, sequences: sequences, layer: layer.index, into: kept.attention.pointer)
    weights.o.apply(
      kept.attention.pointer, rows: count, into: kept.middle.pointer, yRowStride: c.hiddenSize, pool: pool)
    add(
      layer, .attentionOutput, kept.attention, count, dropout, kept, to: kept.middle.pointer,
      rowStride: c.hiddenSize)
    forward.addResidual(x, rows: count, to: kept.middle.pointer)
    forward.normalize(
      kept.middle.pointer, weight: weights.postAttentionNorm, rows: count, into: normed.pointer)
    let width = c.intermediateSize
    Linear.apply(
      [(weights.gate, kept.gate.pointer, width), (weights.up, kept.up.pointer, width)], to: normed.pointer,
      rows: count, pool: pool)
    add(layer, .gate, normed, count, dropout, kept, to: kept.gate.pointer, rowStride: width)
    add(layer, .up, normed, count, dropout, kept, to: kept.up.pointer, rowStride: width)
    let ofDown = layer.updates.contains { $0.update.kind == .down }
    guard output != nil || ofDown else { return }
    forward.activate(
      gate: kept.gate.pointer, up: kept.up.pointer, rows: count, into: inner.pointer)
    if let output {
      weights.down.apply(
        inner.pointer, rows: count, into: output, yRowStride: c.hiddenSize, pool: pool)
    }
    add(layer, .down, inner, count, dropout, kept, to: output, rowStride: c.hiddenSize)
    if let output { forward.addResidual(kept.middle.pointer, rows: count, to: output) }
  }

  /// y += scale · dropout(x) · Aᵀ · Bᵀ for each update of the projection.
  /// - Parameter y: nil: only x · Aᵀ is wanted.
  private func add(
    _ layer: Layer, _ kind: ModuleKind, _ x: AlignedBuffer<Float>, _ count: Int, _ dropout: Dropout?,
    _ kept: Activations, to y: UnsafeMutablePointer<Float>?, rowStride: Int
  ) {
    for (place, update) in layer.updates.enumerated() where update.update.kind == kind {
      let h = narrow(place, layer, kept, count)
      let input = self.input(x, update, count, dropout)
      LowRankProducts.multiply(
        x: input, xRowStride: update.inputs, rows: count, k: update.inputs, b: update.a, n: update.rank,
        into: h, pool: pool)
      pool.kernels.scale(h, by: scale, count: count * update.rank)
      guard let y else { continue }
      LinearAlgebra.gemm(
        m: count, n: update.outputs, k: update.rank, a: h, aRowStride: update.rank, aKStride: 1,
        bPanels: update.b.pointer, bPanelStride: update.rank * panelWidth, c: y, cRowStride: rowStride,
        cPanelStride: panelWidth, mode: .add, pool: pool)
    }
  }

  private func narrow(_ place: Int, _ layer: Layer, _ kept: Activations, _ count: Int)
    -> UnsafeMutablePointer<Float>
  {
    kept.narrow.pointer + layer.updates[..<place].reduce(0) { $0 + $1.rank } * count
  }

  /// What A is multiplied with.
  private func input(
    _ x: AlignedBuffer<Float>, _ update: PreparedUpdate, _ count: Int, _ dropout: Dropout?
  ) -> UnsafePointer<Float> {
    guard let dropout else { return UnsafePointer(x.pointer) }
    dropout.apply(
      x.pointer, rows: count, width: update.inputs, number: update.update.number, into: dropped.pointer,
      pool: pool)
    return UnsafePointer(dropped.pointer)
  }

  // MARK: Backward

  /// - Parameters:
  ///   - x: the block's input.
  ///   - kept: of a forward pass with the same input; `gate` and `up` are overwritten.
  ///   - gradient: of the block's output; becomes that of its input.
  func backward(
    _ layer: Layer, x: UnsafePointer<Float>, sequences: [SequenceSlice], dropout: Dropout?,
    kept: Activations, gradient: UnsafeMutablePointer<Float>
  ) {
    let c = configuration
    let weights = layer.weights
    let forward = steps.forward
    let count = sequences.map { $0.firstRow + $0.rowCount }.max() ?? 0
    let (hidden, width) = (c.hiddenSize, c.intermediateSize)

    project(gradient, rowStride: hidden, count, weights.down, into: dInner.pointer)
    if layer.updates.contains(where: { $0.update.kind == .down }) {
      forward.activate(
        gate: kept.gate.pointer, up: kept.up.pointer, rows: count, into: inner.pointer)
      back(layer, .down, inner, count, dropout, kept, dy: gradient, rowStride: hidden, to: dInner.pointer)
    }
    steps.activate(dInner.pointer, gate: kept.gate.pointer, up: kept.up.pointer, rows: count)
    forward.normalize(
      kept.middle.pointer, weight: weights.postAttentionNorm, rows: count, into: normed.pointer)
    project(kept.gate.pointer, rowStride: width, count, weights.gate, into: dNormed.pointer)
    project(kept.up.pointer, rowStride: width, count, weights.up, into: dInner.pointer)
    forward.addResidual(dInner.pointer, rows: count, to: dNormed.pointer)
    for (kind, dy) in [(ModuleKind.gate, kept.gate), (.up, kept.up)] {
      back(layer, kind, normed, count, dropout, kept, dy: dy.pointer, rowStride: width, to: dNormed.pointer)
    }
    if let norm = layer.postAttentionNorm {
      steps.addNormGradient(dNormed.pointer, x: kept.middle.pointer, rows: count, to: norm.gradient)
    }
    steps.normalize(
      dNormed.pointer, x: kept.middle.pointer, weight: weights.postAttentionNorm, rows: count,
      addingTo: gradient)

    project(gradient, rowStride: hidden, count, weights.o, into: dAttention.pointer)
    back(
      layer, .attentionOutput, kept.attention, count, dropout, kept, dy: gradient, rowStride: hidden,
      to: dAttention.pointer)
    steps.attend(
      kept.qkv.pointer, out: kept.attention.pointer, dOut: dAttention.pointer, sequences: sequences,
      into: dQKV.pointer)
    forward.normalize(x, weight: weights.inputNorm, rows: count, into: normed.pointer)
    var first = 0
    for kind in weights.attentionInputs {
      let target = first == 0 ? dNormed.pointer : dInner.pointer
      project(dQKV.pointer + first, rowStride: c.qkvWidth, count, weights[kind], into: target)
      if first > 0 { forward.addResidual(target, rows: count, to: dNormed.pointer) }
      first += weights[kind].outFeatures
    }
    first = 0
    for kind in weights.attentionInputs {
      back(
        layer, kind, normed, count, dropout, kept, dy: dQKV.pointer + first, rowStride: c.qkvWidth,
        to: dNormed.pointer)
      first += weights[kind].outFeatures
    }
    if let norm = layer.inputNorm {
      steps.addNormGradient(dNormed.pointer, x: x, rows: count, to: norm.gradient)
    }
    steps.normalize(dNormed.pointer, x: x, weight: weights.inputNorm, rows: count, addingTo: gradient)
  }

  private func project(
    _ dy: UnsafePointer<Float>, rowStride: Int, _ count: Int, _ linear: Linear,
    into dx: UnsafeMutablePointer<Float>
  ) {
    steps.project(
      dy, rowStride: rowStride, rows: count, by: linear.weight, arithmetic: arithmetic, into: dx)
  }

  /// Through the updates of a projection: with h = scale · x · Aᵀ, dB += dyᵀ · h, dh = scale · dy · B, dA += dhᵀ · x,
  /// dx += dh · A.
  private func back(
    _ layer: Layer, _ kind: ModuleKind, _ x: AlignedBuffer<Float>, _ count: Int, _ dropout: Dropout?,
    _ kept: Activations, dy: UnsafePointer<Float>, rowStride: Int, to dx: UnsafeMutablePointer<Float>
  ) {
    for (place, update) in layer.updates.enumerated() where update.update.kind == kind {
      let h = narrow(place, layer, kept, count)
      let (rank, dh) = (update.rank, dNarrow.pointer)
      addGradientOfB(update, h: h, dy: dy, rowStride: rowStride, count)
      LowRankProducts.multiply(
        x: dy, xRowStride: rowStride, rows: count, k: update.outputs, b: update.bTransposed, n: rank,
        into: dh,
        pool: pool)
      pool.kernels.scale(dh, by: scale, count: count * rank)
      let input = self.input(x, update, count, dropout)
      LowRankProducts.addGram(
        left: dh, rank: rank, right: input, rightRowStride: update.inputs, width: update.inputs, rows: count,
        to: update.update.a.gradient.pointer, pool: pool)
      let target = dropout == nil ? dx : dropped.pointer
      LinearAlgebra.gemm(
        m: count, n: update.inputs, k: rank, a: dh, aRowStride: rank, aKStride: 1,
        bPanels: update.aTransposed.pointer, bPanelStride: rank * panelWidth, c: target,
        cRowStride: update.inputs, cPanelStride: panelWidth, mode: dropout == nil ? .add : .overwrite,
        pool: pool)
      dropout?.apply(
        dropped.pointer, rows: count, width: update.inputs, number: update.update.number, into: dx,
        adding: true, pool: pool)
    }
  }

  private func addGradientOfB(
    _ update: PreparedUpdate, h: UnsafePointer<Float>, dy: UnsafePointer<Float>, rowStride: Int, _ count: Int
  ) {
    let (rank, outputs) = (update.rank, update.outputs)
    let transposed = AlignedBuffer<Float>(zeros: rank * outputs)
    LowRankProducts.addGram(
      left: h, rank: rank, right: dy, rightRowStride: rowStride, width: outputs, rows: count,
      to: transposed.pointer, pool: pool)
    let gradient = update.update.b.gradient
    for row in 0..<update.update.b.shape[0] {
      let output = update.update.rows?[row] ?? row
      for column in 0..<rank {
        gradient[row * rank + column] += transposed[column * outputs + output]
      }
    }
  }
}
