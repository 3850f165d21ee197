import Compute
import Distribution
import Foundation
import Tensors

/// Solves a module on all ranks, each of which takes some outputs: rows of W do not depend on each other, or in rounding on both sides only
/// on those of the same block. Every rank ends with the whole tensor and the report of one process.
struct SpreadSolver {
  var solver: Solver
  let communicator: any Communicator

  /// Outputs of a rank: whole panels.
  /// - Parameter starts: outputs where a part may start.
  private static func outputs(of rank: Int, _ ranks: Int, _ outFeatures: Int, starts: [Int]) -> Range<Int> {
    let share = SingleProcess.share(of: starts.count, rank: rank, of: ranks)
    let ends = starts + [outFeatures]
    return ends[share.lowerBound]..<ends[share.upperBound]
  }

  private static func starts(_ outFeatures: Int, _ outputs: OutputHessian?) -> [Int] {
    outputs.map { $0.blocks.map(\.outputs.lowerBound) }
      ?? Array(stride(from: 0, to: outFeatures, by: panelWidth))
  }

  /// Of the outputs of a module, those of the rank that has most.
  static func largestPart(_ outFeatures: Int, blockSize: Int?, ranks: Int) -> Int {
    let starts =
      blockSize.map { OutputHessian.ranges(outputs: outFeatures, blockSize: $0).map(\.lowerBound) }
      ?? starts(outFeatures, nil)
    return (0..<ranks).map { outputs(of: $0, ranks, outFeatures, starts: starts).count }.max() ?? outFeatures
  }

  /// - Parameters:
  ///   - weights: W, before any error is made up for.
  ///   - sums: what the modules before it led to; nil: round to nearest.
  ///   - refinement: what follows the solver.
  ///   - outputs: for rounding on both sides. The outputs of a block then depend on each other.
  func solve(
    _ weights: WeightMatrix, hessian: PreparedHessian?, sums: StageSums?, refinement: Refinement?,
    outputs: OutputHessian?, module: String
  ) throws -> (tensor: IntPanelTensor, report: ModuleReport) {
    func solve(_ weights: WeightMatrix, _ outputs: OutputHessian?) throws -> (IntPanelTensor, ModuleReport) {
      let target = hessian.flatMap { sums?.target(of: weights, $0) } ?? weights
      var (tensor, report) = try solver.solve(target, hessian: hessian, outputs: outputs, module: module)
      refinement?.apply(to: &tensor, of: target, &report)
      return (tensor, report)
    }
    if communicator.isAlone { return try solve(weights, outputs) }
    let start = Date()
    let starts = SpreadSolver.starts(weights.outFeatures, outputs)
    let parts = (0..<communicator.count).map {
      SpreadSolver.outputs(of: $0, communicator.count, weights.outFeatures, starts: starts)
    }
    let own = parts[communicator.rank]
    let part = own.isEmpty ? nil : try? solve(weights.outputs(own), outputs?.outputs(own))
    // A rank that cannot solve its part makes all ranks fail as one process would.
    let isSolved = try communicator.gather([own.isEmpty || part != nil]).allSatisfy { $0 == [true] }
    guard isSolved else { return try solve(weights, outputs) }
    var result = try merged(part, parts, of: weights, hessian: hessian, module: module)
    result.report.seconds = Date().timeIntervalSince(start)
    return result
  }

  /// Bytes that all ranks together send for a module, as ``solve(_:hessian:sums:refinement:outputs:module:)`` counts them.
  static func sentByteCount(
    out: Int, in inFeatures: Int, recipe: QuantizationRecipe, ranks: Int
  ) -> Int {
    let layout = IntPanelLayout(
      bits: recipe.bits, groupSize: recipe.groupSize(forInputs: inFeatures), outFeatures: out,
      inFeatures: inFeatures, isSymmetric: recipe.isSymmetric,
      isPermuted: recipe.method == .gptq && recipe.descendingActivation && !recipe.staticGroups
        && recipe.groupSize != -1)
    // A gathering of values says first how many there are.
    let length = MemoryLayout<Int>.size
    var own = ranks * (length + 1) + ranks * (length + MemoryLayout<Summary>.stride)
    own += ranks * length + MemoryLayout<Double>.size * out
    own += layout.codeByteCount + layout.scalesByteCount + layout.zerosByteCount
    own += layout.permutationByteCount
    own += ranks * (length + 1)
    if recipe.refinementRounds > 0 {
      own += ranks * (length + length * (recipe.refinementRounds + 1))
      own += ranks * length + MemoryLayout<RefinementReport.OutputLoss>.stride * out
    }
    return own * (ranks - 1)
  }

  // MARK: Parts

  /// What a rank says of its part, beside codes and losses.
  private struct Summary {
    var positiveGroups = 0
    var tinyScales = 0
    var isSymmetric = true
    var isPermuted = false
  }

