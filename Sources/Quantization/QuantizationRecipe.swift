import Architecture
import AutoGPTQ
import JSON
import Tensors

/// Everything that decides what a quantization computes, apart from weights and calibration text.
package struct QuantizationRecipe: Equatable, Sendable {
  package enum Method: String, CaseIterable, Sendable {
    /// Second-order, column by column (Frantar et al. 2022); unless another setting says so, as AutoGPTQ 0.7.1 computes it.
    case gptq
    /// Each weight to its nearest code; the baseline.
    case rtn
  }
  package var method: Method
  /// 2, 3, 4 or 8.
  package var bits: Int
  /// Inputs of one group; −1: the whole row.
  package var groupSize: Int
  package var isSymmetric: Bool
  /// Columns in falling order of the Hessian's diagonal.
  package var descendingActivation: Bool
  /// Groups, and their scales, of the original order of columns.
  package var staticGroups: Bool
  /// Share of the mean of the Hessian's diagonal that is added to the diagonal.
  package var dampPercent: Double
  /// Added to `dampPercent` as long as the Hessian is not positive definite; 0: give up at once.
  package var dampIncrement: Double
  /// Modules quantized earlier in a layer act on what later ones of the same layer see.
  package var trueSequential: Bool
  /// Mirror the range of groups without a negative weight, which AutoGPTQ leaves at half its codes.
  package var mirrorsPositiveGroups: Bool
  /// Scales, and zero points of asymmetric groups, are those that lose least (``ScaleSearch``), instead of those that cover the range.
  package var searchesScales: Bool
  /// Whether a search may give symmetric groups negative scales.
  package var signedScales: Bool
  /// How much each calibration token counts in the Hessians.
  package var tokenWeights: TokenWeights
  /// Whether an error in one output is made up for in later outputs too (``OutputFeedback``).
  package var roundsBothSides: Bool
  /// Outputs whose dependence on each other is looked at together, at most: modules with more have blocks of equal size.
  package var outputBlock: Int
  /// Modules aim at what the float model computes from its own activations, and so make up for errors of the modules before them
  /// (``FloatStream``).
  package var propagatesErrors: Bool
  /// Descents at most after a solver, each followed by a refit of the scales (``Refinement``); 0: no refinement.
  package var refinementRounds: Int
  /// What calibration tokens pass through; Hessians are fp32 sums of what comes out of it either way.
  package var calibrationArithmetic: FloatArithmetic
  /// Consecutive parts of the calibration windows whose sums are made each alone and then added in order: as many ranks can share the
  /// work.
  package var shards: Int
  /// Modules with other bits or groups than `bits` and `groupSize`.
  package var modules: [ModuleID: ModuleSettings] = [:]

  /// Settings that go together.
  package enum Preset: String, CaseIterable, Sendable {
    /// What AutoGPTQ 0.7.1 computes.
    case autogptq
    /// What loses least without gradients, in about the time of `autogptq`.
    case balanced
    /// What loses least: a backward pass says what each token's and each output's error costs, and modules make up for the errors of
    /// those before them.
    case best
  }

  /// Gives the settings that a preset has an opinion on the preset's values.
  package mutating func apply(_ preset: Preset) {
    let improves = preset != .autogptq
    descendingActivation = improves
    staticGroups = improves
    searchesScales = improves
    tokenWeights =
      switch preset {
      case .autogptq: .none
      case .balanced: .attention
      case .best: .fisher
      }
    roundsBothSides = preset == .best
    propagatesErrors = preset == .best
    // Rounding the passes over the text loses nothing that can be measured.
    calibrationArithmetic = preset == .best ? .bf16 : .fp32
    // Where no few tokens decide H, it needs less.
    dampPercent = preset == .balanced ? 0.005 : 0.01
  }

  /// The recipe for an encoder: attention there is not causal, so that no token is attended to more because it is early, and tokens
  /// weigh 1 / ‖x‖ where a decoder's weigh by attention.
  package func forEncoder() -> QuantizationRecipe {
    var recipe = self
    if recipe.tokenWeights == .attention { recipe.tokenWeights = .norm }
    return recipe
  }

  /// - Throws: ``QuantizationError/notForEncoders(option:path:)`` for what only decoders have.
  func validateForEncoder(path: String) throws {
    let option: String? =
      if tokenWeights == .fisher || roundsBothSides {
        "--preset best, --token-weights fisher and --two-sided"
      } else if propagatesErrors { "--error-propagation" } else if !trueSequential && method == .gptq {
        "--no-true-sequential"
      } else { nil }
    if let option { throw QuantizationError.notForEncoders(option: option, path: path) }
  }

  /// Whether a backward pass over the calibration text comes before the quantization.
  package var needsStatistics: Bool { method == .gptq && (tokenWeights == .fisher || roundsBothSides) }

  /// Outputs of a block of the output Hessians that the backward pass sums; nil: none are needed.
  var statisticsBlock: Int? { roundsBothSides ? outputBlock : nil }

  /// How much a calibration token counts in the Hessians.
  package enum TokenWeights: String, CaseIterable, Sendable {
    /// All the same.
    case none
    /// 1 / ‖x‖ of a module's input x: a few tokens of huge activations do not outweigh all others.
    case norm
    /// For queries, keys and values, 1 / ‖x‖ times the attention that later tokens pay to the token; otherwise 1 / ‖x‖.
    case attention
    /// ‖g‖, g being the gradient of the model's loss with respect to the module's output.
    case fisher
  }

  /// 64 MB of an output Hessian.
  package static let defaultOutputBlock = 4096

  package init(
    method: Method = .gptq, bits: Int = 4, groupSize: Int = 128, isSymmetric: Bool = true,
    descendingActivation: Bool = false, staticGroups: Bool = false, dampPercent: Double = 0.01,
    dampIncrement: Double = 0.01, trueSequential: Bool = true, mirrorsPositiveGroups: Bool = false,
    searchesScales: Bool = false, signedScales: Bool = true, tokenWeights: TokenWeights = .none,
    roundsBothSides: Bool = false, outputBlock: Int = QuantizationRecipe.defaultOutputBlock,
    propagatesErrors: Bool = false, refinementRounds: Int = 0,
    calibrationArithmetic: FloatArithmetic = .fp32, shards: Int = 1
  ) {
    self.method = method
    self.bits = bits
    self.groupSize = groupSize
    self.isSymmetric = isSymmetric
    self.descendingActivation = descendingActivation
    self.staticGroups = staticGroups
    self.dampPercent = dampPercent
    self.dampIncrement = dampIncrement
    self.trueSequential = trueSequential
    self.mirrorsPositiveGroups = mirrorsPositiveGroups
    self.searchesScales = searchesScales
    self.signedScales = signedScales
    self.tokenWeights = tokenWeights
    self.roundsBothSides = roundsBothSides
    self.outputBlock = outputBlock
    self.propagatesErrors = propagatesErrors
    self.refinementRounds = refinementRounds
    self.calibrationArithmetic = calibrationArithmetic
    self.shards = shards
  }

  /// - Throws: ``QuantizationError`` naming the setting that makes no sense.
  package func validate() throws {
    func require(_ holds: Bool, _ option: String, _ value: some CustomStringConvertible, _ expected: String)
      throws
    {
      if !holds { throw QuantizationError.setting(option: option, value: "\(value)", expected: expected) }
    }
    try require([2, 3, 4, 8].contains(bits), "--bits", bits, "2, 3, 4 or 8")
    try require(
      groupSize == -1 || (32...(1 << 30)).contains(groupSize) && groupSize % 32 == 0, "--group-size",
      groupSize,
      "-1 or a multiple of 32 (32, 64, 128 are usual)")
    try require(
      (16...65_536).contains(outputBlock), "--output-block", outputBlock, "a number from 16 to 65536")
    try require(dampPercent > 0 && dampPercent < 1, "--damp", dampPercent, "a number between 0 and 1")
    try require(
      dampIncrement >= 0 && dampIncrement < 1, "--damp-increment", dampIncrement, "a number from 0 to 1")
    try require(
      (0...QuantizationRecipe.mostRefinementRounds).contains(refinementRounds), "--refinement-rounds",
      refinementRounds, "a number from 0 to \(QuantizationRecipe.mostRefinementRounds)")
    try require(
      (1...QuantizationRecipe.mostShards).contains(shards), "--shards", shards,
      "a number from 1 to \(QuantizationRecipe.mostShards)")
    // Their inputs must be those that the quantized modules before them give.
    try require(
      !propagatesErrors || trueSequential, "--error-propagation", "with --no-true-sequential",
      "--true-sequential")
    try require(
      method == .gptq || !propagatesErrors && refinementRounds == 0, "--method", method.rawValue,
      "gptq, which --error-propagation and --refinement-rounds need")
  }

  /// Whether some calibration windows judge what the others lead to (``HeldOutWindows``).
  var keepsWindowsOut: Bool { propagatesErrors || refinementRounds > 0 }

  package static let mostRefinementRounds = 100
  package static let mostShards = 65_536

  package func groupSize(forInputs inFeatures: Int) -> Int { groupSize == -1 ? inFeatures : groupSize }
  package var maximumCode: Float { Float((1 << bits) - 1) }

  /// Whether AutoGPTQ computes the same. Its checkpoints declare the order of columns also where groups are static and no engine
  /// need know it.
  private var isAutoGPTQ: Bool {
    !searchesScales && tokenWeights == .none && !roundsBothSides && !propagatesErrors && refinementRounds == 0
  }

  package func quantizeConfiguration(format: ZeroPointFormat) -> QuantizeConfiguration {
    var result = QuantizeConfiguration(
      bits: bits, groupSize: groupSize, isSymmetric: isSymmetric,
      descendingActivation: method == .gptq && descendingActivation && !(staticGroups && !isAutoGPTQ),
      staticGroups: method == .gptq && staticGroups, dampPercent: dampPercent, trueSequential: trueSequential,
      zeroPointFormat: format)
    result.meta = JSONObject(choices)
    return result
  }

  /// What AutoGPTQ has no setting for, where it differs from AutoGPTQ.
  private var choices: [(String, JSONValue)] {
    (searchesScales
      ? [("scale_search", true), ("signed_scales", .bool(isSymmetric && signedScales))] : [])
      + (tokenWeights == .none ? [] : [("token_weights", .string(tokenWeights.rawValue))])
      + (roundsBothSides ? [("two_sided", true), ("output_block", .init(outputBlock))] : [])
      + (propagatesErrors ? [("error_propagation", true)] : [])
      + (refinementRounds == 0 ? [] : [("refinement_rounds", .init(refinementRounds))])
  }

  package var json: JSONValue {
    var members = JSONObject([
      ("method", .string(method.rawValue)), ("bits", .init(bits)), ("group_size", .init(groupSize)),
      ("sym", .bool(isSymmetric)), ("desc_act", .bool(descendingActivation)),
      ("static_groups", .bool(staticGroups)),
      ("damp_percent", .init(dampPercent)), ("damp_increment", .init(dampIncrement)),
      ("true_sequential", .bool(trueSequential)), ("mirror_positive_groups", .bool(mirrorsPositiveGroups)),
    ])
    // Omitted when it has its default value, so that recipes written by older versions still match.
    if calibrationArithmetic != .fp32 {
      members["calibration_arithmetic"] = .string(calibrationArithmetic.rawValue)
    }
    if shards != 1 { members["shards"] = .init(shards) }
    for (key, value) in choices { members[key] = value }
    if !modules.isEmpty { members["modules"] = .object(modulesJSON) }
    return .object(members)
  }
}
