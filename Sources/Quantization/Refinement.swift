import Compute
import Foundation
import Tensors

/// Improves codes and scales that a solver has found, whatever solver that was: H stays, W′ is what the module should have been.
///
/// Two steps take turns. A *refit* keeps the codes c and takes the scales s of a row's groups that lose least,
/// s = A⁻¹·b with A[g, h] = c_gᵀ·H[g, h]·c_h and b[g] = c_gᵀ·(H·w′)[g]. A *descent* keeps the scales and moves one code after the other to
/// where the loss (w′ − q)·H·(w′ − q)ᵀ is smallest. Zero points stay.
///
/// Each lowers the loss on the calibration text, and after a while only there. So windows that are kept out of H judge
/// (``HeldOutWindows``): a row keeps a step only if its loss on them falls, and a row whose descent is not kept is finished. Rows do not
/// depend on each other, and neither do their decisions.
package struct Refinement {
  /// Descents at most, each followed by a refit.
  let rounds: Int
  let pool: WorkerPool
  /// H + d, `[order, order]`, both triangles.
  private let hessian: AlignedBuffer<Float>
  /// H of the windows that judge; H + d when there are none.
  private let judge: AlignedBuffer<Float>
  private let order: Int
  private let dead: [Bool]
  private let outputsOfPart: Int

  /// Outputs that are refined together: H is packed anew for each part, which the part's errors wait for in memory.
  static let outputsOfPart = 1024

  /// Multiplications and additions for each weight and input of its row, when every row takes every round. A refit takes three, a descent
  /// two, and after each, as before the first, the loss on held-out windows one.
  static func products(rounds: Int) -> Double { 1 + 4 * Double(rounds + 1) + 3 * Double(rounds) }

  /// Memory beside that of the solver: what judges, H where the factor took its place, both in another order for act-order without
  /// static groups; a part's weights, errors and codes, rows of H, and systems of equations.
  static func byteCount(widest: Int, k: Int, recipe: QuantizationRecipe) -> Int {
    let ordered = recipe.descendingActivation
    // A propagation of errors has what judges too.
    let matrices =
      (recipe.propagatesErrors ? 0 : 1) + (ordered ? 0 : 1) + (ordered && !recipe.staticGroups ? 2 : 0)
    let part = min((widest + panelWidth - 1) / panelWidth * panelWidth, outputsOfPart)
    let group = recipe.groupSize(forInputs: k)
    let systems = min(
      RefinedPart.systemByteCount,
      ScaleSystem.count(groups: (k + group - 1) / group) * 8 * part)
    return 4 * k * k * matrices + 10 * part * k + 2 * 4 * RefinedPart.blockSize * k + systems
  }

  /// - Parameters:
  ///   - hessian: prepared with a recipe that refines.
  ///   - heldOut: finished; nil: H decides itself.
  package init(
    _ hessian: PreparedHessian, heldOut: Hessian?, rounds: Int, outputsOfPart: Int = Refinement.outputsOfPart,
    pool: WorkerPool = .shared
  ) {
    guard let damped = hessian.damped else { preconditionFailure("prepared without a refinement") }
    self.rounds = rounds
    self.pool = pool
    self.hessian = damped
    self.judge = heldOut?.values ?? damped
    self.outputsOfPart = outputsOfPart
    order = hessian.factor.order
    dead = hessian.dead
  }

  /// Replaces what a solver found, and adds to its report.
  func apply(to tensor: inout IntPanelTensor, of weights: WeightMatrix, _ report: inout ModuleReport) {
    let start = Date()
    let refined = refined(tensor, weights: weights)
    tensor = refined.tensor
    report.refinement = refined.report
    report.seconds += Date().timeIntervalSince(start)
  }

  /// - Parameters:
  ///   - tensor: codes, scales and zero points; groups of any size, also of act-order.
  ///   - weights: W′ `[out, in]`, floats.
  package func refined(_ tensor: IntPanelTensor, weights: WeightMatrix) -> (
    tensor: IntPanelTensor, report: RefinementReport
  ) {
    let layout = tensor.layout
    precondition(
      layout.inFeatures == order && weights.inFeatures == order && weights.outFeatures == layout.outFeatures,
      "a matrix of other inputs or outputs")
    let channels = tensor.channels
    let isPermuted = layout.isPermuted
    let forms = (
      hessian: isPermuted ? permuted(hessian, channels) : hessian,
      judge: isPermuted ? permuted(judge, channels) : judge
    )
    let target = IntPanelBuilder(
      bits: layout.bits, groupSize: layout.groupSize, outFeatures: layout.outFeatures,
      isSymmetric: layout.isSymmetric, groupIndex: tensor.groupIndex)
    var report = RefinementReport(rows: Array(repeating: 0, count: rounds + 1))
    for first in stride(from: 0, to: layout.outFeatures, by: outputsOfPart) {
      let outputs = first..<min(layout.outFeatures, first + outputsOfPart)
      let part = RefinedPart(
        tensor, outputs: outputs, channels: channels,
        weights: outputs.count == layout.outFeatures ? weights : weights.outputs(outputs), dead: dead,
        hessian: forms.hessian, judge: forms.judge, pool: pool)
      part.refine(rounds: rounds)
      part.store(in: target)
      part.add(to: &report)
    }
    return (target.finished(), report)
  }

  private func permuted(_ h: AlignedBuffer<Float>, _ channels: [Int]) -> AlignedBuffer<Float> {
    let n = order
    let result = AlignedBuffer<Float>(count: n * n)
    pool.runRanges(n) { range in
      for i in range {
        let (from, to) = (h.pointer + channels[i] * n, result.pointer + i * n)
        for j in 0..<n { to[j] = from[channels[j]] }
      }
    }
    return result
  }
}

