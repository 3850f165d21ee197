import Architecture
import Compute
import Distribution
import Tensors
import Transformer

/// What is summed over the calibration tokens before the modules of a stage are quantized: over each shard alone, then over the shards.
struct StageSums {
  let hessian: Hessian
  /// Of the windows that are kept out of the other sums (``HeldOutWindows``).
  let heldOut: Hessian?
  /// Nil when errors are not propagated.
  let drift: InputDrift?
  /// Of the windows that are kept out.
  private let heldOutDrift: InputDrift?
  private let windows: Int
  private let shards: CalibrationShards
  private let communicator: any Communicator
  private let pool: WorkerPool
  /// Sums over the shards, of ``matrices``; empty when there is only one shard.
  private let totals: [OrderedSum]
  /// Of this rank's shards: those of H, and of the windows that are kept out.
  private var counts: [[Hessian.Counts]] = []

  init(
    order: Int, shards: CalibrationShards, recipe: QuantizationRecipe, communicator: any Communicator,
    pool: WorkerPool
  ) {
    let windows = shards.lengths.count
    hessian = Hessian(order: order)
    heldOut =
      recipe.keepsWindowsOut && HeldOutWindows.count(of: windows) > 0 ? Hessian(order: order) : nil
    drift = recipe.propagatesErrors ? InputDrift(order: order) : nil
    heldOutDrift = recipe.propagatesErrors && heldOut != nil ? InputDrift(order: order) : nil
    self.windows = windows
    (self.shards, self.communicator, self.pool) = (shards, communicator, pool)
    let shapes = StageSums.shapes(recipe, windows: windows)
    totals =
      shards.count == 1
      ? [] : shapes.map { OrderedSum(order: order, shape: $0, communicator: communicator, pool: pool) }
  }

  /// Bytes that all ranks together send for a stage's sums.
  static func sentByteCount(order: Int, shards: CalibrationShards, recipe: QuantizationRecipe) -> Int {
    guard shards.count > 1, shards.ranks > 1 else { return 0 }
    let shapes = shapes(recipe, windows: shards.lengths.count)
    let hessians = shapes.count { $0 == .upperTriangle }
    let counts =
      (shards.ranks - 1) * hessians
      * (shards.ranks * MemoryLayout<Int>.size + shards.count * MemoryLayout<Hessian.Counts>.stride)
    return counts
      + shapes.reduce(0) { sum, shape in
        (0..<shards.ranks).reduce(sum) {
          $0
            + OrderedSum.sentByteCount(
              order: order, shape: shape, shards: shards.count, rank: $1, ranks: shards.ranks)
        }
      }
  }

  /// Memory beside the sums of one shard.
  static func byteCount(order: Int, shards: CalibrationShards, recipe: QuantizationRecipe) -> Int {
    shards.count == 1
      ? 0
      : shapes(recipe, windows: shards.lengths.count).reduce(0) {
        $0 + OrderedSum.byteCount(order: order, shape: $1, ranks: shards.ranks)
      }
  }

  /// Of the matrices that are summed.
  private static func shapes(_ recipe: QuantizationRecipe, windows: Int) -> [OrderedSum.Shape] {
    let hessians = recipe.keepsWindowsOut && HeldOutWindows.count(of: windows) > 0 ? 2 : 1
    return Array(repeating: .upperTriangle, count: hessians)
      + Array(repeating: .square, count: recipe.propagatesErrors ? hessians : 0)
  }

  private var hessians: [Hessian] { [hessian] + (heldOut.map { [$0] } ?? []) }

  /// What is summed.
  private var matrices: [AlignedBuffer<Float>] {
    hessians.map(\.values) + [drift, heldOutDrift].compactMap { $0?.values }
  }

  /// Ends a round of shards: all ranks have added theirs.
  mutating func endRound(_ round: Int) throws {
    guard !totals.isEmpty else { return }
    let hasShard = shards.windows(inRound: round) != nil
    for (total, matrix) in zip(totals, matrices) {
      try total.add(hasShard ? matrix : nil, shards: shards.shards(inRound: round))
    }
    if hasShard { counts.append(hessians.map { $0.startNextShard(pool: pool) }) }
    for drift in [drift, heldOutDrift] { drift?.values.clear(pool: pool) }
  }

