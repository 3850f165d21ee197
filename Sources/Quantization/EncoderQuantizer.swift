import Architecture
import Compute
import Models
import Tensors
import Transformer

/// Quantizes an encoder layer by layer, as ``ModelQuantizer`` does a decoder: the calibration texts pass through a block in stages,
/// and each stage sees what the quantized ones before it make of its input.
struct EncoderQuantizer {
  let model: OpenedModel
  let recipe: QuantizationRecipe
  let windows: [[Int]]
  let scratch: String?
  let pool: WorkerPool
  private let index: TensorIndex
  private let configuration: EncoderConfiguration
  private let observer: any QuantizationObserver

  /// - Precondition: the model is an encoder.
  init(
    model: OpenedModel, recipe: QuantizationRecipe, windows: [[Int]], scratch: String?, pool: WorkerPool,
    observer: any QuantizationObserver
  ) {
    guard let configuration = model.configuration.encoder else { preconditionFailure("not an encoder") }
    self.model = model
    self.recipe = recipe
    self.windows = windows
    self.scratch = scratch
    self.pool = pool
    self.observer = observer
    self.configuration = configuration
    index = TensorIndex(model.configuration)
  }

  /// Quantizes all layers that `store` does not have yet.
  func run(into store: LayerStore) throws {
    let layers = configuration.layerCount
    let first = store.finishedLayers
    let builder = try model.encoderBuilder(pool: pool)
    guard recipe.method == .gptq else {
      for layer in first..<layers {
        observer.layerStarted(layer, of: layers)
        try store.save(layer: layer, modules: round(layer), pool: pool)
        observer.layerFinished(layer, of: layers)
        model.store.releasePages()
      }
      return
    }
    let activations = try EncoderActivations(configuration, windows: windows, scratch: scratch)
    let streams = [activations.hidden]
    let kept = first > 0 ? try store.load(into: streams, notAfter: first) : nil
    if kept == nil {
      let inputs = windows.map { ($0, types(of: $0)) }
      let embedded = try builder.embeddings().embed(inputs)
      activations.hidden.pointer.update(from: embedded.pointer, count: embedded.count)
    }
    // Finished layers after the last kept activations are run once more.
    for number in (kept ?? 0)..<first {
      var layer = try self.layer(number, builder)
      for module in modules(of: number) {
        let tensor = try store.tensor(index.name(of: module), layer: number, shape: index.shape(of: module))
        layer[module.kind].weight = .intPanels(tensor.matrix)
      }
      try pass(&layer, activations, observe: nil) { _, _ in }
    }
    for number in first..<layers {
      observer.layerStarted(number, of: layers)
      var layer = try self.layer(number, builder)
      let modules = try quantize(&layer, number: number, activations)
      try store.save(layer: number, modules: modules, pool: pool)
      if number + 1 < layers, store.isHiddenDue(byteCount: LayerStore.byteCount(ofHidden: streams)) {
        try store.save(hidden: streams, before: number + 1)
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
  /// once all chunks of the stage have been observed.
  private func pass(
    _ layer: inout EncoderLayer, _ activations: EncoderActivations, observe: Observer?,
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
          for chunk in activations.batch.chunks { observe(stage, activations.rows(of: chunk), chunk) }
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
    try pass(&layer, activations) { stage, rows, _ in
      let width = index.inputWidth(of: stage)
      if sums == nil { sums = StageSums(order: width, windows: windows.count, recipe: recipe) }
      let x = rows.input(of: stage)
      sums?.add(
        x, windows: rows.texts, weights: weighting.weights(of: x, rows: rows.count, width: width),
        differences: nil, pool: pool)
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
    let prepared = try PreparedHessian(
      sums.hessian, sequences: sums.sequences, recipe: recipe, name: name(kinds[0]), pool: pool)
    sums.prepareOthers(pool: pool)
    let refinement = sums.refinement(prepared, recipe: recipe, pool: pool)
    var solver = Solver(recipe: recipe, pool: pool)
    var modules: [QuantizedModule] = []
    for kind in kinds {
      solver.recipe = recipe.of(ModuleID(kind, layer: number))
      var (tensor, report) = try solver.solve(
        layer[kind].weight, hessian: prepared, outputs: nil, module: name(kind))
      refinement?.apply(to: &tensor, of: layer[kind].weight, &report)
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
        let (tensor, report) = try solver.solve(
          try model.store.matrix(module, out: shape.out, in: shape.in), hessian: nil,
          module: index.name(of: module))
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
  /// `[rows, hiddenSize]`
  let hidden: AlignedBuffer<Float>
  /// Inputs of the projections that close half a block: `[rows, max(hiddenSize, intermediateSize)]`, packed to the width in use.
  private let inner: AlignedBuffer<Float>
  private let work: EncoderBuffers
  private let configuration: EncoderConfiguration

  init(_ c: EncoderConfiguration, windows: [[Int]], scratch: String?) throws {
    configuration = c
    batch = Encoder.Batch(lengths: windows.map(\.count), chunkRows: CalibrationActivations.chunkRows)
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
