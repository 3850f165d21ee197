import Compute
import Foundation
import Tensors

/// The order columns are handled in and the factor they are corrected with: the same for all modules that share a
/// Hessian.
package struct PreparedHessian {
  /// Column `c` of the sweep is channel `order[c]`; nil: the same.
  let order: [Int]?
  let factor: CholeskyFactor
  let dead: [Bool]
  let sequences: Int
  package let dampPercent: Double
  package let warnings: [String]
  package let diagnosis: InputDiagnosis
  /// What an error in a column costs, 1 / U[i, i]², its mean being 1: for a search of scales; nil without one.
  let importance: Importance?
  struct Importance: Sendable {
    /// In the order of the sweep.
    let ofColumns: AlignedBuffer<Float>
    let ofChannels: AlignedBuffer<Float>
  }
  var deadCount: Int { dead.count { $0 } }
  /// H + d in the order of channels, both triangles: for a refinement; nil without one.
  let damped: AlignedBuffer<Float>?

  /// - Parameter hessian: is used up.
  /// - Throws: ``QuantizationError`` when it is not finite, or not positive definite however it is damped.
  package init(
    _ hessian: Hessian, sequences: Int, recipe: QuantizationRecipe, name: String, pool: WorkerPool = .shared
  )
    throws
  {
    let n = hessian.order
    hessian.finish(sequences: sequences, pool: pool)
    var h = hessian.values
    let diagonal = hessian.diagonal
    guard diagonal.allSatisfy(\.isFinite) else {
      let channel = diagonal.firstIndex { !$0.isFinite } ?? 0
      throw QuantizationError.inputsNotFinite(module: name, channel: channel)
    }
    var diagnosis = InputDiagnosis(h.pointer, diagonal: diagonal, tokens: hessian.rows, pool: pool)
    var dead = [Bool](repeating: false, count: n)
    var values = diagonal
    for k in 0..<n where diagonal[k] == 0 {
      dead[k] = true
      values[k] = 1
      h[k * n + k] = 1
    }
    self.dead = dead
    self.sequences = sequences
    // The factor takes the place of H, or of H in another order.
    damped =
      recipe.refinementRounds == 0 ? nil : recipe.descendingActivation ? h : PreparedHessian.copy(h, pool)
    if recipe.descendingActivation {
      let order = values.indices.sorted { (values[$1], $0) < (values[$0], $1) }
      h = PreparedHessian.permuted(h, n, order, pool: pool)
      values = order.map { values[$0] }
      self.order = order
    } else {
      order = nil
    }

    // The lower triangle keeps H, for another try.
    let mean = Float(values.reduce(0.0) { $0 + Double($1) } / Double(n))
    var damp = recipe.dampPercent
    var warnings: [String] = []
    var first = true
    while true {
      if !first { PreparedHessian.restoreUpper(h, n, pool: pool) }
      first = false
      for k in 0..<n { h[k * n + k] = values[k] + Float(damp) * mean }
      if let factor = Factorization.cholesky(ofUpperTriangle: h, order: n, pool: pool) {
        self.factor = factor
        diagnosis.measureRank(factor, order: order, dead: dead, damping: Float(damp) * mean)
        break
      }
      guard recipe.dampIncrement > 0, damp + recipe.dampIncrement < 1 else {
        throw QuantizationError.notPositiveDefinite(module: name, damp: damp, reasons: diagnosis.reasons)
      }
      damp += recipe.dampIncrement
    }
    if damp != recipe.dampPercent {
      warnings.append(
        "\(name): the Hessian is not positive definite with damp \(recipe.dampPercent); damp was raised to \(damp); more calibration text avoids this"
      )
    }
    if let damped { for k in 0..<n { damped[k * n + k] += Float(damp) * mean } }
    importance = recipe.searchesScales ? Importance(factor, order: order) : nil
    dampPercent = damp
    self.warnings = warnings
    self.diagnosis = diagnosis
  }

  private static func copy(_ h: AlignedBuffer<Float>, _ pool: WorkerPool) -> AlignedBuffer<Float> {
    let result = AlignedBuffer<Float>(count: h.count)
    pool.runRanges(h.count, grain: 1 << 16) {
      (result.pointer + $0.lowerBound).update(from: h.pointer + $0.lowerBound, count: $0.count)
    }
    return result
  }

  private static func permuted(_ h: AlignedBuffer<Float>, _ n: Int, _ order: [Int], pool: WorkerPool)
    -> AlignedBuffer<Float>
  {
    let result = AlignedBuffer<Float>(count: n * n)
    pool.runRanges(n) { range in
      for i in range {
        let (from, to) = (h.pointer + order[i] * n, result.pointer + i * n)
        for j in 0..<n { to[j] = from[order[j]] }
      }
    }
    return result
  }

  private static func restoreUpper(_ h: AlignedBuffer<Float>, _ n: Int, pool: WorkerPool) {
    pool.runRanges(n) { range in
      for i in range { for j in i + 1..<max(n, i + 1) { h[i * n + j] = h[j * n + i] } }
    }
  }
}