/// Some outputs on their way through a refinement. Columns are in the order in which the tensor stores them, where groups are
/// consecutive.
final class RefinedPart: Sendable {
  private let tensor: IntPanelTensor
  private let outputs: Range<Int>
  private let pool: WorkerPool
  private let k: Int
  private let panels: Int
  private let groups: Int
  private let groupSize: Int
  private let hessian: AlignedBuffer<Float>
  private let judge: AlignedBuffer<Float>
  /// `[panel][column][16]`: W′, and what is left of it, W′ − Q.
  private let weights: AlignedBuffer<Float>
  private let errors: AlignedBuffer<Float>
  /// `[panel][column][16]`: as they are, and as they were when a row's loss was smallest.
  private let codes: AlignedBuffer<UInt8>
  private let bestCodes: AlignedBuffer<UInt8>
  /// `[panel][group][16]`
  private let scales: AlignedBuffer<Float>
  private let bestScales: AlignedBuffer<Float>
  private let zeros: AlignedBuffer<Float>
  /// Of each panel and lane, on what judges: at the start, and the smallest.
  private let lossesBefore: AlignedBuffer<Double>
  private let losses: AlignedBuffer<Double>
  /// Rows that may still improve, and the descents each has kept.
  private let isActive: AlignedBuffer<Bool>
  private let kept: AlignedBuffer<Int>

  /// Columns of H that are multiplied at a time, and whose codes move before the others see it.
  static let blockSize = 128
  /// Bytes of the systems of equations that are solved at a time.
  static let systemByteCount = 32 << 20

