import Architecture
import Compute
import Tensors
import Transformer

/// What is summed over the calibration tokens before the modules of a stage are quantized.
struct StageSums {
  let hessian: Hessian
  /// Of the windows that are kept out of the other sums (``HeldOutWindows``).
  let heldOut: Hessian?
  /// Nil when errors are not propagated.
  let drift: InputDrift?
  /// Of the windows that are kept out.
  private let heldOutDrift: InputDrift?
  private let windows: Int
  private var windowsSeen = 0

  /// - Parameter windows: of the calibration set.
  init(order: Int, windows: Int, recipe: QuantizationRecipe) {
    hessian = Hessian(order: order)
    heldOut =
      recipe.keepsWindowsOut && HeldOutWindows.count(of: windows) > 0 ? Hessian(order: order) : nil
    drift = recipe.propagatesErrors ? InputDrift(order: order) : nil
    heldOutDrift = recipe.propagatesErrors && heldOut != nil ? InputDrift(order: order) : nil
    self.windows = windows
  }

  /// Windows that H is a sum over.
  var sequences: Int { windows - (heldOut == nil ? 0 : HeldOutWindows.count(of: windows)) }

  /// Adds the next chunk.
  /// - Parameters:
  ///   - weights: of each row; nil: all are 1.
  ///   - float: the same tokens in the float model, when errors are propagated.
  mutating func add(
    _ rows: BlockRows, of stage: TensorRule.Stage, weights: [Float]?, float: FloatStream?, pool: WorkerPool
  ) {
    add(
      rows.input(of: stage), windows: rows.sequences.map { $0.firstRow..<$0.firstRow + $0.rowCount },
      weights: weights,
      differences: float?.differences(
        from: rows, of: stage, width: hessian.order, weights: weights, pool: pool), pool: pool)
  }

  /// Adds the next windows.
  /// - Parameters:
  ///   - x: `[rows, order]`
  ///   - windows: the rows of each, one after the other.
  ///   - differences: weight · (x_f − x), when errors are propagated.
  mutating func add(
    _ x: UnsafePointer<Float>, windows: [Range<Int>], weights: [Float]?, differences: UnsafePointer<Float>?,
    pool: WorkerPool
  ) {
    let width = hessian.order
    for (isHeldOut, rows) in runs(of: windows) {
      guard let sum = isHeldOut ? heldOut : hessian else { continue }
      let x = x + rows.lowerBound * width
      sum.add(x, rows: rows.count, weights: weights.map { Array($0[rows]) }, pool: pool)
      if let drift = isHeldOut ? heldOutDrift : drift, let differences {
        drift.add(
          differences: differences + rows.lowerBound * width, x: x, rows: rows.count, pool: pool)
      }
    }
    windowsSeen += windows.count
  }

  /// Brings all sums but H to its units, when all tokens are added.
  func prepareOthers(pool: WorkerPool) {
    drift?.scale(by: hessian.factor(sequences: sequences), pool: pool)
    if let heldOut {
      heldOutDrift?.scale(by: heldOut.factor(sequences: windows - sequences), pool: pool)
      heldOut.finish(sequences: windows - sequences, pool: pool)
    }
  }

  /// What a module with these weights aims at: the weights themselves when errors are not propagated.
  func target(of weights: WeightMatrix, _ hessian: PreparedHessian, pool: WorkerPool) -> WeightMatrix {
    var judge: InputDrift.Judge?
    if let heldOut, let heldOutDrift { judge = InputDrift.Judge(heldOutDrift, heldOut) }
    return drift?.target(of: weights, hessian, judge: judge, pool: pool) ?? weights
  }

  /// What follows a solver; nil: nothing.
  func refinement(_ hessian: PreparedHessian, recipe: QuantizationRecipe, pool: WorkerPool) -> Refinement? {
    recipe.refinementRounds == 0
      ? nil : Refinement(hessian, heldOut: heldOut, rounds: recipe.refinementRounds, pool: pool)
  }

  /// Neighbouring rows of windows that are all kept out or all not.
  private func runs(of windows: [Range<Int>]) -> [(isHeldOut: Bool, rows: Range<Int>)] {
    var runs: [(isHeldOut: Bool, rows: Range<Int>)] = []
    for (index, rows) in windows.enumerated() {
      let isHeldOut =
        heldOut != nil && HeldOutWindows.contains(windowsSeen + index, of: self.windows)
      if let last = runs.last, last.isHeldOut == isHeldOut {
        runs[runs.count - 1].rows = last.rows.lowerBound..<rows.upperBound
      } else {
        runs.append((isHeldOut, rows))
      }
    }
    return runs
  }
}

/// The calibration windows that decide how far a refinement and a propagation of errors go: every eighth; the last one of fewer; none when there is only one.
package enum HeldOutWindows {
  private static let period = 8

  package static func contains(_ window: Int, of count: Int) -> Bool {
    count > 1 && window % period == min(period, count) - 1
  }

  package static func count(of count: Int) -> Int { (0..<count).count { contains($0, of: count) } }
}
