import Architecture
import Compute
import Files
import Foundation
import Models
import Tensors
import Transformer

/// The losses of tokens, added.
package struct LossSum: Equatable, Sendable {
  /// In nats.
  package var sum = 0.0
  /// Tokens that count.
  package var count = 0

  package init(sum: Double = 0, count: Int = 0) {
    self.sum = sum
    self.count = count
  }

  package var mean: Double { count == 0 ? 0 : sum / Double(count) }

  package static func += (a: inout LossSum, b: LossSum) {
    a.sum += b.sum
    a.count += b.count
  }
}

/// The gradients of an adapter's parameters over some rows: forward, loss and backward through frozen weights, which stay as they are
/// stored. Neither threads, nor instruction sets, nor the memory limit change a bit of them.
package final class TrainingPass {
  package let plan: TrainingPlan
  package let adapter: TrainedAdapter
  package let settings: TrainingSettings
  private let builder: DecoderBuilder
  private let pool: WorkerPool
  private let steps: BackwardSteps
  private let block: TrainingBlock
  private let embedding: WeightMatrix
  private let loss: CrossEntropy
  private let finalNorm: AlignedBuffer<Float>
  private let finalNormParameter: Parameter?

  /// Inputs of the blocks, `[layers][tokens, hiddenSize]`.
  private let inputs: AlignedBuffer<Float>
  /// The output of the last block, and the gradient.
  private let x, gradient, normed: AlignedBuffer<Float>
  private let shared: TrainingBlock.Activations
  private var kept: [TrainingBlock.Activations] = []
  private var caches: [KVCache] = []

  /// Called after every block, forward and backward, and after the head, with what is done of a pass: between 0 and 1. What it throws
  /// ends the pass; gradients are then worthless.
  package var progress: (Double) throws -> Void = { _ in }

  private var configuration: DecoderConfiguration { builder.configuration }

  /// - Parameters:
  ///   - tokens: the most tokens of one pass; `longest`: of one row.
  ///   - residentBytes: of the stored weights (`ModelStore.residentBytes`).
  /// - Throws: when weights are missing, or the scratch folder cannot hold the inputs (`FileError`).
  package init(
    builder: DecoderBuilder, adapter: TrainedAdapter, settings: TrainingSettings, tokens: Int, longest: Int,
    residentBytes: Int, pool: WorkerPool = .shared
  ) throws {
    self.builder = builder
    self.adapter = adapter
    self.settings = settings
    self.pool = pool
    plan = TrainingPlan(
      builder: builder, adapter: adapter, settings: settings, tokens: tokens, longest: longest,
      residentBytes: residentBytes, pool: pool)
    let c = builder.configuration
    steps = BackwardSteps(
      LayerSteps(configuration: c, rotary: RotaryEmbedding(c.rotary), pool: pool))
    block = TrainingBlock(
      steps, rows: tokens, ranks: adapter.ranksOfLayer, scale: adapter.options.scale,
      dropsOut: adapter.options.dropout > 0, arithmetic: settings.arithmetic)
    embedding = try builder.embedding()
    loss = CrossEntropy(
      head: try builder.head(), logitScale: c.logitScale, arithmetic: settings.arithmetic, pool: pool)
    finalNormParameter = adapter.norms.first { $0.kind == .finalNorm }?.parameter
    finalNorm = try finalNormParameter?.values ?? builder.finalNorm()
    let count = tokens * c.hiddenSize
    if let scratch = settings.scratch {
      guard let buffer = AlignedBuffer<Float>(count: count * c.layerCount, inFileOfFolder: scratch) else {
        throw FileError(
          .cannotWrite, path: scratch,
          detail: "there is no room for \(4 * count * c.layerCount) bytes of activations")
      }
      inputs = buffer
    } else {
      inputs = AlignedBuffer(count: count * c.layerCount)
    }
    x = AlignedBuffer(count: count)
    gradient = AlignedBuffer(count: count)
    normed = AlignedBuffer(count: count)
    let ranks = adapter.ranksOfLayer
    shared = TrainingBlock.Activations(c, rows: tokens, ranks: ranks)
    kept = (0..<plan.keptBlocks).map { _ in TrainingBlock.Activations(c, rows: tokens, ranks: ranks) }
  }

  // MARK: Passes

  /// Adds to the gradient of every parameter that of (the sum of the rows' token losses) / `divisor`.
  /// - Parameters:
  ///   - divisor: usually the labels that count of all rows of an optimizer's step, so that their mean is trained.
  ///   - step, item: the number of the optimizer's step and the place of the first row in it, which tell dropout masks apart.
  package func accumulate(_ rows: [TrainingRow], divisor: Double, step: Int, item: Int) throws -> LossSum {
    let batch = self.batch(rows)
    guard batch.count > 0 else { return LossSum() }
    let dropout: Dropout? =
      adapter.options.dropout == 0
      ? nil
      : Dropout(
        rate: adapter.options.dropout,
        rowKeys: zip(rows.indices, batch.lengths).flatMap { row, length in
          (0..<length).map {
            Dropout.rowKey(seed: adapter.options.seed, step: step, item: item + row, position: $0)
          }
        })
    try forward(batch, dropout: dropout, keepsInputs: true)
    let losses = try differentiateHead(batch, factor: 1 / divisor)
    for index in (0..<configuration.layerCount).reversed() {
      let layer = try layer(index)
      let input = inputs.pointer + index * plan.tokens * configuration.hiddenSize
      let place = index - (configuration.layerCount - kept.count)
      let activations = place >= 0 ? kept[place] : shared
      if place < 0 {
        block.forward(
          layer, x: input, sequences: batch.sequences, dropout: dropout, into: activations, output: nil)
      }
      block.backward(
        layer, x: input, sequences: batch.sequences, dropout: dropout, kept: activations,
        gradient: gradient.pointer)
      release()
      try progress(1 - Double(index) / Double(configuration.layerCount) * backwardShare)
    }
    return losses
  }

  /// The rows' loss, without dropout; gradients stay as they are.
  package func loss(_ rows: [TrainingRow]) throws -> LossSum {
    let batch = self.batch(rows)
    guard batch.count > 0 else { return LossSum() }
    try forward(batch, dropout: nil, keepsInputs: false)
    let found = loss.backward(
      normalized(batch), rows: batch.count, targets: batch.targets, gradient: nil)
    release()
    return LossSum(sum: found.reduce(0, +), count: batch.counted)
  }

  /// The part of a pass that comes after the forward pass and the head.
  private var backwardShare: Double { 0.6 }

  // MARK: Rows

  private struct Batch {
    var lengths: [Int] = []
    var tokens: [Int] = []
    var targets: [Int?] = []
    var sequences: [SequenceSlice] = []
    var counted = 0
    var count: Int { tokens.count }
  }

  /// What a pass has to see of the rows: tokens up to the last that predicts something. Nothing after it changes what comes before.
  private func batch(_ rows: [TrainingRow]) -> Batch {
    var batch = Batch()
    for row in rows {
      let last = row.labels.lastIndex { $0 != nil } ?? 0
      batch.lengths.append(last)
      guard last > 0 else { continue }
      if caches.count == batch.sequences.count {
        caches.append(
          KVCache(configuration: configuration, capacity: max(1, plan.longest), retaining: false))
      }
      precondition(last <= plan.longest, "a row is longer than planned")
      batch.sequences.append(
        SequenceSlice(
          firstRow: batch.count, rowCount: last, firstPosition: 0, cache: caches[batch.sequences.count]))
      batch.tokens += row.tokens[..<last]
      batch.targets += row.labels[1...last]
      batch.counted += row.countedLabels
    }
    precondition(batch.count <= plan.tokens, "a pass has more tokens than planned")
    return batch
  }

  // MARK: Parts

  private func forward(_ batch: Batch, dropout: Dropout?, keepsInputs: Bool) throws {
    let c = configuration
    let width = c.hiddenSize
    var input = inputs.pointer
    let (tokens, embedding, kernels) = (batch.tokens, embedding, pool.kernels)
    let first = DisjointWrites(input)
    pool.runRanges(tokens.count, grain: 16) { range in
      for row in range { embedding.copyRow(tokens[row], into: first + row * width, kernels: kernels) }
    }
    for index in 0..<c.layerCount {
      let place = index - (c.layerCount - kept.count)
      let output: UnsafeMutablePointer<Float>
      if index + 1 == c.layerCount {
        output = x.pointer
      } else if keepsInputs {
        output = inputs.pointer + (index + 1) * plan.tokens * width
      } else {
        output = input == inputs.pointer ? gradient.pointer : inputs.pointer
      }
      block.forward(
        try layer(index), x: input, sequences: batch.sequences, dropout: dropout,
        into: keepsInputs && place >= 0 ? kept[place] : shared, output: output)
      input = output
      release()
      try progress(
        Double(index + 1) / Double(c.layerCount) * (keepsInputs ? 0.9 * (1 - backwardShare) : 0.9))
    }
  }

  /// The states before the head.
  private func normalized(_ batch: Batch) -> UnsafeMutablePointer<Float> {
    steps.forward.normalize(x.pointer, weight: finalNorm, rows: batch.count, into: normed.pointer)
    return normed.pointer
  }

  /// Losses, and the gradient with respect to the last block's output.
  private func differentiateHead(_ batch: Batch, factor: Double) throws -> LossSum {
    let rows = batch.count
    let hidden = normalized(batch)
    // The gradient takes the place of the states it belongs to.
    let found = loss.backward(
      hidden, rows: rows, targets: batch.targets, factor: factor, gradient: hidden)
    if let finalNormParameter {
      steps.addNormGradient(hidden, x: x.pointer, rows: rows, to: finalNormParameter.gradient)
    }
    gradient.pointer.update(repeating: 0, count: rows * configuration.hiddenSize)
    steps.normalize(hidden, x: x.pointer, weight: finalNorm, rows: rows, addingTo: gradient.pointer)
    release()
    try progress(1 - backwardShare)
    return LossSum(sum: found.reduce(0, +), count: batch.counted)
  }

  private func layer(_ index: Int) throws -> TrainingBlock.Layer {
    var weights = try builder.layer(index)
    weights.setFloatArithmetic(settings.arithmetic)
    func norm(_ kind: ModuleKind) -> Parameter? {
      adapter.norms.first { $0.layer == index && $0.kind == kind }?.parameter
    }
    let (inputNorm, postAttentionNorm) = (norm(.inputNorm), norm(.postAttentionNorm))
    if let inputNorm { weights.inputNorm = inputNorm.values }
    if let postAttentionNorm { weights.postAttentionNorm = postAttentionNorm.values }
    return TrainingBlock.Layer(
      index: index, weights: weights,
      groups: groups(ofLayer: index, weights),
      inputNorm: inputNorm, postAttentionNorm: postAttentionNorm)
  }

  /// Updates of one stage see the same input, unless each has a dropout of its own.
  private func groups(ofLayer index: Int, _ weights: DecoderLayer) -> [PreparedGroup] {
    let updates = adapter.updates.filter { $0.layer == index }.map {
      (update: $0, outputs: weights[$0.kind].outFeatures)
    }
    if adapter.options.dropout > 0 { return updates.map { PreparedGroup([$0], pool: pool) } }
    return TensorRule.Stage.allCases.compactMap { stage in
      let some = updates.filter { $0.update.stage == stage }
      return some.isEmpty ? nil : PreparedGroup(some, pool: pool)
    }
  }

  private func release() { if plan.releasesWeights { builder.weights.releasePages() } }
}
