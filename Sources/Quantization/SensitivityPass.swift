import Architecture
import Compute
import Distribution
import Tensors
import Transformer

/// Quantizes every module with every candidate for its settings, in a float model of which nothing is replaced, and predicts what each
/// would cost in predictions: the solver's loss of each output, times its ``OutputSensitivity``.
struct SensitivityPass {
  let quantizer: ModelQuantizer
  let candidates: [ModuleSettings]
  private let index: TensorIndex

  init(quantizer: ModelQuantizer, candidates: [ModuleSettings]) {
    self.quantizer = quantizer
    self.candidates = candidates
    index = TensorIndex(quantizer.model.configuration)
  }

  private var recipe: QuantizationRecipe { quantizer.recipe }
  private var sequences: Int { quantizer.calibration.windows.count }
  private var communicator: any Communicator { quantizer.communicator }

  /// What the modules are solved with. Weights of tokens that differ for the modules of a stage, and rounding on both sides, would take
  /// several times as long to find out what hardly depends on them: which modules need more bits.
  private var solved: QuantizationRecipe {
    var result = recipe
    if result.tokenWeights == .fisher { result.tokenWeights = .attention }
    result.roundsBothSides = false
    return result
  }

  /// What is summed before the modules are solved: all windows.
  private var summed: QuantizationRecipe {
    var result = solved
    result.propagatesErrors = false
    result.refinementRounds = 0
    return result
  }

  /// What the backward pass is made with.
  static func statisticsRecipe(_ recipe: QuantizationRecipe) -> QuantizationRecipe {
    var result = recipe
    result.roundsBothSides = true
    result.outputBlock = OutputSensitivity.outputBlock
    return result
  }

  /// Adds the layers that `store` does not have yet.
  /// - Parameter store: nil on other ranks than 0.
  func run(into store: AllocationStore?, observer: any QuantizationObserver) throws {
    let c = quantizer.model.decoderConfiguration
    let first = try communicator.broadcast(value: store?.finishedLayers ?? 0)
    guard first < c.layerCount else { return }
    let builder = quantizer.model.builder()
    let windows = quantizer.calibration.windows
    let statisticsRecipe = SensitivityPass.statisticsRecipe(recipe)
    let shards = quantizer.shards
    let folder = SharedStore(store?.folder, communicator)
    try StatisticsPass(
      builder: builder, table: index, recipe: statisticsRecipe, windows: windows, shards: shards,
      scratch: quantizer.scratch, pool: quantizer.pool, observer: observer, communicator: communicator
    ).run(into: folder, from: first)
    let activations = try CalibrationActivations(
      configuration: c, shards: shards, scratch: quantizer.scratch)
    try builder.embed(shards.windows.map { windows[$0] }, into: activations.hidden, pool: quantizer.pool)
    let staged = StagedLayer(
      steps: LayerSteps(configuration: c, rotary: RotaryEmbedding(c.rotary), pool: quantizer.pool),
      activations: activations)
    for number in 0..<c.layerCount {
      var layer = try builder.layer(number)
      layer.setFloatArithmetic(recipe.calibrationArithmetic)
      if number < first {
        try staged.run(&layer, index: number, observe: nil) { _, _ in }
      } else {
        let statistics = try folder.statistics(
          ofLayer: number, index, of: shards, blockSize: statisticsRecipe.statisticsBlock)
        let sensitivity = OutputSensitivity(statistics, tokens: shards.allRows)
        let found = try items(of: &layer, number, staged, sensitivity)
        try store?.add(found)
        store?.folder.removeStatistics(ofLayer: number)
        observer.sensitivitiesFound(number + 1, of: c.layerCount)
      }
      quantizer.model.store.releasePages()
    }
  }

  private func items(
    of layer: inout DecoderLayer, _ number: Int, _ staged: StagedLayer, _ sensitivity: OutputSensitivity
  ) throws -> [PrecisionItem] {
    var items: [PrecisionItem] = []
    var sums: StageSums?
    func makeSums(_ stage: TensorRule.Stage) -> StageSums {
      StageSums(
        order: index.inputWidth(of: stage), shards: quantizer.shards, recipe: summed,
        communicator: communicator, pool: quantizer.pool)
    }
    let weighting = TokenWeighting(solved.tokenWeights, pool: quantizer.pool)
    let isLast = number + 1 == index.configuration.hiddenLayers
    try staged.run(&layer, index: number, needsOutput: !isLast) { stage, rows, layer in
      let sum = sums ?? makeSums(stage)
      sums = sum
      let weights = weighting.weights(
        of: rows, before: stage, width: sum.hessian.order, layer: layer, index: number, steps: staged.steps)
      sum.add(
        rows, of: stage, firstWindow: staged.activations.chunk(of: rows).firstWindow, weights: weights,
        float: nil)
    } endRound: { stage, round in
      // A rank may have no window in the first rounds.
      if sums == nil { sums = makeSums(stage) }
      try sums?.endRound(round)
    } replace: { stage, layer in
      guard let used = sums else { return }
      sums = nil
      try used.finish()
      items.append(try item(stage, layer, number, used.hessian, sensitivity))
    }
    return items
  }

  private func item(
    _ stage: TensorRule.Stage, _ layer: DecoderLayer, _ number: Int, _ hessian: Hessian,
    _ sensitivity: OutputSensitivity
  ) throws -> PrecisionItem {
    let kinds = index.modules(of: stage)
    func name(_ kind: ModuleKind) -> String { index.name(of: ModuleID(kind, layer: number)) }
    // H is a sum over tokens by the number of sequences.
    let scale = Double(sequences) / Double(max(1, hessian.rows))
    let prepared = try PreparedHessian(
      hessian, sequences: sequences, recipe: solved, name: name(kinds[0]), pool: quantizer.pool)
    let shapes = kinds.map { index.shape(of: ModuleID($0, layer: number)) }
    var solver = Solver(recipe: solved, pool: quantizer.pool)
    let choices = try candidates.map { candidate in
      solver.recipe.settings = candidate
      var loss = 0.0
      for kind in kinds {
        let (_, report) = try SpreadSolver(solver: solver, communicator: communicator).solve(
          layer[kind].weight, hessian: prepared, sums: nil, refinement: nil, outputs: nil,
          module: name(kind))
        loss += sensitivity.divergence(of: kind, errors: report.outputLosses.map { $0 * scale })
      }
      let cost = shapes.reduce(0) {
        $0 + candidate.bitCount(out: $1.out, in: $1.in, isSymmetric: recipe.isSymmetric)
      }
      return Knapsack.Choice(cost: cost, loss: rounded(loss))
    }
    return PrecisionItem(
      layer: number, stage: stage, weightCount: shapes.reduce(0) { $0 + $1.out * $1.in }, choices: choices)
  }

  /// In single precision: the last bits of an exponential are not the same on every processor, and nothing may be chosen by them.
  private func rounded(_ loss: Double) -> Double { Double(Float(loss)) }
}
