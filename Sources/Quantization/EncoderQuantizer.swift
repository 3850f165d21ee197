import Architecture
import Compute
import Distribution
import Models
import Tensors
import Transformer

/// Quantizes an encoder layer by layer, as ``ModelQuantizer`` does a decoder: the calibration texts pass through a block in stages,
/// and each stage sees what the quantized ones before it make of its input.
struct EncoderQuantizer {
  let model: OpenedModel
  let recipe: QuantizationRecipe
  let windows: [[Int]]
  /// How they are cut, and which of them this rank has.
  let shards: CalibrationShards
  let scratch: String?
  let pool: WorkerPool
  private let index: TensorIndex
  private let configuration: EncoderConfiguration
  private let observer: any QuantizationObserver
  private let communicator: any Communicator

  /// - Precondition: the model is an encoder.
  init(
    model: OpenedModel, recipe: QuantizationRecipe, windows: [[Int]], shards: CalibrationShards,
    scratch: String?, pool: WorkerPool, observer: any QuantizationObserver, communicator: any Communicator
  ) {
    guard let configuration = model.configuration.encoder else { preconditionFailure("not an encoder") }
    self.model = model
    self.recipe = recipe
    self.windows = windows
    self.shards = shards
    self.communicator = communicator
    self.scratch = scratch
    self.pool = pool
    self.observer = observer
    self.configuration = configuration
    index = TensorIndex(model.configuration)
  }

  /// Quantizes all layers that `store` does not have yet.
  func run(into store: SharedStore) throws {
    let layers = configuration.layerCount
    let first = try store.finishedLayers()
    let builder = try model.encoderBuilder(pool: pool)
    guard recipe.method == .gptq else {
      for layer in first..<layers {
        observer.layerStarted(layer, of: layers)
        let modules = try round(layer)
        try store.store?.save(layer: layer, modules: modules, pool: pool)
        observer.layerFinished(layer, of: layers)
        model.store.releasePages()
      }
      return
    }
    let activations = try EncoderActivations(configuration, shards: shards, scratch: scratch)
    let streams = [activations.hidden]
    let width = configuration.hiddenSize
    let kept =
      first > 0 ? try store.load(into: streams, of: shards, width: width, notAfter: first) : nil
    if kept == nil {
      let inputs = shards.windows.map { (windows[$0], types(of: windows[$0])) }
      let embedded = try builder.embeddings().embed(inputs)
      activations.hidden.pointer.update(from: embedded.pointer, count: embedded.count)
    }
    // Finished layers after the last kept activations are run once more.
    for number in (kept ?? 0)..<first {
      var layer = try self.layer(number, builder)
      let modules = modules(of: number)
      let tensors = try store.tensors(
        modules.map { (index.name(of: $0), index.shape(of: $0)) }, layer: number)
      for (module, tensor) in zip(modules, tensors) {
        layer[module.kind].weight = .intPanels(tensor.matrix)
      }
      try pass(&layer, activations, observe: nil, endRound: { _, _ in }) { _, _ in }
    }
    for number in first..<layers {
      observer.layerStarted(number, of: layers)
      var layer = try self.layer(number, builder)
      let modules = try quantize(&layer, number: number, activations)
      try store.store?.save(layer: number, modules: modules, pool: pool)
      let byteCount = shards.allRows * width * 4
      if try store.ask({ number + 1 < layers && $0.isHiddenDue(byteCount: byteCount) }) {
        try store.save(hidden: streams, of: shards, width: width, before: number + 1)
      }
      observer.layerFinished(number, of: layers)
      model.store.releasePages()
    }
  }

  private func layer(_ number: Int, _ builder: EncoderBuilder) throws -> EncoderLayer {
    var layer = try builder.layer(number)
    for kind in index.stages.flatMap(\.modules) {
      layer[kind].floatArithmetic = recipe.calibrationArithmetic
    }
    return layer
  }

  private func modules(of layer: Int) -> [ModuleID] {
    index.stages.flatMap(\.modules).map { ModuleID($0, layer: layer) }
  }

  /// 1 for the second text of a pair, which follows the first closing token.
  private func types(of window: [Int]) -> [Int] {
    guard configuration.textTypeCount > 1, let closing = window.last,
      let end = window.firstIndex(of: closing), end + 1 < window.count
    else { return [Int](repeating: 0, count: window.count) }
    return window.indices.map { $0 > end ? 1 : 0 }
  }

  // MARK: One layer

  private typealias Observer = (TensorRule.Stage, EncoderRows, Range<Int>) -> Void

  /// Brings the activations from the block's input to its output; `replace` may change the weights of the stage it is called for,
  /// once all chunks of the stage have been observed. `endRound` is called when those of a round of shards have.
  private func pass(
    _ layer: inout EncoderLayer, _ activations: EncoderActivations, observe: Observer?,
    endRound: (TensorRule.Stage, Int) throws -> Void,
    replace: (TensorRule.Stage, inout EncoderLayer) throws -> Void
  ) throws {
    let steps = EncoderSteps(configuration: configuration, pool: pool)
    var pending: [EncoderStep] = []
    func runPending() {
      for chunk in activations.batch.chunks {
        let rows = activations.rows(of: chunk)
        for step in pending { steps.run(step, of: layer, on: rows) }
      }
      pending = []
    }
    for step in EncoderStep.allCases {
      if let stage = step.stage {
        runPending()
        if let observe {
          for (round, chunks) in activations.rounds.enumerated() {
            for chunk in activations.batch.chunks[chunks] {
              observe(stage, activations.rows(of: chunk), chunk)
            }
            try endRound(stage, round)
          }
        }
        try replace(stage, &layer)
      }
      pending.append(step)
    }
    runPending()
  }