extension PreparedHessian.Importance {
  /// - Parameter factor: R with H = R·Rᵀ; U = R⁻¹, so that 1 / U[i, i] = R[i, i].
  fileprivate init(_ factor: CholeskyFactor, order: [Int]?) {
    let squares = (0..<factor.order).map { Double(factor[$0, $0]) * Double(factor[$0, $0]) }
    let mean = squares.reduce(0, +) / Double(max(1, squares.count))
    ofColumns = AlignedBuffer(count: factor.order)
    for (column, square) in squares.enumerated() { ofColumns[column] = Float(square / mean) }
    guard let order else {
      ofChannels = ofColumns
      return
    }
    ofChannels = AlignedBuffer(count: factor.order)
    for (column, channel) in order.enumerated() { ofChannels[channel] = ofColumns[column] }
  }
}

/// Quantizes one Linear: AutoGPTQ 0.7.1's column loop (`Formats/autogptq-int4.md`, "The algorithm").
package struct Solver {
  package var recipe: QuantizationRecipe
  package let pool: WorkerPool

  /// Columns corrected one by one before the rest of the matrix is: part of the result, not a tuning knob, because group
  /// parameters see only the corrections of earlier blocks.
  package static let blockSize = 128
  let blockSize: Int
  private let outputsOfPart: Int
  private let memory = SweepMemory.Keeper()

  package init(
    recipe: QuantizationRecipe, pool: WorkerPool = .shared, blockSize: Int = Solver.blockSize,
    outputsOfPart: Int? = nil
  ) {
    self.outputsOfPart = outputsOfPart ?? Solver.outputsOfPart(threads: pool.threadCount)
    self.recipe = recipe
    self.pool = pool
    self.blockSize = blockSize
  }

  /// Columns that are corrected for all earlier ones at once: whole blocks, blocks of the factor, and groups whose
  /// parameters are found on the way.
  func spanWidth(inFeatures: Int) -> Int {
    func multiple(_ a: Int, _ b: Int) -> Int {
      var (x, y) = (a, b)
      while y != 0 { (x, y) = (y, x % y) }
      return a / x * b
    }
    let width = multiple(Factorization.block, blockSize)
    let findsParameters = recipe.groupSize != -1 && !recipe.staticGroups
    return min(inFeatures, findsParameters ? multiple(width, recipe.groupSize(forInputs: inFeatures)) : width)
  }

  /// - Parameters:
  ///   - weights: `[out, in]`, any float order.
  ///   - hessian: of the module's inputs; nil: round to nearest.
  ///   - outputs: of the gradients of its outputs, for rounding on both sides, which needs a Hessian; nil: outputs do not
  ///     depend on each other.
  package func solve(
    _ weights: WeightMatrix, hessian: PreparedHessian?, outputs: OutputHessian? = nil, module: String
  ) throws -> (tensor: IntPanelTensor, report: ModuleReport) {
    precondition(outputs == nil || hessian != nil, "rounding on both sides needs both Hessians")
    let start = Date()
    var findings = ParameterFinder.Findings()
    var loss = 0.0
    var memory = self.memory.take()
    defer { self.memory.giveBack(memory) }
    let groups = groupIndex(inFeatures: weights.inFeatures, order: hessian?.order)
    func builder(outFeatures: Int) -> IntPanelBuilder {
      IntPanelBuilder(
        bits: recipe.bits, groupSize: recipe.groupSize(forInputs: weights.inFeatures),
        outFeatures: outFeatures, isSymmetric: recipe.isSymmetric, groupIndex: groups)
    }
    func run(_ sweep: ColumnSweep) throws {
      memory = sweep.memory
      try sweep.checkFinite(module: module)
      findings += hessian.map { sweep.run($0) } ?? sweep.roundToNearest()
      sweep.storeParameters()
      sweep.addLosses(to: &loss)
    }
    let target = builder(outFeatures: weights.outFeatures)
    var outputLosses: [Double] = []
    if let outputs {
      for block in outputs.blocks {
        let feedback = OutputFeedback(block, pool: pool)
        let ordered = builder(outFeatures: block.order)
        let sweep = ColumnSweep(
          self, weights: weights.floatRows(feedback.outputs, pool: pool), memory: memory, target: ordered,
          firstOutput: 0, feedback: feedback)
        try run(sweep)
        outputLosses += sweep.outputLosses
        for (place, output) in feedback.outputs.enumerated() {
          target.copy(output: place, of: ordered, to: output)
        }
      }
    } else {
      for outputs in parts(of: weights) {
        let sweep = ColumnSweep(
          self, weights: outputs.count == weights.outFeatures ? weights : weights.outputs(outputs),
          memory: memory, target: target, firstOutput: outputs.lowerBound)
        try run(sweep)
        outputLosses += sweep.outputLosses
      }
    }
    let tensor = target.finished(omittingMiddleZeros: true)
    if let index = tensor.scales.firstIndex(where: { $0 & 0x7C00 == 0x7C00 }) {
      throw QuantizationError.scaleTooLarge(module: module, output: index % weights.outFeatures)
    }
    if recipe.mirrorsPositiveGroups { findings.positiveGroups = 0 }
    return (
      tensor,
      ModuleReport(
        module: module, sumLosses: loss, averageLoss: loss / Double(hessian?.sequences ?? 1),
        seconds: Date().timeIntervalSince(start), dampPercent: hessian?.dampPercent ?? 0,
        deadChannels: hessian?.deadCount ?? 0, positiveGroups: findings.positiveGroups,
        tinyScales: findings.tinyScales,
        hasShortGroup: tensor.layout.inFeatures % tensor.layout.groupSize != 0, warnings: [],
        inputs: hessian?.diagnosis, reasons: hessian?.diagnosis.reasons ?? [], outputLosses: outputLosses)
    )
  }

  /// The group of each channel. Act-order forms groups of columns in the order of the sweep, unless they are static.
  private func groupIndex(inFeatures: Int, order: [Int]?) -> [Int32] {
    let groupSize = recipe.groupSize(forInputs: inFeatures)
    var index = (0..<inFeatures).map { Int32($0 / groupSize) }
    guard let order, !recipe.staticGroups else { return index }
    for (column, channel) in order.enumerated() { index[channel] = Int32(column / groupSize) }
    return index
  }

  /// Outputs that are swept together, the first part being the largest. Rows of W do not depend on each other, and the memory
  /// of a part serves the next: fresh pages for all of gate's and up's floats took as long as a sixth of their sweep.
  private func parts(of weights: WeightMatrix) -> [Range<Int>] {
    if case .intPanels = weights { return [0..<weights.outFeatures] }
    let panels = (weights.outFeatures + panelWidth - 1) / panelWidth
    let most = outputsOfPart / panelWidth
    let count = max(1, (panels + most - 1) / most)
    let width = (panels + count - 1) / count * panelWidth
    return stride(from: 0, to: weights.outFeatures, by: max(1, width)).map {
      $0..<min(weights.outFeatures, $0 + width)
    }
  }

  /// Every part packs all of the factor anew: no fewer outputs than keep that a small share of the work, on all threads.
  static func outputsOfPart(threads: Int) -> Int { max(2048, 512 * threads) }
}