  /// Brings the sums over all shards to all ranks.
  func finish() throws {
    guard !totals.isEmpty else { return }
    for (total, matrix) in zip(totals, matrices) { try total.finish(into: matrix) }
    for (place, hessian) in hessians.enumerated() {
      let all = try communicator.gather(counts.map { $0[place] })
      var sum = Hessian.Counts()
      for shard in 0..<shards.count {
        let counts = all[shard % shards.ranks][shard / shards.ranks]
        sum.rows += counts.rows
        sum.weightSum += counts.weightSum
      }
      hessian.setCounts(sum)
    }
  }

  /// Windows that H is a sum over.
  var sequences: Int { windows - (heldOut == nil ? 0 : HeldOutWindows.count(of: windows)) }

  /// Adds the next chunk.
  /// - Parameters:
  ///   - firstWindow: number of its first window among all.
  ///   - weights: of each row; nil: all are 1.
  ///   - float: the same tokens in the float model, when errors are propagated.
  func add(
    _ rows: BlockRows, of stage: TensorRule.Stage, firstWindow: Int, weights: [Float]?, float: FloatStream?
  ) {
    add(
      rows.input(of: stage), windows: rows.sequences.map { $0.firstRow..<$0.firstRow + $0.rowCount },
      firstWindow: firstWindow,
      weights: weights,
      differences: float?.differences(
        from: rows, of: stage, width: hessian.order, weights: weights, pool: pool))
  }

  /// Adds the next windows.
  /// - Parameters:
  ///   - x: `[rows, order]`
  ///   - windows: the rows of each, one after the other.
  ///   - firstWindow: number of the first among all.
  ///   - differences: weight · (x_f − x), when errors are propagated.
  func add(
    _ x: UnsafePointer<Float>, windows: [Range<Int>], firstWindow: Int, weights: [Float]?,
    differences: UnsafePointer<Float>?
  ) {
    let width = hessian.order
    for (isHeldOut, rows) in runs(of: windows, firstWindow: firstWindow) {
      guard let sum = isHeldOut ? heldOut : hessian else { continue }
      let x = x + rows.lowerBound * width
      sum.add(x, rows: rows.count, weights: weights.map { Array($0[rows]) }, pool: pool)
      if let drift = isHeldOut ? heldOutDrift : drift, let differences {
        drift.add(
          differences: differences + rows.lowerBound * width, x: x, rows: rows.count, pool: pool)
      }
    }
  }

  /// Brings all sums but H to its units, when all tokens are added.
  func prepareOthers() {
    drift?.scale(by: hessian.factor(sequences: sequences), pool: pool)
    if let heldOut {
      heldOutDrift?.scale(by: heldOut.factor(sequences: windows - sequences), pool: pool)
      heldOut.finish(sequences: windows - sequences, pool: pool)
    }
  }

  /// What a module with these weights aims at: the weights themselves when errors are not propagated.
  func target(of weights: WeightMatrix, _ hessian: PreparedHessian) -> WeightMatrix {
    var judge: InputDrift.Judge?
    if let heldOut, let heldOutDrift { judge = InputDrift.Judge(heldOutDrift, heldOut) }
    return drift?.target(of: weights, hessian, judge: judge, pool: pool) ?? weights
  }

  /// What follows a solver; nil: nothing.
  func refinement(_ hessian: PreparedHessian, recipe: QuantizationRecipe) -> Refinement? {
    recipe.refinementRounds == 0
      ? nil : Refinement(hessian, heldOut: heldOut, rounds: recipe.refinementRounds, pool: pool)
  }

  /// Neighbouring rows of windows that are all kept out or all not.
  private func runs(of windows: [Range<Int>], firstWindow: Int) -> [(isHeldOut: Bool, rows: Range<Int>)] {
    var runs: [(isHeldOut: Bool, rows: Range<Int>)] = []
    for (index, rows) in windows.enumerated() {
      let isHeldOut =
        heldOut != nil && HeldOutWindows.contains(firstWindow + index, of: self.windows)
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
