import Architecture
import Compute

/// The steps of a decoder's block in the order of a forward pass. Inference runs all of them; calibration stops between them, to
/// look at what goes into each projection and to replace its weight; `BackwardSteps` of `Training` has their gradients.
package enum BlockStep: Int, CaseIterable, Sendable {
  /// normed = RMSNorm(x).
  case attentionNorm
  /// qkv = normed · Wᵀ + b.
  case queriesKeysValues
  /// attention = softmax(q · Kᵀ) · V, after rotation of q and k.
  case attention
  /// x += attention · Wᵀ + b.
  case attentionOutput
  /// normed = RMSNorm(x).
  case feedForwardNorm
  /// gate = normed · Wᵀ, up = normed · Wᵀ.
  case gateAndUp
  /// gate = silu(gate) · up.
  case activation
  /// x += gate · Wᵀ.
  case down

  /// The projections that the step multiplies with; nil: none.
  package var stage: TensorRule.Stage? {
    switch self {
    case .queriesKeysValues: .attentionInput
    case .attentionOutput: .attentionOutput
    case .gateAndUp: .feedForwardInput
    case .down: .feedForwardOutput
    case .attentionNorm, .attention, .feedForwardNorm, .activation: nil
    }
  }
}

/// Rows of activations on their way through a block, and the memory of its steps. Everything is row-major, one row a token.
package struct BlockRows {
  package var count: Int
  /// The sequences that the rows are, one after the other.
  package var sequences: [SequenceSlice]
  /// The residual stream: `[count, hiddenSize]`.
  package var x: UnsafeMutablePointer<Float>
  /// `[count, hiddenSize]`; also what the closing projections give before they are added to `x`.
  package var normed: UnsafeMutablePointer<Float>
  /// `[count, qkvWidth]`
  package var qkv: UnsafeMutablePointer<Float>
  /// `[count, attentionWidth]`
  package var attention: UnsafeMutablePointer<Float>
  /// `[count, intermediateSize]` each.
  package var gate: UnsafeMutablePointer<Float>
  package var up: UnsafeMutablePointer<Float>

  /// - Parameter work: holds at least `count` rows.
  package init(x: UnsafeMutablePointer<Float>, count: Int, sequences: [SequenceSlice], work: LayerBuffers) {
    precondition(count <= work.rows, "the working memory is for \(work.rows) rows, there are \(count)")
    self.count = count
    self.sequences = sequences
    self.x = x
    normed = work.normed.pointer
    qkv = work.qkv.pointer
    attention = work.attention.pointer
    gate = work.gate.pointer
    up = work.up.pointer
  }

  /// What goes into the projections of a stage.
  package func input(of stage: TensorRule.Stage) -> UnsafeMutablePointer<Float> {
    switch stage {
    case .attentionInput, .feedForwardInput: normed
    case .attentionOutput: attention
    case .feedForwardOutput: gate
    }
  }
}

extension LayerSteps {
  /// Runs one step of layer `index` on `rows`.
  package func run(_ step: BlockStep, of layer: DecoderLayer, index: Int, on rows: BlockRows) {
    let count = rows.count
    switch step {
    case .attentionNorm: normalize(rows.x, weight: layer.inputNorm, rows: count, into: rows.normed)
    case .queriesKeysValues:
      projectQKV(rows.normed, rows: count, projection: layer.qkv, into: rows.qkv)
      Linear.announce(layer.o, outputs: layer.o.outFeatures, pool: pool)
    case .attention: attend(rows.qkv, sequences: rows.sequences, layer: index, into: rows.attention)
    case .attentionOutput:
      project(rows.attention, rows: count, by: layer.o, addingTo: rows.x, through: rows.normed) {
        Linear.announce(layer.gate, outputs: layer.gate.outFeatures + layer.up.outFeatures, pool: pool)
      }
    case .feedForwardNorm:
      normalize(rows.x, weight: layer.postAttentionNorm, rows: count, into: rows.normed)
    case .gateAndUp:
      let width = configuration.intermediateSize
      Linear.apply(
        [(layer.gate, rows.gate, width), (layer.up, rows.up, width)], to: rows.normed, rows: count, pool: pool
      )
      Linear.announce(layer.down, outputs: layer.down.outFeatures, pool: pool)
    case .activation: activate(gate: rows.gate, up: rows.up, rows: count, into: rows.gate)
    case .down: project(rows.gate, rows: count, by: layer.down, addingTo: rows.x, through: rows.normed) {}
    }
  }

  /// Runs one step of layer `index` on rows of which parts have weights of their own.
  /// - Parameter parts: successive ranges of all rows.
  func run(
    _ step: BlockStep, of parts: [(layer: DecoderLayer, rows: Range<Int>)], index: Int, on rows: BlockRows
  ) {
    let hidden = configuration.hiddenSize
    func norm(_ weight: KeyPath<DecoderLayer, AlignedBuffer<Float>>) {
      for part in parts {
        let first = part.rows.lowerBound * hidden
        normalize(
          rows.x + first, weight: part.layer[keyPath: weight], rows: part.rows.count,
          into: rows.normed + first)
      }
    }
    func apply(
      _ input: UnsafePointer<Float>, _ projections: (DecoderLayer) -> [Linear.Projection]
    ) {
      Linear.apply(parts.map { ($0.rows, projections($0.layer)) }, to: input, pool: pool)
    }
    switch step {
    case .attentionNorm: norm(\.inputNorm)
    case .queriesKeysValues:
      apply(rows.normed) { projections($0.qkv, into: rows.qkv) }
    case .attentionOutput:
      apply(rows.attention) { [($0.o, rows.normed, hidden)] }
      addResidual(rows.normed, rows: rows.count, to: rows.x)
    case .feedForwardNorm: norm(\.postAttentionNorm)
    case .gateAndUp:
      let width = configuration.intermediateSize
      apply(rows.normed) { [($0.gate, rows.gate, width), ($0.up, rows.up, width)] }
    case .down:
      apply(rows.gate) { [($0.down, rows.normed, hidden)] }
      addResidual(rows.normed, rows: rows.count, to: rows.x)
    case .attention, .activation: run(step, of: parts[0].layer, index: index, on: rows)
    }
  }

  /// x += input · Wᵀ; `between` runs after the product, when waiting threads have time to read ahead.
  private func project(
    _ input: UnsafePointer<Float>, rows: Int, by linear: Linear, addingTo x: UnsafeMutablePointer<Float>,
    through product: UnsafeMutablePointer<Float>, between: () -> Void
  ) {
    linear.apply(input, rows: rows, into: product, yRowStride: configuration.hiddenSize, pool: pool)
    between()
    addResidual(product, rows: rows, to: x)
  }
}
