import Transformer

/// Which input of a block a Hessian is built from. The modules of one stage read the same input and share the Hessian.
package enum LayerStage: Int, CaseIterable, Sendable {
  /// Normed hidden states → queries, keys, values.
  case qkv
  /// Attention's output → o.
  case o
  /// Normed hidden states → gate and up.
  case gateUp
  /// silu(gate) · up → down.
  case down

  package func inFeatures(_ c: DecoderConfiguration) -> Int {
    switch self {
    case .qkv, .gateUp: c.hiddenSize
    case .o: c.attentionWidth
    case .down: c.intermediateSize
    }
  }
}

/// Runs one block over all calibration tokens, stopping before each stage.
///
/// AutoGPTQ runs the whole block once per stage with hooks and once more for its output. The stages depend only on what
/// lies before them, so one pass suffices: norm → X₁ | qkv, attention → X₂ | o, residual, norm → X₃ | gate, up, SwiGLU → X₄ |
/// down, residual. What `replace` returns for a stage is what the following ones see.
package struct StagedLayer {
  package let steps: LayerSteps
  package let activations: CalibrationActivations

  package init(steps: LayerSteps, activations: CalibrationActivations) {
    self.steps = steps
    self.activations = activations
  }

  /// Brings `activations.hidden` from the block's input to its output.
  ///
  /// - Parameters:
  ///   - needsOutput: false leaves `activations.hidden` before the down projection is added.
  ///   - layer: the block's weights; `replace` may change those of the stage it is called for.
  ///   - observe: gets the input of each stage, chunk by chunk: pointer, rows; row width `stage.inFeatures`. Nil when only
  ///     the forward pass is wanted.
  ///   - replace: called when all chunks of a stage have been observed.
  package func run(
    _ layer: inout DecoderLayer, index: Int, needsOutput: Bool = true,
    observe: ((LayerStage, UnsafePointer<Float>, Int) throws -> Void)?,
    replace: (LayerStage, inout DecoderLayer) throws -> Void
  ) throws {
    let a = activations
    let c = a.configuration
    let pool = steps.pool
    let work = a.work
    func hidden(_ chunk: CalibrationActivations.Chunk) -> UnsafeMutablePointer<Float> {
      a.hidden.pointer + chunk.firstRow * c.hiddenSize
    }

    if let observe {
      for chunk in a.chunks {
        steps.normalize(hidden(chunk), weight: layer.inputNorm, rows: chunk.rows, into: work.normed.pointer)
        try observe(.qkv, work.normed.pointer, chunk.rows)
      }
    }
    try replace(.qkv, &layer)

    for chunk in a.chunks {
      let attention = a.inner.pointer + chunk.firstRow * c.attentionWidth
      steps.normalize(hidden(chunk), weight: layer.inputNorm, rows: chunk.rows, into: work.normed.pointer)
      steps.projectQKV(work.normed.pointer, rows: chunk.rows, projection: layer.qkv, into: work.qkv.pointer)
      steps.attend(work.qkv.pointer, sequences: chunk.slices, layer: index, into: attention)
      try observe?(.o, attention, chunk.rows)
    }
    try replace(.o, &layer)

    for chunk in a.chunks {
      let attention = a.inner.pointer + chunk.firstRow * c.attentionWidth
      layer.o.apply(
        attention, rows: chunk.rows, into: work.normed.pointer, yRowStride: c.hiddenSize, pool: pool)
      steps.addResidual(work.normed.pointer, rows: chunk.rows, to: hidden(chunk))
      if let observe {
        steps.normalize(
          hidden(chunk), weight: layer.postAttentionNorm, rows: chunk.rows, into: work.normed.pointer)
        try observe(.gateUp, work.normed.pointer, chunk.rows)
      }
    }
    try replace(.gateUp, &layer)

    for chunk in a.chunks {
      let product = a.inner.pointer + chunk.firstRow * c.intermediateSize
      steps.normalize(
        hidden(chunk), weight: layer.postAttentionNorm, rows: chunk.rows, into: work.normed.pointer)
      layer.gate.apply(
        work.normed.pointer, rows: chunk.rows, into: product, yRowStride: c.intermediateSize, pool: pool)
      layer.up.apply(
        work.normed.pointer, rows: chunk.rows, into: work.up.pointer, yRowStride: c.intermediateSize,
        pool: pool)
      steps.activate(gate: product, up: work.up.pointer, rows: chunk.rows, into: product)
      try observe?(.down, product, chunk.rows)
    }
    try replace(.down, &layer)
    guard needsOutput else { return }

    for chunk in a.chunks {
      let product = a.inner.pointer + chunk.firstRow * c.intermediateSize
      layer.down.apply(
        product, rows: chunk.rows, into: work.normed.pointer, yRowStride: c.hiddenSize, pool: pool)
      steps.addResidual(work.normed.pointer, rows: chunk.rows, to: hidden(chunk))
    }
  }
}
