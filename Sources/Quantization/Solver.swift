import Compute
import Foundation
import JSON
import Tensors

/// What one module's quantization found.
package struct ModuleReport: Equatable, Sendable {
  package var module: String
  /// Σ over all weights of (w − q)² / U[c,c]² / 2: how much the output error grows, in AutoGPTQ's terms.
  package var sumLosses: Double
  /// `sumLosses` per calibration sequence: AutoGPTQ's "avg loss".
  package var averageLoss: Double
  package var seconds: Double
  /// What was used in the end; more than asked when the Hessian was not positive definite.
  package var dampPercent: Double
  package var deadChannels: Int
  package var positiveGroups: Int
  package var tinyScales: Int
  /// Whether the last group is shorter than the others: some engines refuse that.
  package var hasShortGroup: Bool
  package var warnings: [String]
  /// What its inputs looked like; nil when none were used.
  package var inputs: InputDiagnosis?

  package var json: JSONValue {
    [
      "inputs": inputs?.json ?? .null,
      "reasons": .array((inputs?.reasons ?? []).map { .string($0) }),
      "module": .string(module), "avg_loss": .init(averageLoss), "sum_losses": .init(sumLosses),
      "seconds": .init((seconds * 1000).rounded() / 1000), "damp_percent": .init(dampPercent),
      "dead_channels": .init(deadChannels), "all_positive_groups": .init(positiveGroups),
      "subnormal_scales": .init(tinyScales), "short_last_group": .bool(hasShortGroup),
      "warnings": .array(warnings.map { .string($0) }),
    ]
  }
}

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
  var deadCount: Int { dead.count { $0 } }

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
      throw QuantizationError(
        "\(name): the calibration inputs of channel \(channel) are not finite; a weight before it may be NaN or infinite"
      )
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
        diagnosis.measureRank(factor, order: order, damping: Float(damp) * mean)
        break
      }
      guard recipe.dampIncrement > 0, damp + recipe.dampIncrement < 1 else {
        throw QuantizationError(
          "\(name): the Hessian is not positive definite with damp \(damp); give more calibration text or a larger --damp"
            + diagnosis.reasons.map { "; \($0)" }.joined()
        )
      }
      damp += recipe.dampIncrement
    }
    if damp != recipe.dampPercent {
      warnings.append(
        "\(name): the Hessian is not positive definite with damp \(recipe.dampPercent); used \(damp) instead (more calibration text helps)"
      )
    }
    dampPercent = damp
    self.warnings = warnings
    self.diagnosis = diagnosis
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

/// Quantizes one Linear: AutoGPTQ 0.7.1's column loop (`Formats/autogptq-int4.md`, "The algorithm").
package struct Solver {
  package let recipe: QuantizationRecipe
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
  package func solve(_ weights: WeightMatrix, hessian: PreparedHessian?, module: String) throws -> (
    matrix: QuantizedMatrix, report: ModuleReport
  ) {
    let start = Date()
    var findings = ParameterFinder.Findings()
    var loss = 0.0
    var memory = self.memory.take()
    defer { self.memory.giveBack(memory) }
    let matrix = try QuantizedMatrix(like: weights, recipe: recipe, order: hessian?.order) { target in
      for outputs in parts(of: weights) {
        let part = outputs.count == weights.outFeatures ? weights : weights.outputs(outputs)
        let sweep = ColumnSweep(
          self, weights: part, memory: memory, target: target, firstOutput: outputs.lowerBound)
        defer { memory = sweep.memory }
        try sweep.checkFinite(module: module)
        findings += hessian.map { sweep.run($0) } ?? sweep.roundToNearest()
        sweep.storeParameters()
        sweep.addLosses(to: &loss)
      }
    }
    if let index = matrix.scales.firstIndex(where: { $0 & 0x7C00 == 0x7C00 }) {
      throw QuantizationError(
        "\(module): the scale of output \(index % matrix.outFeatures) is beyond what half precision holds; its weights are too large"
      )
    }
    if recipe.mirrorsPositiveGroups { findings.positiveGroups = 0 }
    return (
      matrix,
      ModuleReport(
        module: module, sumLosses: loss, averageLoss: loss / Double(hessian?.sequences ?? 1),
        seconds: Date().timeIntervalSince(start), dampPercent: hessian?.dampPercent ?? 0,
        deadChannels: hessian?.deadCount ?? 0, positiveGroups: findings.positiveGroups,
        tinyScales: findings.tinyScales, hasShortGroup: matrix.inFeatures % matrix.groupSize != 0,
        warnings: [], inputs: hessian?.diagnosis)
    )
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
