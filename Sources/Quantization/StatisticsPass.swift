import Architecture
import Calibration
import Compute
import Distribution
import Models
import Tensors
import Training
import Transformer

/// A backward pass of the float model over the calibration tokens, for what it says about the modules' outputs.
///
/// The gradients g are those of words drawn from the model's own distribution, so that the mean of g·gᵀ is the Fisher information: the KL
/// divergence from the model to a slightly changed one is half of it (Kunstner, Balles and Hennig, arXiv:1905.12558, on why words are
/// drawn). Only gradients of activations are computed. The input of every
/// layer is kept in bf16; a layer is recomputed from it.
struct StatisticsPass {
  let builder: DecoderBuilder
  let table: TensorIndex
  let recipe: QuantizationRecipe
  let windows: [[Int]]
  /// How they are cut, and which of them this rank has.
  let shards: CalibrationShards
  /// Folder whose disk holds the inputs of the layers; nil: memory.
  let scratch: String?
  let pool: WorkerPool
  let observer: any QuantizationObserver
  let communicator: any Communicator

  /// Words drawn for each token.
  static let drawnWords = 8

  private var configuration: DecoderConfiguration { builder.configuration }
  private var width: Int { configuration.hiddenSize }

  /// Makes the statistics of the layers from `first` on that `store` does not have.
  func run(into store: SharedStore, from first: Int) throws {
    let count = configuration.layerCount
    let done = try store.ask { $0.earliestStatistics(layerCount: count) ?? count }
    guard done > first else { return }
    let activations = try CalibrationActivations(
      configuration: configuration, shards: shards, scratch: scratch)
    let gradient = try AlignedBuffer<Float>.forActivations(activations.hidden.count, scratch: scratch)
    let isKept =
      done < count ? try store.load(gradient: gradient, of: shards, width: width, ofLayer: done) : false
    let last = isKept ? done : count
    let inputs = try forward(activations, layers: last)
    let steps = LayerSteps(
      configuration: configuration, rotary: RotaryEmbedding(configuration.rotary), pool: pool)
    if !isKept { try differentiateHead(activations.hidden, steps: steps, into: gradient) }

    let block = BlockBackward(BackwardSteps(steps), rows: activations.chunks.map(\.rows).max() ?? 0)
    for layer in (first..<last).reversed() {
      try differentiate(layer, block, activations, input: inputs, gradient: gradient, store: store)
      observer.statisticsMade(count - layer, of: count - first)
      builder.weights.releasePages()
    }
  }

  /// - Returns: the input of each layer in bf16, `[layers][tokens, hiddenSize]`.
  private func forward(_ activations: CalibrationActivations, layers: Int) throws -> AlignedBuffer<UInt16> {
    let hidden = activations.hidden
    let inputs = try AlignedBuffer<UInt16>.forActivations(layers * hidden.count, scratch: scratch)
    try builder.embed(shards.windows.map { windows[$0] }, into: hidden, pool: pool)
    let steps = LayerSteps(
      configuration: configuration, rotary: RotaryEmbedding(configuration.rotary), pool: pool)
    for index in 0..<layers {
      narrow(hidden, into: inputs.pointer + index * hidden.count)
      var layer = try builder.layer(index)
      layer.setFloatArithmetic(recipe.calibrationArithmetic)
      try StagedLayer(steps: steps, activations: activations)
        .run(&layer, index: index, observe: nil) { _, _ in }
      builder.weights.releasePages()
    }
    return inputs
  }

  private func narrow(_ hidden: AlignedBuffer<Float>, into kept: UnsafeMutablePointer<UInt16>) {
    let (from, to, kernels) = (SharedPointer(hidden.pointer), DisjointWrites(kept), pool.kernels)
    pool.runRanges(hidden.count, grain: 1024) { range in
      kernels.narrow(
        UnsafeMutableRawPointer(to + range.lowerBound), from: from + range.lowerBound, type: .bf16,
        count: range.count)
    }
  }

