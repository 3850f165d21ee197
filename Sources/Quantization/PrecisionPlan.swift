import Architecture
import Tensors

extension ModelQuantizer {
  /// What a run for a target will take: the sensitivities of all modules, then quantizations that are measured. A search for a divergence
  /// is planned as two; it may take one, or as many as ``PrecisionTarget/mostRounds``.
  /// - Parameter heldOut: lengths of the windows that are measured.
  func plan(for target: PrecisionTarget, heldOut: [Int]) throws -> QuantizationPlan {
    var plan = try plan()
    let index = TensorIndex(model.configuration)
    let c = model.decoderConfiguration
    let flops = plan.flopsPerSecond
    let forwardFlops =
      recipe.calibrationArithmetic == .fp32
      ? flops : QuantizationPlan.measuredFlops(c, recipe.calibrationArithmetic, pool: pool)
    // The rank with most tokens; others wait for it.
    let busiest = (0..<shards.ranks).map(shards.seen(by:)).max { $0.rows < $1.rows } ?? shards
    let lengths = busiest.windows.map { shards.lengths[$0] }
    let tokens = lengths.reduce(0, +)
    let squares = lengths.reduce(0.0) { $0 + Double($1) * Double($1 + 1) }
    let longest = lengths.max() ?? 0
    let statisticsRecipe = SensitivityPass.statisticsRecipe(recipe)
    let statistics = QuantizationPlan.StatisticsPlan(
      index, recipe: statisticsRecipe, tokens: tokens, squares: squares, longest: longest,
      chunk: min(tokens, max(longest, CalibrationActivations.chunkRows)), pool: pool)

    var weights = 0.0
    var products = statistics.products + 4 * squares * Double(c.attentionWidth)
    for (_, modules) in index.stages {
      var stageWeights = 0.0
      var inputs = 0.0
      for kind in modules {
        let shape = index.shape(of: ModuleID(kind, layer: 0))
        inputs = Double(shape.in)
        stageWeights += Double(shape.out) * inputs
      }
      weights += stageWeights
      products += Double(tokens) * inputs * (inputs + 1) + inputs * inputs * inputs / 2
      let search = recipe.searchesScales ? QuantizationPlan.searchFlops : 0
      products += Double(target.candidates.count) * stageWeights * (inputs + search) / Double(shards.ranks)
    }
    let layers = Double(c.layerCount)
    plan.sensitivitySeconds =
      1.1 * layers * products / flops
      + 1.1 * (layers * (2 * Double(tokens) * weights + statistics.forward) + statistics.headFlops)
      / forwardFlops
      // The sums that a quantization sends too.
      + (plan.network?.seconds ?? 0)

    let held = Double(heldOut.reduce(0, +))
    let head = 2 * Double(c.vocabularySize) * Double(c.hiddenSize)
    let comparison = 2 * held * (2 * layers * weights + head) / flops
    let rounds = if case .divergence = target.goal { 2.0 } else { 1.0 }
    plan.seconds = plan.sensitivitySeconds + rounds * (plan.seconds + comparison)
    // As of a quantization that looks at gradients.
    var learning = statisticsRecipe
    learning.tokenWeights = recipe.tokenWeights == .fisher ? .attention : recipe.tokenWeights
    let pass = QuantizationPlan(
      index, recipe: learning, shards: shards, otherBytes: 0, usesScratch: scratch != nil,
      flopsPerSecond: flops, pool: pool)
    plan.peakMemoryBytes = max(plan.peakMemoryBytes, pass.peakMemoryBytes)
    plan.peakWithScratchBytes = max(plan.peakWithScratchBytes, pass.peakWithScratchBytes)
    plan.scratchBytes = max(plan.scratchBytes, pass.scratchBytes)
    if case .bits(let bits) = target.goal {
      let group = Double(recipe.groupSize(forInputs: c.hiddenSize))
      plan.outputBytes += Int(layers * weights * (bits - Double(recipe.bits) - 16 / group) / 8)
    }
    return plan
  }
}
