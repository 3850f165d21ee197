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
    /// scale · x · Aᵀ of each group of updates, one after the other: `[rows, rank]` each.
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
    let groups: [PreparedGroup]
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
  ///   - ranks: of a layer's updates, added.
  ///   - scale: of B · A.
  init(
    _ steps: BackwardSteps, rows: Int, ranks: Int, scale: Float, dropsOut: Bool, arithmetic: FloatArithmetic
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
    dNarrow = buffer(ranks)
    dropped = buffer(dropsOut ? max(c.hiddenSize, c.attentionWidth, c.intermediateSize) : 0)
  }

  /// Floats of working memory for a token.
  static func floatsOfRow(_ c: DecoderConfiguration, ranks: Int, dropsOut: Bool) -> Int {
    2 * c.hiddenSize + c.intermediateSize + max(c.hiddenSize, c.intermediateSize) + c.attentionWidth
      + c.qkvWidth + ranks + (dropsOut ? max(c.hiddenSize, c.attentionWidth, c.intermediateSize) : 0)
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
    add(
      layer, normed, count, dropout, kept,
      to: weights.attentionPlaces.map { ($0.kind, kept.qkv.pointer + $0.first, c.qkvWidth) })
    forward.attend(
      kept.qkv.pointer, sequences: sequences, layer: layer.index, into: kept.attention.pointer)
    weights.o.apply(
      kept.attention.pointer, rows: count, into: kept.middle.pointer, yRowStride: c.hiddenSize, pool: pool)
    add(
      layer, kept.attention, count, dropout, kept,
      to: [(.attentionOutput, kept.middle.pointer, c.hiddenSize)])
    forward.addResidual(x, rows: count, to: kept.middle.pointer)
    forward.normalize(
      kept.middle.pointer, weight: weights.postAttentionNorm, rows: count, into: normed.pointer)
    let width = c.intermediateSize
    Linear.apply(
      [(weights.gate, kept.gate.pointer, width), (weights.up, kept.up.pointer, width)], to: normed.pointer,
      rows: count, pool: pool)
    add(
      layer, normed, count, dropout, kept,
      to: [(.gate, kept.gate.pointer, width), (.up, kept.up.pointer, width)])
    let ofDown = layer.groups.contains { $0.kinds.contains(.down) }
    guard output != nil || ofDown else { return }
    forward.activate(
      gate: kept.gate.pointer, up: kept.up.pointer, rows: count, into: inner.pointer)
    if let output {
      weights.down.apply(
        inner.pointer, rows: count, into: output, yRowStride: c.hiddenSize, pool: pool)
    }
    add(layer, inner, count, dropout, kept, to: [(.down, output, c.hiddenSize)])
    if let output { forward.addResidual(kept.middle.pointer, rows: count, to: output) }
  }

  /// y += scale · dropout(x) · Aᵀ · Bᵀ for each update of the projections, which share x.
  /// - Parameter places: for each projection y and its row stride; nil: only x · Aᵀ is wanted.
  private func add(
    _ layer: Layer, _ x: AlignedBuffer<Float>, _ count: Int, _ dropout: Dropout?, _ kept: Activations,
    to places: [(kind: ModuleKind, y: UnsafeMutablePointer<Float>?, rowStride: Int)]
  ) {
    for (place, group) in layer.groups.enumerated()
    where places.contains(where: { group.kinds.contains($0.kind) }) {
      let h = narrow(place, layer, kept, count)
      LowRankProducts.multiply(
        x: input(x, group, count, dropout), xRowStride: group.inputs, rows: count, k: group.inputs,
        b: group.a, n: group.rank, into: h, cRowStride: group.rank, pool: pool)
      pool.kernels.scale(h, by: scale, count: count * group.rank)
      for member in group.members {
        guard let (_, target, rowStride) = places.first(where: { $0.kind == member.update.kind }),
          let target
        else { continue }
        LinearAlgebra.gemm(
          m: count, n: member.outputs, k: member.rank, a: h + member.first, aRowStride: group.rank,
          aKStride: 1, bPanels: member.b.pointer, bPanelStride: member.rank * panelWidth, c: target,
          cRowStride: rowStride, cPanelStride: panelWidth, mode: .add, pool: pool)
      }
    }
  }

  private func narrow(_ place: Int, _ layer: Layer, _ kept: Activations, _ count: Int)
    -> UnsafeMutablePointer<Float>
  {
    kept.narrow.pointer + layer.groups[..<place].reduce(0) { $0 + $1.rank } * count
  }

  /// What A is multiplied with.
  private func input(
    _ x: AlignedBuffer<Float>, _ group: PreparedGroup, _ count: Int, _ dropout: Dropout?
  ) -> UnsafePointer<Float> {
    guard let dropout else { return UnsafePointer(x.pointer) }
    dropout.apply(
      x.pointer, rows: count, width: group.inputs, number: group.number, into: dropped.pointer, pool: pool)
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
    if layer.groups.contains(where: { $0.kinds.contains(.down) }) {
      forward.activate(
        gate: kept.gate.pointer, up: kept.up.pointer, rows: count, into: inner.pointer)
      back(layer, inner, count, dropout, kept, from: [(.down, gradient, hidden)], to: dInner.pointer)
    }
    steps.activate(dInner.pointer, gate: kept.gate.pointer, up: kept.up.pointer, rows: count)
    forward.normalize(
      kept.middle.pointer, weight: weights.postAttentionNorm, rows: count, into: normed.pointer)
    project(kept.gate.pointer, rowStride: width, count, weights.gate, into: dNormed.pointer)
    project(kept.up.pointer, rowStride: width, count, weights.up, into: dInner.pointer)
    forward.addResidual(dInner.pointer, rows: count, to: dNormed.pointer)
    back(
      layer, normed, count, dropout, kept,
      from: [(.gate, kept.gate.pointer, width), (.up, kept.up.pointer, width)], to: dNormed.pointer)
    if let norm = layer.postAttentionNorm {
      steps.addNormGradient(dNormed.pointer, x: kept.middle.pointer, rows: count, to: norm.gradient)
    }
    steps.normalize(
      dNormed.pointer, x: kept.middle.pointer, weight: weights.postAttentionNorm, rows: count,
      addingTo: gradient)

    project(gradient, rowStride: hidden, count, weights.o, into: dAttention.pointer)
    back(
      layer, kept.attention, count, dropout, kept, from: [(.attentionOutput, gradient, hidden)],
      to: dAttention.pointer)
    steps.attend(
      kept.qkv.pointer, out: kept.attention.pointer, dOut: dAttention.pointer, sequences: sequences,
      into: dQKV.pointer)
    forward.normalize(x, weight: weights.inputNorm, rows: count, into: normed.pointer)
    for (kind, first) in weights.attentionPlaces {
      let target = first == 0 ? dNormed.pointer : dInner.pointer
      project(dQKV.pointer + first, rowStride: c.qkvWidth, count, weights[kind], into: target)
      if first > 0 { forward.addResidual(target, rows: count, to: dNormed.pointer) }
    }
    back(
      layer, normed, count, dropout, kept,
      from: weights.attentionPlaces.map { ($0.kind, dQKV.pointer + $0.first, c.qkvWidth) },
      to: dNormed.pointer)
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

  /// Through the updates of projections that share x: with h = scale · x · Aᵀ, dB += dyᵀ · h, dh = scale · dy · B, dA += dhᵀ · x,
  /// dx += dh · A.
  private func back(
    _ layer: Layer, _ x: AlignedBuffer<Float>, _ count: Int, _ dropout: Dropout?, _ kept: Activations,
    from places: [(kind: ModuleKind, dy: UnsafeMutablePointer<Float>, rowStride: Int)],
    to dx: UnsafeMutablePointer<Float>
  ) {
    for (place, group) in layer.groups.enumerated()
    where places.contains(where: { group.kinds.contains($0.kind) }) {
      let h = narrow(place, layer, kept, count)
      let (rank, dh) = (group.rank, dNarrow.pointer)
      for member in group.members {
        guard let (_, dy, rowStride) = places.first(where: { $0.kind == member.update.kind }) else {
          continue
        }
        addGradientOfB(member, h: h + member.first, hRowStride: rank, dy: dy, rowStride: rowStride, count)
        LowRankProducts.multiply(
          x: dy, xRowStride: rowStride, rows: count, k: member.outputs, b: member.bTransposed,
          n: member.rank, into: dh + member.first, cRowStride: rank, pool: pool)
      }
      pool.kernels.scale(dh, by: scale, count: count * rank)
      addGradientOfA(group, dh: dh, x: input(x, group, count, dropout), count)
      let target = dropout == nil ? dx : dropped.pointer
      LinearAlgebra.gemm(
        m: count, n: group.inputs, k: rank, a: dh, aRowStride: rank, aKStride: 1,
        bPanels: group.aTransposed.pointer, bPanelStride: rank * panelWidth, c: target,
        cRowStride: group.inputs, cPanelStride: panelWidth, mode: dropout == nil ? .add : .overwrite,
        pool: pool)
      dropout?.apply(
        dropped.pointer, rows: count, width: group.inputs, number: group.number, into: dx, adding: true,
        pool: pool)
    }
  }

  private func addGradientOfA(
    _ group: PreparedGroup, dh: UnsafePointer<Float>, x: UnsafePointer<Float>, _ count: Int
  ) {
    let sum = AlignedBuffer<Float>(zeros: group.rank * group.inputs)
    LowRankProducts.addGram(
      left: dh, leftRowStride: group.rank, rank: group.rank, right: x, rightRowStride: group.inputs,
      width: group.inputs, rows: count, to: sum.pointer, pool: pool)
    for member in group.members {
      pool.kernels.add(
        member.update.a.gradient.pointer, sum.pointer + member.first * group.inputs,
        count: member.rank * group.inputs)
    }
  }

  private func addGradientOfB(
    _ member: PreparedGroup.Member, h: UnsafePointer<Float>, hRowStride: Int, dy: UnsafePointer<Float>,
    rowStride: Int, _ count: Int
  ) {
    let (rank, outputs) = (member.rank, member.outputs)
    let transposed = AlignedBuffer<Float>(zeros: rank * outputs)
    LowRankProducts.addGram(
      left: h, leftRowStride: hRowStride, rank: rank, right: dy, rightRowStride: rowStride, width: outputs,
      rows: count, to: transposed.pointer, pool: pool)
    let gradient = member.update.b.gradient
    for row in 0..<member.update.b.shape[0] {
      let output = member.update.rows?[row] ?? row
      for column in 0..<rank {
        gradient[row * rank + column] += transposed[column * outputs + output]
      }
    }
  }
}