  init(
    _ tensor: IntPanelTensor, outputs: Range<Int>, channels: [Int], weights matrix: WeightMatrix,
    dead: [Bool], hessian: AlignedBuffer<Float>, judge: AlignedBuffer<Float>, pool: WorkerPool
  ) {
    let layout = tensor.layout
    self.tensor = tensor
    self.outputs = outputs
    self.pool = pool
    self.hessian = hessian
    self.judge = judge
    k = layout.inFeatures
    groups = layout.groupCount
    groupSize = layout.groupSize
    panels = (outputs.count + panelWidth - 1) / panelWidth
    let elements = panels * k * panelWidth
    weights = matrix.floatPanels(pool: pool)
    errors = AlignedBuffer(count: elements)
    codes = AlignedBuffer(count: elements)
    bestCodes = AlignedBuffer(count: elements)
    scales = AlignedBuffer(count: panels * groups * panelWidth)
    bestScales = AlignedBuffer(count: scales.count)
    zeros = AlignedBuffer(count: scales.count)
    lossesBefore = AlignedBuffer(zeros: panels * panelWidth)
    losses = AlignedBuffer(zeros: panels * panelWidth)
    isActive = AlignedBuffer(count: panels * panelWidth)
    kept = AlignedBuffer(zeros: panels * panelWidth)
    load(channels, dead: dead)
  }

  private func load(_ channels: [Int], dead: [Bool]) {
    if tensor.layout.isPermuted { weights.permuteLines(channels, panels: panels, pool: pool) }
    let deadColumns = channels.indices.filter { dead[channels[$0]] }
    let (allScales, allZeros) = (tensor.scales, tensor.zeros)
    let places = (0..<k).map(tensor.layout.place(ofInput:))
    let outFeatures = tensor.layout.outFeatures
    pool.runRanges(panels) { range in
      for panel in range {
        let base = panel * k * panelWidth
        // Their weights became 0.
        for column in deadColumns {
          (weights.pointer + base + column * panelWidth).update(repeating: 0, count: panelWidth)
        }
        let lines = UnsafeMutableRawPointer(codes.pointer + base)
        for (column, place) in places.enumerated() {
          let line = tensor.codes(panel: outputs.lowerBound / panelWidth + panel, at: place)
          lines.storeBytes(
            of: SIMD16<UInt8>(truncatingIfNeeded: line), toByteOffset: column * panelWidth,
            as: SIMD16<UInt8>.self)
        }
        for lane in 0..<panelWidth {
          let output = outputs.lowerBound + panel * panelWidth + lane
          let exists = output < outputs.upperBound
          isActive[panel * panelWidth + lane] = exists
          for group in 0..<groups {
            let at = (panel * groups + group) * panelWidth + lane
            let source = group * outFeatures + output
            scales[at] = exists ? HalfPrecision.widened(allScales[source]) : 1
            zeros[at] = exists ? Float(allZeros[source]) : 0
          }
        }
      }
    }
    bestCodes.pointer.update(from: codes.pointer, count: codes.count)
    bestScales.pointer.update(from: scales.pointer, count: scales.count)
  }

  // MARK: The course of a refinement

  func refine(rounds: Int) {
    pool.runRanges(panels) { for panel in $0 { setErrors(ofPanel: panel) } }
    addLosses(to: lossesBefore)
    losses.pointer.update(from: lossesBefore.pointer, count: losses.count)
    refit()
    keepWhatHelps(isDescent: false)
    for _ in 0..<rounds {
      guard isActive.buffer.contains(true) else { return }
      descend()
      keepWhatHelps(isDescent: true)
      refit()
      keepWhatHelps(isDescent: false)
    }
  }

  /// Takes the last step back in all rows whose loss did not fall.
  private func keepWhatHelps(isDescent: Bool) {
    let found = AlignedBuffer<Double>(zeros: losses.count)
    addLosses(to: found)
    pool.runRanges(panels) { range in
      for panel in range where isPanelActive(panel) {
        var improved = SIMDMask<SIMD16<Int8>>(repeating: false)
        for lane in 0..<panelWidth {
          let at = panel * panelWidth + lane
          improved[lane] = isActive[at] && found[at] < losses[at]
          if improved[lane] {
            losses[at] = found[at]
            if isDescent { kept[at] += 1 }
          } else if isDescent {
            isActive[at] = false
          }
        }
        choose(improved, ofPanel: panel, isDescent: isDescent)
      }
    }
  }