  private func quantize(_ layer: inout EncoderLayer, number: Int, _ activations: EncoderActivations) throws
    -> [QuantizedModule]
  {
    let weighting = TokenWeighting(recipe.tokenWeights, pool: pool)
    var modules: [QuantizedModule] = []
    var sums: StageSums?
    func makeSums(_ stage: TensorRule.Stage) -> StageSums {
      StageSums(
        order: index.inputWidth(of: stage), shards: shards, recipe: recipe, communicator: communicator,
        pool: pool)
    }
    let numbers = shards.windows
    try pass(&layer, activations) { stage, rows, chunk in
      let width = index.inputWidth(of: stage)
      if sums == nil { sums = makeSums(stage) }
      let x = rows.input(of: stage)
      sums?.add(
        x, windows: rows.texts, firstWindow: numbers[chunk.lowerBound],
        weights: weighting.weights(of: x, rows: rows.count, width: width), differences: nil)
    } endRound: { stage, round in
      if sums == nil { sums = makeSums(stage) }
      try sums?.endRound(round)
    } replace: { stage, layer in
      guard let used = sums else { return }
      sums = nil
      modules += try solve(stage, in: &layer, number: number, used)
    }
    return modules
  }

  private func solve(
    _ stage: TensorRule.Stage, in layer: inout EncoderLayer, number: Int, _ sums: StageSums
  ) throws -> [QuantizedModule] {
    let kinds = index.modules(of: stage)
    func name(_ kind: ModuleKind) -> String { index.name(of: ModuleID(kind, layer: number)) }
    try sums.finish()
    let prepared = try PreparedHessian(
      sums.hessian, sequences: sums.sequences, recipe: recipe, name: name(kinds[0]), pool: pool)
    sums.prepareOthers()
    let refinement = sums.refinement(prepared, recipe: recipe)
    var solver = Solver(recipe: recipe, pool: pool)
    var modules: [QuantizedModule] = []
    for kind in kinds {
      solver.recipe = recipe.of(ModuleID(kind, layer: number))
      var (tensor, report) = try SpreadSolver(solver: solver, communicator: communicator).solve(
        layer[kind].weight, hessian: prepared, sums: sums, refinement: refinement, outputs: nil,
        module: name(kind))
      report.warnings += prepared.warnings
      observer.moduleSolved(report)
      modules.append(QuantizedModule(name: name(kind), tensor: tensor, report: report))
      layer[kind].weight = .intPanels(tensor.matrix)
    }
    observer.stageFinished(of: stage, layer: number, layerCount: configuration.layerCount)
    return modules
  }

  /// Rounds a layer to the nearest codes.
  private func round(_ number: Int) throws -> [QuantizedModule] {
    var solver = Solver(recipe: recipe, pool: pool)
    var modules: [QuantizedModule] = []
    for (stage, kinds) in index.stages {
      for kind in kinds {
        let module = ModuleID(kind, layer: number)
        let shape = index.shape(of: module)
        solver.recipe = recipe.of(module)
        let (tensor, report) = try SpreadSolver(solver: solver, communicator: communicator).solve(
          try model.store.matrix(module, out: shape.out, in: shape.in), hessian: nil, sums: nil,
          refinement: nil, outputs: nil, module: index.name(of: module))
        observer.moduleSolved(report)
        modules.append(QuantizedModule(name: index.name(of: module), tensor: tensor, report: report))
      }
      observer.stageFinished(of: stage, layer: number, layerCount: configuration.layerCount)
    }
    return modules
  }
}

/// The activations of every calibration token between two layers of an encoder, and working memory for the steps inside one.
private struct EncoderActivations {
  let batch: Encoder.Batch
  /// Chunks of each round of shards. A chunk does not cross the end of a shard.
  let rounds: [Range<Int>]
  /// `[rows, hiddenSize]`
  let hidden: AlignedBuffer<Float>
  /// Inputs of the projections that close half a block: `[rows, max(hiddenSize, intermediateSize)]`, packed to the width in use.
  private let inner: AlignedBuffer<Float>
  private let work: EncoderBuffers
  private let configuration: EncoderConfiguration

  init(_ c: EncoderConfiguration, shards: CalibrationShards, scratch: String?) throws {
    configuration = c
    // Of the windows of this rank.
    var ends = [0]
    for round in 0..<shards.rounds {
      ends.append(ends[round] + (shards.windows(inRound: round)?.count ?? 0))
    }
    let batch = Encoder.Batch(
      lengths: shards.windows.map { shards.lengths[$0] }, chunkRows: CalibrationActivations.chunkRows,
      newChunksAt: Set(ends))
    self.batch = batch
    rounds = (0..<shards.rounds).map { round in
      let first = batch.chunks.firstIndex { $0.lowerBound >= ends[round] } ?? batch.chunks.count
      let end = batch.chunks.firstIndex { $0.lowerBound >= ends[round + 1] } ?? batch.chunks.count
      return first..<end
    }
    hidden = try .forActivations(batch.rows * c.hiddenSize, scratch: scratch)
    inner = try .forActivations(batch.rows * max(c.hiddenSize, c.intermediateSize), scratch: scratch)
    work = EncoderBuffers(c, rows: batch.mostRows)
  }

  func rows(of chunk: Range<Int>) -> EncoderRows {
    let first = batch.rows(of: chunk).lowerBound
    var rows = EncoderRows(
      x: hidden.pointer + first * configuration.hiddenSize, texts: batch.texts(of: chunk), work: work)
    rows.attention = inner.pointer + first * configuration.hiddenSize
    rows.intermediate = inner.pointer + first * configuration.intermediateSize
    return rows
  }
}