  /// The gradient with respect to the last layer's output.
  private func differentiateHead(
    _ hidden: AlignedBuffer<Float>, steps: LayerSteps, into gradient: AlignedBuffer<Float>
  ) throws {
    let tokens = shards.rows
    let norm = try builder.finalNorm()
    let loss = FisherGradient(
      head: try builder.head(), logitScale: configuration.logitScale,
      arithmetic: recipe.calibrationArithmetic, pool: pool)
    let most = CalibrationActivations.chunkRows
    let normed = AlignedBuffer<Float>(count: min(tokens, most) * width)
    let dNormed = AlignedBuffer<Float>(count: normed.count)
    // A token draws the same words on whichever rank it is.
    let tokenNumbers = shards.rowNumbers
    let backward = BackwardSteps(steps)
    gradient.pointer.update(repeating: 0, count: gradient.count)
    for first in stride(from: 0, to: tokens, by: most) {
      let rows = min(most, tokens - first)
      let x = hidden.pointer + first * width
      steps.normalize(x, weight: norm, rows: rows, into: normed.pointer)
      loss.drawFisherGradient(
        normed.pointer, rows: rows,
        numbers: tokenNumbers[first..<first + rows].flatMap { token in
          var numbers = SplitMix64Sequence(seed: 0, skipping: token * StatisticsPass.drawnWords)
          return (0..<StatisticsPass.drawnWords).map { _ in numbers.nextUnit() }
        },
        gradient: dNormed.pointer)
      backward.normalize(
        dNormed.pointer, x: x, weight: norm, rows: rows, addingTo: gradient.pointer + first * width)
    }
    builder.weights.releasePages()
  }

  private func differentiate(
    _ index: Int, _ block: BlockBackward, _ activations: CalibrationActivations,
    input: AlignedBuffer<UInt16>, gradient: AlignedBuffer<Float>, store: SharedStore
  ) throws {
    let statistics = LayerStatistics(table, tokens: shards.rows, blockSize: recipe.statisticsBlock)
    let sums = statistics.modules.flatMap(\.statistics.outputs.blocks).map(\.values)
    let orders = statistics.modules.flatMap(\.statistics.outputs.blocks).map(\.order)
    let totals =
      shards.count == 1
      ? []
      : orders.map {
        OrderedSum(order: $0, shape: .upperTriangle, communicator: communicator, pool: pool)
      }
    var layer = try builder.layer(index)
    layer.setFloatArithmetic(recipe.calibrationArithmetic)
    let weights = BackwardWeights(layer, arithmetic: recipe.calibrationArithmetic)
    let kept = input.pointer + index * activations.hidden.count
    for (round, chunks) in activations.rounds.enumerated() {
      for chunk in activations.chunks[chunks] { differentiate(chunk) }
      let hasShard = shards.windows(inRound: round) != nil
      for (total, sum) in zip(totals, sums) {
        try total.add(hasShard ? sum : nil, shards: shards.shards(inRound: round))
        sum.clear(pool: pool)
      }
    }
    for (total, sum) in zip(totals, sums) { try total.finish(into: sum) }
    try store.save(
      statistics, gradient: gradient, of: shards, width: width, ofLayer: index,
      layerCount: configuration.layerCount)

    func differentiate(_ chunk: CalibrationActivations.Chunk) {
      // The forward pass is over: its place holds the chunk's input.
      let x = activations.hidden.pointer + chunk.firstRow * width
      widen(kept + chunk.firstRow * width, into: x, count: chunk.rows * width)
      block.run(
        weights, index: index, x: x, sequences: chunk.slices,
        gradient: gradient.pointer + chunk.firstRow * width
      ) { kind, gradients, rowStride in
        statistics.add(
          gradients, rows: chunk.rows, rowStride: rowStride, of: kind, first: chunk.firstRow,
          pool: pool)
      }
    }
  }

  private func widen(_ kept: UnsafePointer<UInt16>, into x: UnsafeMutablePointer<Float>, count: Int) {
    let (from, to, kernels) = (SharedPointer(kept), DisjointWrites(x), pool.kernels)
    pool.runRanges(count, grain: 1024) { range in
      kernels.widen(
        to + range.lowerBound, from: UnsafeRawPointer(from + range.lowerBound), type: .bf16,
        count: range.count)
    }
  }
}

extension AlignedBuffer {
  /// Memory for activations, or a file of the scratch folder.
  /// - Throws: ``QuantizationError/scratchTooSmall(folder:byteCount:)``
  static func forActivations(_ count: Int, scratch: String?) throws -> AlignedBuffer {
    guard let scratch else { return AlignedBuffer(count: count) }
    guard let buffer = AlignedBuffer(count: count, inFileOfFolder: scratch) else {
      throw QuantizationError.scratchTooSmall(
        folder: scratch, byteCount: count * MemoryLayout<Element>.stride)
    }
    return buffer
  }
}

extension DecoderBuilder {
  /// Rows of the embedding of all tokens, `[tokens, hiddenSize]`.
  func embed(_ windows: [[Int]], into hidden: AlignedBuffer<Float>, pool: WorkerPool) throws {
    let embedding = try embedding()
    let width = configuration.hiddenSize
    let ids = windows.flatMap { $0 }
    pool.runRanges(ids.count, grain: 16) { range in
      for row in range {
        embedding.copyRow(ids[row], into: hidden.pointer + row * width, kernels: pool.kernels)
      }
    }
    weights.releasePages()
  }
}