  /// Makes the rows of `improved` the best, and the best the others.
  private func choose(_ improved: SIMDMask<SIMD16<Int8>>, ofPanel panel: Int, isDescent: Bool) {
    let (first, count) = (panel * groups * panelWidth, groups * panelWidth)
    for at in first..<first + count {
      if improved[at % panelWidth] { bestScales[at] = scales[at] } else { scales[at] = bestScales[at] }
    }
    if isDescent {
      let now = UnsafeMutableRawPointer(codes.pointer + panel * k * panelWidth)
      let best = UnsafeMutableRawPointer(bestCodes.pointer + panel * k * panelWidth)
      for offset in stride(from: 0, to: k * panelWidth, by: panelWidth) {
        let line = best.loadUnaligned(fromByteOffset: offset, as: SIMD16<UInt8>.self)
          .replacing(
            with: now.loadUnaligned(fromByteOffset: offset, as: SIMD16<UInt8>.self), where: improved)
        now.storeBytes(of: line, toByteOffset: offset, as: SIMD16<UInt8>.self)
        best.storeBytes(of: line, toByteOffset: offset, as: SIMD16<UInt8>.self)
      }
    }
    if !all(improved) { setErrors(ofPanel: panel) }
  }

  private func isPanelActive(_ panel: Int) -> Bool {
    (0..<panelWidth).contains { isActive[panel * panelWidth + $0] }
  }

  private func setErrors(ofPanel panel: Int) {
    for group in 0..<groups {
      let columns = self.columns(ofGroup: group)
      let at = (panel * k + columns.lowerBound) * panelWidth
      let parameters = (panel * groups + group) * panelWidth
      pool.kernels.residuals(
        columns: columns.count, weights: weights.pointer + at, codes: codes.pointer + at,
        scales: scales.pointer + parameters, zeros: zeros.pointer + parameters, errors: errors.pointer + at)
    }
  }

  // MARK: Columns, groups and panels

  private func columns(ofGroup group: Int) -> Range<Int> {
    group * groupSize..<min(k, (group + 1) * groupSize)
  }

  private var blocks: [Range<Int>] {
    stride(from: 0, to: k, by: RefinedPart.blockSize).map { $0..<min(k, $0 + RefinedPart.blockSize) }
  }

  /// Some columns of one group.
  private struct Piece {
    var columns: Range<Int>
    var group: Int
  }

  /// The columns cut where groups end, and into pieces of no more than a block.
  private func pieces(of columns: Range<Int>) -> [Piece] {
    var pieces: [Piece] = []
    var start = columns.lowerBound
    while start < columns.upperBound {
      let group = start / groupSize
      let end = min(columns.upperBound, (group + 1) * groupSize, start + RefinedPart.blockSize)
      pieces.append(Piece(columns: start..<end, group: group))
      start = end
    }
    return pieces
  }

  /// Runs `body` on neighbouring panels, on all threads. Panels without a row that may improve are left out at both ends.
  private func run(_ range: Range<Int>, _ body: @Sendable (Range<Int>) -> Void) {
    let rounds = (range.count + 8 * pool.threadCount - 1) / (8 * pool.threadCount)
    let tasks = min(range.count, rounds * pool.threadCount)
    pool.run(tasks) { task in
      let all =
        range.lowerBound + range.count * task / tasks..<range.lowerBound + range.count * (task + 1)
        / tasks
      guard let first = all.first(where: isPanelActive), let last = all.last(where: isPanelActive) else {
        return
      }
      body(first..<last + 1)
    }
  }

  private func error(_ panel: Int, _ column: Int) -> UnsafeMutablePointer<Float> {
    errors.pointer + (panel * k + column) * panelWidth
  }

  private var stride16: Int { k * panelWidth }

  // MARK: Losses

