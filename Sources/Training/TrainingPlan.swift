import Architecture
import Compute
import Models
import Tensors
import Transformer

/// How a training step is computed.
package struct TrainingSettings: Equatable, Sendable {
  /// What products with the frozen weights are computed from.
  package var arithmetic: FloatArithmetic
  /// Bytes that a training may take, the weights included. Nil: the least a step needs, or ``TrainingPlan/ordinaryBytes`` if that is
  /// more.
  package var memoryLimit: Int?
  /// A folder whose disk holds the inputs of the blocks; nil: memory.
  package var scratch: String?

  package init(arithmetic: FloatArithmetic = .fp32, memoryLimit: Int? = nil, scratch: String? = nil) {
    self.arithmetic = arithmetic
    self.memoryLimit = memoryLimit
    self.scratch = scratch
  }
}

/// What a training step takes.
///
/// The input of every block is kept (Chen et al., arXiv:1604.06174); what the backward pass needs beside it is computed again, or kept
/// for as many blocks as the memory allows. The results have the same bits either way.
package struct TrainingPlan: Equatable, Sendable {
  /// Without a limit, blocks keep their activations up to so many bytes in all.
  package static let ordinaryBytes = 1_400_000_000

  /// The most tokens of one forward and backward pass, and the longest sequence.
  package let tokens, longest: Int
  /// Stored weights, of which a released part counts once.
  package let weightBytes: Int
  /// Whether the pages of a block's weights are given back when it is done.
  package let releasesWeights: Bool
  /// Values, gradients and the optimizer's two moments of what is trained.
  package let parameterBytes: Int
  /// Inputs of all blocks, in memory or in the scratch folder.
  package let inputBytes: Int
  package let usesScratch: Bool
  /// What one block keeps.
  package let blockBytes: Int
  /// Blocks that keep their activations; the last ones.
  package let keptBlocks: Int
  package let blockCount: Int
  /// Everything else: the memory of one block's steps, of the head and of products.
  package let workBytes: Int

  /// Everything in memory.
  package var memoryBytes: Int {
    weightBytes + parameterBytes + (usesScratch ? 0 : inputBytes) + keptBlocks * blockBytes + workBytes
  }
  package var scratchBytes: Int { usesScratch ? inputBytes : 0 }
  /// Without kept activations.
  package var leastBytes: Int { memoryBytes - keptBlocks * blockBytes }

  /// - Parameters:
  ///   - tokens: of the largest pass; `longest`: of the longest sequence.
  ///   - residentBytes: of the stored weights.
  package init(
    builder: DecoderBuilder, adapter: TrainedAdapter, settings: TrainingSettings, tokens: Int, longest: Int,
    residentBytes: Int, pool: WorkerPool = .shared
  ) {
    let c = builder.configuration
    self.tokens = tokens
    self.longest = longest
    blockCount = c.layerCount
    usesScratch = settings.scratch != nil
    parameterBytes = adapter.parameters.reduce(0) { $0 + 16 * $1.count }
    inputBytes = 4 * tokens * c.hiddenSize * c.layerCount
    let ranks = adapter.ranksOfLayer
    blockBytes = 4 * tokens * TrainingBlock.Activations.floatsOfRow(c, ranks: ranks)
    let dropsOut = adapter.options.dropout > 0
    let ofRow =
      TrainingBlock.floatsOfRow(c, ranks: ranks, dropsOut: dropsOut)
      // The residual stream, its gradient, and keys and values of one layer.
      + 3 * c.hiddenSize + 2 * c.kvHeads * c.headDim
    let prepared = adapter.updates.filter { $0.layer == adapter.updates.first?.layer }.reduce(0) {
      $0
        + PreparedGroup.floatCount(
          rank: $1.a.shape[0], inputs: $1.a.shape[1],
          outputs: builder.index.shape(of: ModuleID($1.kind, layer: $1.layer)).out)
    }
    let head = CrossEntropy.workingFloats(
      rows: tokens, hiddenSize: c.hiddenSize, vocabulary: c.vocabularySize)
    let attention = pool.threadCount * BackwardSteps.attentionScratch(c, rows: longest)
    // Copies that products make of their sides.
    let products =
      min(LinearAlgebra.packedByteCount, 4 * tokens * max(c.hiddenSize, c.intermediateSize))
      + LinearAlgebra.roundedByteCount
    workBytes =
      blockBytes + 4 * (tokens * ofRow + prepared + max(head, attention)) + products + (48 << 20)
    let least = parameterBytes + (usesScratch ? 0 : inputBytes) + workBytes
    let limit = settings.memoryLimit
    releasesWeights = limit.map { least + residentBytes > $0 } ?? false
    // The head and a block stay while they are used.
    let largest = residentBytes / max(1, c.layerCount) + 2 * c.vocabularySize * c.hiddenSize
    weightBytes = releasesWeights ? min(residentBytes, largest) : residentBytes
    let room = (limit ?? TrainingPlan.ordinaryBytes) - least - weightBytes
    keptBlocks = max(0, min(blockCount - 1, room / max(1, blockBytes)))
  }

  /// The part of the forward pass that is computed again: blocks without kept activations, all but their last product.
  package var recomputedBlocks: Int { blockCount - keptBlocks }
}

extension TrainedAdapter {
  /// The ranks of the updates of a layer, added; of the layer with the most.
  var ranksOfLayer: Int {
    var sums: [Int: Int] = [:]
    for update in updates { sums[update.layer, default: 0] += update.a.shape[0] }
    return sums.values.max() ?? 0
  }
}
