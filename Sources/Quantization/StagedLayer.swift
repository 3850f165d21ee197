import Architecture
import Transformer

/// Runs one block over all calibration tokens, stopping before each stage.
///
/// AutoGPTQ runs the whole block once per stage with hooks and once more for its output. The stages depend only on what
/// lies before them, so one pass suffices: norm → X₁ | qkv, attention → X₂ | o, residual, norm → X₃ | gate, up, SwiGLU → X₄ |
/// down, residual. What `replace` returns for a stage is what the following ones see.
package struct StagedLayer {
  package let steps: LayerSteps
  package let activations: CalibrationActivations
  /// Goes through the same steps in the float model, each chunk before the quantized one.
  let float: FloatStream?

  package init(steps: LayerSteps, activations: CalibrationActivations, float: FloatStream? = nil) {
    self.steps = steps
    self.activations = activations
    self.float = float
  }

  /// Gets a stage, the rows of a chunk before its projections, and the block as it is then.
  package typealias Observer = (TensorRule.Stage, BlockRows, DecoderLayer) throws -> Void

  /// Brings `activations.hidden` from the block's input to its output.
  ///
  /// - Parameters:
  ///   - needsOutput: false leaves `activations.hidden` before the down projection is added.
  ///   - layer: the block's weights; `replace` may change those of the stage it is called for.
  ///   - observe: gets the input of each stage, chunk by chunk. Nil when only the forward pass is wanted.
  ///   - endRound: called when the chunks of a round of shards have been observed, on every rank as often.
  ///   - replace: called when all chunks of a stage have been observed.
  package func run(
    _ layer: inout DecoderLayer, index: Int, needsOutput: Bool = true, observe: Observer?,
    endRound: (TensorRule.Stage, Int) throws -> Void = { _, _ in },
    replace: (TensorRule.Stage, inout DecoderLayer) throws -> Void
  ) throws {
    var pending: [BlockStep] = []
    for step in BlockStep.allCases {
      guard let stage = step.stage else {
        pending.append(step)
        continue
      }
      // Steps up to the stage's input. A norm whose output only observers read waits for the projection it belongs to.
      let endsInNorm = pending.last?.isNorm == true
      if observe != nil || !endsInNorm || pending.count > 1 {
        try pass(observe == nil && endsInNorm ? Array(pending.dropLast()) : pending, of: layer, index: index)
        {
          try observe?(stage, $0, $1)
        } endRound: {
          if observe != nil { try endRound(stage, $0) }
        }
      }
      try replace(stage, &layer)
      // The norm's output is working memory, so that it is computed again with the projection.
      pending = (endsInNorm ? [pending[pending.count - 1]] : []) + [step]
    }
    if needsOutput { pass(pending, of: layer, index: index, then: { _, _ in }, endRound: { _ in }) }
  }

  /// Runs the steps on every chunk.
  private func pass(
    _ list: [BlockStep], of layer: DecoderLayer, index: Int,
    then tap: (BlockRows, DecoderLayer) throws -> Void, endRound: (Int) throws -> Void
  ) rethrows {
    for (round, chunks) in activations.rounds.enumerated() {
      for chunk in activations.chunks[chunks] {
        float?.run(list, on: chunk, steps: steps, index: index)
        let rows = activations.rows(of: chunk)
        for step in list { steps.run(step, of: layer, index: index, on: rows) }
        try tap(rows, layer)
      }
      try endRound(round)
    }
  }
}

extension BlockStep {
  var isNorm: Bool { self == .attentionNorm || self == .feedForwardNorm }
}