  /// Adds (w′ − q)·H·(w′ − q)ᵀ with the H that judges: each block of columns with all before it, twice, and with itself.
  private func addLosses(to sums: AlignedBuffer<Double>) {
    let memory = AlignedBuffer<Float>(
      count: PackedLeftSide.count(rows: RefinedPart.blockSize, k: k, kernels: pool.kernels))
    let doubled = AlignedBuffer<Double>(zeros: sums.count)
    for block in blocks {
      func side(_ columns: Range<Int>, _ memory: AlignedBuffer<Float>?) -> PackedLeftSide? {
        columns.isEmpty
          ? nil
          : PackedLeftSide(
            rows: block.count, k: columns.count,
            a: judge.pointer + block.lowerBound * k + columns.lowerBound, rowStride: k, kStride: 1,
            memory: memory, pool: pool)
      }
      let parts = [
        (0, side(0..<block.lowerBound, memory), doubled), (block.lowerBound, side(block, nil), sums),
      ]
      run(0..<panels) { range in
        let size = block.count * panelWidth
        Scratch.withFloats(range.count * size) { product in
          for (column, side, sums) in parts {
            guard let side else { continue }
            side.multiply(
              panels: range.count, by: error(range.lowerBound, column), bPanelStride: stride16, into: product,
              cPanelStride: size, mode: .overwrite)
            for (place, panel) in range.enumerated() {
              pool.kernels.dotLanes(
                columns: block.count, error(panel, block.lowerBound), product + place * size,
                sums: sums.pointer + panel * panelWidth)
            }
          }
        }
      }
    }
    for at in 0..<sums.count { sums[at] += 2 * doubled[at] }
  }

  /// H's rows of a block, which give the gradient (w′ − q)·H there.
  private func side(_ block: Range<Int>, memory: AlignedBuffer<Float>) -> PackedLeftSide {
    PackedLeftSide(
      rows: block.count, k: k, a: hessian.pointer + block.lowerBound * k, rowStride: k, kStride: 1,
      memory: memory, pool: pool)
  }

  // MARK: Descent

  private func descend() {
    let memory = AlignedBuffer<Float>(
      count: PackedLeftSide.count(rows: RefinedPart.blockSize, k: k, kernels: pool.kernels))
    let maximumCode = Float((1 << tensor.layout.bits) - 1)
    for block in blocks {
      let side = side(block, memory: memory)
      let groupOf = block.map { Int32($0 / groupSize) }
      run(0..<panels) { range in
        let size = block.count * panelWidth
        Scratch.withFloats(range.count * size) { gradients in
          let start = range.lowerBound
          side.multiply(
            panels: range.count, by: error(start, 0), bPanelStride: stride16, into: gradients,
            cPanelStride: size, mode: .overwrite)
          pool.kernels.descendBlock(
            panels: range.count, columns: block.count, gradients: gradients,
            errors: error(start, block.lowerBound), errorStride: stride16,
            h: hessian.pointer + block.lowerBound * (k + 1), hStride: k,
            scales: scales.pointer + start * groups * panelWidth, scaleStride: groups * panelWidth,
            groupOf: groupOf, maximumCode: maximumCode,
            codes: codes.pointer + (start * k + block.lowerBound) * panelWidth, codeStride: stride16)
        }
      }
    }
  }

  // MARK: Refit

  private func refit() {
    let system = ScaleSystem.count(groups: groups) * panelWidth * 8
    let most = max(pool.threadCount, RefinedPart.systemByteCount / system)
    for first in stride(from: 0, to: panels, by: most) { refit(first..<min(panels, first + most)) }
  }