  private func merged(
    _ part: (IntPanelTensor, ModuleReport)?, _ parts: [Range<Int>], of weights: WeightMatrix,
    hessian: PreparedHessian?, module: String
  ) throws -> (tensor: IntPanelTensor, report: ModuleReport) {
    var summary = Summary()
    if let (tensor, report) = part {
      summary.positiveGroups = report.positiveGroups
      summary.tinyScales = report.tinyScales
      summary.isSymmetric = tensor.layout.isSymmetric
      summary.isPermuted = tensor.layout.isPermuted
    }
    let summaries = try communicator.gather([summary]).map { $0[0] }
    let losses = try communicator.gather(part?.1.outputLosses ?? []).flatMap { $0 }
    let recipe = solver.recipe
    let layout = IntPanelLayout(
      bits: recipe.bits, groupSize: recipe.groupSize(forInputs: weights.inFeatures),
      outFeatures: weights.outFeatures, inFeatures: weights.inFeatures,
      isSymmetric: summaries.allSatisfy(\.isSymmetric), isPermuted: summaries.contains(where: \.isPermuted))
    let tensor = AlignedBuffer<UInt8>(zeros: layout.byteCount)
    // Each rank's codes, scales and zero points are those of whole panels, one after the other.
    let panels = parts.map { ($0.count + panelWidth - 1) / panelWidth }
    func gather(_ bytes: [UInt8], at offset: Int, bytesOfPanel: Int) throws {
      try bytes.withUnsafeBytes { bytes in
        try communicator.gather(
          bytes,
          into: UnsafeMutableRawBufferPointer(
            start: tensor.pointer + offset, count: layout.panelCount * bytesOfPanel),
          counts: panels.map { $0 * bytesOfPanel })
      }
    }
    let ownTensor = part?.0
    func bytes(_ offset: Int, _ count: Int) -> [UInt8] {
      guard let ownTensor else { return [] }
      return withExtendedLifetime(ownTensor) { Array(ownTensor.bytes[offset..<offset + count]) }
    }
    let ownLayout = ownTensor?.layout
    try gather(
      bytes(0, ownLayout?.codeByteCount ?? 0), at: 0,
      bytesOfPanel: layout.codeByteCount / layout.panelCount)
    try gather(
      bytes(ownLayout?.scalesOffset ?? 0, ownLayout?.scalesByteCount ?? 0), at: layout.scalesOffset,
      bytesOfPanel: layout.scalesByteCount / layout.panelCount)
    if layout.storesZeros {
      try gather(zeros(of: ownTensor), at: layout.zerosOffset, bytesOfPanel: layout.groupCount * panelWidth)
    }
    if layout.isPermuted {
      // The same on every rank that has a part; rank 0 may have none.
      let owner = panels.firstIndex { $0 > 0 } ?? 0
      let permutation = UnsafeMutableRawBufferPointer(
        start: tensor.pointer + layout.permutationOffset, count: layout.permutationByteCount)
      if let ownLayout, communicator.rank == owner {
        permutation.copyBytes(from: bytes(ownLayout.permutationOffset, ownLayout.permutationByteCount))
      }
      try communicator.broadcast(permutation, from: owner)
    }
    let loss = losses.reduce(0, +)
    let report = ModuleReport(
      module: module, sumLosses: loss, averageLoss: loss / Double(hessian?.sequences ?? 1), seconds: 0,
      dampPercent: hessian?.dampPercent ?? 0, deadChannels: hessian?.deadCount ?? 0,
      positiveGroups: summaries.reduce(0) { $0 + $1.positiveGroups },
      tinyScales: summaries.reduce(0) { $0 + $1.tinyScales },
      hasShortGroup: layout.inFeatures % layout.groupSize != 0, warnings: [], inputs: hessian?.diagnosis,
      reasons: hessian?.diagnosis.reasons ?? [], refinement: try refinement(of: part?.1.refinement),
      outputLosses: losses)
    return (
      IntPanelTensor(layout, UnsafeBytes(UnsafeRawBufferPointer(tensor.buffer), owner: tensor)), report
    )
  }

  /// Zero points as they are stored, `[panel][group][16]`, also where the part leaves them out because all are the middle code.
  private func zeros(of tensor: IntPanelTensor?) -> [UInt8] {
    guard let tensor else { return [] }
    let layout = tensor.layout
    if layout.storesZeros {
      return withExtendedLifetime(tensor) {
        Array(tensor.bytes[layout.zerosOffset..<layout.zerosOffset + layout.zerosByteCount])
      }
    }
    var zeros = [UInt8](repeating: 0, count: layout.panelCount * layout.groupCount * panelWidth)
    for output in 0..<layout.outFeatures {
      for group in 0..<layout.groupCount {
        zeros[(output / panelWidth * layout.groupCount + group) * panelWidth + output % panelWidth] =
          layout.middleCode
      }
    }
    return zeros
  }

  /// The refinement of all parts: losses of the outputs are added one after the other, as one process adds them.
  private func refinement(of own: RefinementReport?) throws -> RefinementReport? {
    guard try communicator.gather([own != nil]).contains([true]) else { return nil }
    let rows = try communicator.gather(own?.rows ?? [])
    let losses = try communicator.gather(own?.outputLosses ?? []).flatMap { $0 }
    var report = RefinementReport(rows: rows.first { !$0.isEmpty }.map { $0.map { _ in 0 } } ?? [])
    for part in rows { for (place, count) in part.enumerated() { report.rows[place] += count } }
    for loss in losses { report.add(loss) }
    return report
  }
}