  private func refit(_ range: Range<Int>) {
    let systems = AlignedBuffer<Double>(
      zeros: range.count * ScaleSystem.count(groups: groups) * panelWidth)
    @Sendable func system(_ panel: Int) -> ScaleSystem {
      ScaleSystem(
        groups: groups,
        at: systems.pointer + (panel - range.lowerBound) * ScaleSystem.count(groups: groups) * panelWidth)
    }
    let memory = AlignedBuffer<Float>(
      count: PackedLeftSide.count(rows: RefinedPart.blockSize, k: k, kernels: pool.kernels))
    for block in blocks {
      let side = side(block, memory: memory)
      let rows = pieces(of: block)
      let lastGroup = (block.upperBound - 1) / groupSize
      let others = pieces(of: 0..<columns(ofGroup: lastGroup).upperBound).map { piece in
        (
          piece,
          PackedLeftSide(
            rows: block.count, k: piece.columns.count,
            a: hessian.pointer + block.lowerBound * k + piece.columns.lowerBound, rowStride: k, kStride: 1,
            pool: pool)
        )
      }
      run(range) { range in
        let size = block.count * panelWidth
        Scratch.withFloats(3 * range.count * RefinedPart.blockSize * panelWidth) { memory in
          let (product, centered) = (memory, memory + range.count * size)
          let right = memory + 2 * range.count * RefinedPart.blockSize * panelWidth
          side.multiply(
            panels: range.count, by: error(range.lowerBound, 0), bPanelStride: stride16, into: product,
            cPanelStride: size, mode: .overwrite)
          for (place, panel) in range.enumerated() {
            for piece in rows {
              let at = place * size + (piece.columns.lowerBound - block.lowerBound) * panelWidth
              center(piece, ofPanel: panel, into: centered + at)
              pool.kernels.dotLanes(
                columns: piece.columns.count, centered + at, product + at,
                sums: system(panel).right(piece.group))
            }
          }
          for (other, side) in others {
            let width = other.columns.count * panelWidth
            for (place, panel) in range.enumerated() {
              center(other, ofPanel: panel, into: right + place * width)
            }
            side.multiply(
              panels: range.count, by: right, bPanelStride: width, into: product, cPanelStride: size,
              mode: .overwrite)
            for (place, panel) in range.enumerated() {
              for piece in rows where piece.group >= other.group {
                let at = place * size + (piece.columns.lowerBound - block.lowerBound) * panelWidth
                pool.kernels.dotLanes(
                  columns: piece.columns.count, centered + at, product + at,
                  sums: system(panel).left(piece.group, other.group))
              }
            }
          }
        }
      }
    }
    run(range) { range in
      for panel in range where isPanelActive(panel) {
        system(panel).improve(
          scales.pointer + panel * groups * panelWidth, kernels: pool.kernels)
        setErrors(ofPanel: panel)
      }
    }
  }

  private func center(_ piece: Piece, ofPanel panel: Int, into centered: UnsafeMutablePointer<Float>) {
    pool.kernels.centerCodes(
      columns: piece.columns.count,
      codes: codes.pointer + (panel * k + piece.columns.lowerBound) * panelWidth,
      zeros: zeros.pointer + (panel * groups + piece.group) * panelWidth, centered: centered)
  }

  // MARK: Result

  func store(in target: IntPanelBuilder) {
    let places = (0..<k).map(target.layout.place(ofInput:))
    let firstPanel = outputs.lowerBound / panelWidth
    pool.runRanges(panels) { range in
      for panel in range {
        let lines = UnsafeRawPointer(bestCodes.pointer + panel * k * panelWidth)
        for (column, place) in places.enumerated() {
          target.set(
            lines.loadUnaligned(fromByteOffset: column * panelWidth, as: SIMD16<UInt8>.self),
            panel: firstPanel + panel, at: place)
        }
      }
    }
    for row in 0..<outputs.count {
      for group in 0..<groups {
        let at = (row / panelWidth * groups + group) * panelWidth + row % panelWidth
        target.set(
          scale: HalfPrecision.bits(of: bestScales[at]), zero: UInt8(zeros[at]),
          output: outputs.lowerBound + row, group: group)
      }
    }
  }

  func add(to report: inout RefinementReport) {
    for row in 0..<outputs.count {
      report.rows[kept[row]] += 1
      report.add(RefinementReport.OutputLoss(before: lossesBefore[row] / 2, after: losses[row] / 2))
    }
  }
}
