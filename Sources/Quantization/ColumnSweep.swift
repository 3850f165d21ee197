import Compute
import Tensors

/// The column loop over one matrix, in panels of 16 outputs: rows of W do not depend on each other, so lanes are rows.
final class ColumnSweep: Sendable {
  private let recipe: QuantizationRecipe
  private let finder: ParameterFinder
  private let pool: WorkerPool
  private let blockSize: Int
  private let span: Int
  private let out: Int
  private let inFeatures: Int
  private let panels: Int
  private let groupSize: Int
  private let groups: Int
  /// Of this sweep and the next.
  let memory: SweepMemory
  private let target: IntPanelBuilder
  /// Of the whole matrix; a multiple of ``panelWidth``.
  private let firstOutput: Int
  /// `[panel][column of the sweep][16]`: W; what the sweep has passed is W − Q.
  private let weights: AlignedBuffer<Float>
  /// For the factor of a span's correction; nil when there is only one span.
  private let factorMemory: AlignedBuffer<Float>?
  /// `[panel][group][16]`
  private let scales: AlignedBuffer<Float>
  private let zeros: AlignedBuffer<Float>
  /// Per panel and lane.
  private let losses: AlignedBuffer<Double>

  /// - Parameters:
  ///   - matrix: W, or some of its outputs.
  ///   - memory: of an earlier sweep, or new.
  ///   - target: of all outputs of W; those of `matrix` start at `firstOutput`.
  init(
    _ solver: Solver, weights matrix: WeightMatrix, memory: SweepMemory, target: IntPanelBuilder,
    firstOutput: Int
  ) {
    self.target = target
    self.firstOutput = firstOutput
    recipe = solver.recipe
    pool = solver.pool
    blockSize = solver.blockSize
    span = solver.spanWidth(inFeatures: matrix.inFeatures)
    finder = ParameterFinder(recipe, kernels: solver.pool.kernels)
    out = matrix.outFeatures
    inFeatures = matrix.inFeatures
    panels = (out + panelWidth - 1) / panelWidth
    groupSize = recipe.groupSize(forInputs: inFeatures)
    groups = (inFeatures + groupSize - 1) / groupSize
    let elements = panels * panelWidth * inFeatures
    var memory = memory
    weights = matrix.floatPanels(into: memory.floats(.weights, count: elements), pool: pool)
    factorMemory =
      recipe.method == .gptq && inFeatures > span
      ? memory.floats(
        .factor, count: PackedLeftSide.count(rows: span, k: inFeatures, kernels: pool.kernels)) : nil
    self.memory = memory
    scales = AlignedBuffer(count: panels * panelWidth * groups)
    zeros = AlignedBuffer(count: panels * panelWidth * groups)
    losses = AlignedBuffer(zeros: panels * panelWidth)
  }

  private var panelFloats: Int { inFeatures * panelWidth }
  /// Of the whole matrix.
  private var firstPanel: Int { firstOutput / panelWidth }

  /// In the order of the outputs.
  func addLosses(to sum: inout Double) {
    for n in 0..<out { sum += losses[n] }
  }

  func checkFinite(module: String) throws {
    let isBad = AlignedBuffer<Bool>(count: panels)
    pool.runRanges(panels) { range in
      for panel in range {
        // Zero times anything finite is zero.
        var sums = SIMD16<Float>.zero
        let values = UnsafeRawPointer(weights.pointer + panel * panelFloats)
        for k in 0..<inFeatures {
          sums += 0 * values.loadUnaligned(fromByteOffset: k * panelWidth * 4, as: SIMD16<Float>.self)
        }
        isBad[panel] = !all(sums .== 0)
      }
    }
    guard let panel = isBad.buffer.firstIndex(of: true) else { return }
    let values = UnsafeBufferPointer(start: weights.pointer + panel * panelFloats, count: panelFloats)
    let place = values.firstIndex { !$0.isFinite } ?? 0
    let output = firstOutput + panel * panelWidth + place % panelWidth
    throw QuantizationError.weightNotFinite(
      module: module, output: output, input: place / panelWidth,
      value: weights[panel * panelFloats + place])
  }

  // MARK: GPTQ

  func run(_ hessian: PreparedHessian) -> ParameterFinder.Findings {
    var findings = ParameterFinder.Findings()
    // A whole row's parameters are found before dead columns are zeroed, as the original does.
    if recipe.groupSize == -1 {
      findings += findParameters(0..<1, importance: hessian.importance?.ofChannels)
    }
    zeroDead(hessian.dead)
    if recipe.staticGroups && recipe.groupSize != -1 {
      findings += findParameters(0..<groups, importance: hessian.importance?.ofChannels)
    }
    if let order = hessian.order { permute(order) }
    let dynamic = recipe.groupSize != -1 && !recipe.staticGroups

    for first in stride(from: 0, to: inFeatures, by: span) {
      let columns = first..<min(inFeatures, first + span)
      findings += sweep(columns, hessian, findsParameters: dynamic)
    }
    return findings
  }

  /// Panels of a task: eight for a span of 128, so that what is taken away from them, and their errors, stay in a core's cache;
  /// whole pairs, many of them whole tiles of the widest registers.
  private func panelsOfTasks(columns: Int) -> [Range<Int>] {
    let most = max(4, 8 * 128 / columns)
    let unit = panels >= 32 * pool.threadCount ? 4 : 2
    let units = (panels + unit - 1) / unit
    let rounds = (panels + most * pool.threadCount - 1) / (most * pool.threadCount)
    let tasks = min(units, rounds * pool.threadCount)
    return (0..<tasks).map { units * $0 / tasks * unit..<min(panels, units * ($0 + 1) / tasks * unit) }
  }

  /// The columns of one span, a few panels at a time; `weights` then holds D of them.
  private func sweep(_ columns: Range<Int>, _ hessian: PreparedHessian, findsParameters: Bool)
    -> ParameterFinder.Findings
  {
    let inverse = hessian.factor.inverse(ofColumns: columns, pool: pool).rows()
    let blocks = stride(from: 0, to: columns.count, by: blockSize).map {
      let block = $0..<min(columns.count, $0 + blockSize)
      return SweptBlock(
        block, of: columns, inverse: inverse, pool: pool, groupsStarting: findsParameters ? groupSize : nil,
        groupOf: block.map { column in
          let column = columns.lowerBound + column
          return Int32((recipe.staticGroups ? hessian.order?[column] ?? column : column) / groupSize)
        },
        places: block.map { column in
          let column = columns.lowerBound + column
          return target.place(ofChannel: hessian.order?[column] ?? column)
        })
    }
    let correction = correction(of: columns, factor: hessian.factor, inverse: inverse)
    let tasks = panelsOfTasks(columns: columns.count)
    let found = AlignedBuffer<ParameterFinder.Findings>(count: tasks.count)
    pool.run(tasks.count) { task in
      found[task] = sweep(
        panels: tasks[task], columns, blocks, correction, importance: hessian.importance?.ofColumns)
    }
    return found.buffer.reduce(into: ParameterFinder.Findings()) { $0 += $1 }
  }

  /// GPTQ subtracts E·U[earlier, span], where E holds the errors of earlier columns divided by U's diagonal. With D = W − Q of those
  /// columns, D = E·U there; and U·R = 1 says U[earlier, span] = −U[earlier, earlier]·R[earlier, span]·V with
  /// V = R[span, span]⁻¹. So D·R[earlier, span]·V is added. The whole of U is not needed, and neither is a pass over
  /// the weights to the right after every block. (QuIP, arXiv 2307.13304, shows GPTQ to be such a linear feedback of W − Q.)
  private struct Correction {
    let earlier: PackedLeftSide
    /// Some columns of V each: it is upper triangular, and what is below the diagonal is not multiplied.
    let inverse: [(columns: Range<Int>, side: PackedLeftSide)]
    /// A multiple of the rows of every instruction set's tiles.
    static let columnsAtATime = 36
  }

  /// - Parameter inverse: V, row-major.
  private func correction(of span: Range<Int>, factor: CholeskyFactor, inverse: AlignedBuffer<Float>)
    -> Correction?
  {
    let (first, width) = (span.lowerBound, span.count)
    guard first > 0 else { return nil }
    return Correction(
      earlier: PackedLeftSide(
        rows: width, k: first, a: factor.pointer(row: 0, column: first), rowStride: 1, kStride: factor.order,
        memory: factorMemory, pool: pool),
      inverse: stride(from: 0, to: width, by: Correction.columnsAtATime).map { start in
        let end = min(width, start + Correction.columnsAtATime)
        return (
          start..<end,
          PackedLeftSide(
            rows: end - start, k: end, a: inverse.pointer + start, rowStride: 1, kStride: width, pool: pool)
        )
      })
  }

  /// The columns of one span of some panels, on the calling thread.
  private func sweep(
    panels range: Range<Int>, _ columns: Range<Int>, _ blocks: [SweptBlock], _ correction: Correction?,
    importance: AlignedBuffer<Float>?
  ) -> ParameterFinder.Findings {
    var findings = ParameterFinder.Findings()
    let stride = columns.count * panelWidth
    Scratch.withFloats(2 * range.count * stride) { memory in
      // The span's weights as the sweep of all earlier columns leaves them, `[panel][column of the span][16]`.
      let (corrected, products) = (memory, memory + range.count * stride)
      for (place, panel) in range.enumerated() {
        (corrected + place * stride).update(
          from: weights.pointer + panel * panelFloats + columns.lowerBound * panelWidth, count: stride)
      }
      if let correction {
        correction.earlier.multiply(
          panels: range.count, by: weights.pointer + range.lowerBound * panelFloats,
          bPanelStride: panelFloats, into: products, cPanelStride: stride, mode: .overwrite)
        for part in correction.inverse {
          part.side.multiply(
            panels: range.count, by: products, bPanelStride: stride,
            into: corrected + part.columns.lowerBound * panelWidth, cPanelStride: stride, mode: .add)
        }
      }
      for block in blocks {
        for (place, panel) in range.enumerated() {
          findings += findParameters(
            block.groups, ofPanel: panel, from: corrected + place * stride, columns: columns,
            importance: importance)
        }
        // What was taken away is not needed any more.
        let errors = products
        sweep(
          block, panels: range, corrected, stride: stride, first: columns.lowerBound, errors: errors)
        block.feedback?.multiply(
          panels: range.count, by: errors, bPanelStride: block.columns.count * panelWidth,
          into: corrected + block.columns.upperBound * panelWidth, cPanelStride: stride, mode: .subtract)
      }
    }
    return findings
  }

  private func sweep(
    _ block: SweptBlock, panels range: Range<Int>, _ corrected: UnsafeMutablePointer<Float>, stride: Int,
    first: Int, errors: UnsafeMutablePointer<Float>
  ) {
    let count = block.columns.count
    let column = first + block.columns.lowerBound
    let size = count * panelWidth
    Scratch.withFloats((range.count * size + 3) / 4) { memory in
      let codes = UnsafeMutableRawPointer(memory).assumingMemoryBound(to: UInt8.self)
      let parameters = range.lowerBound * groups * panelWidth
      pool.kernels.gptqBlock(
        panels: range.count, columns: count, weights: corrected + block.columns.lowerBound * panelWidth,
        weightStride: stride,
        original: weights.pointer + range.lowerBound * panelFloats + column * panelWidth,
        originalStride: panelFloats, u: block.diagonal, uStride: block.width,
        scales: scales.pointer + parameters, zeros: zeros.pointer + parameters,
        parameterStride: groups * panelWidth, groupOf: block.groupOf, maximumCode: recipe.maximumCode,
        codes: codes, errors: errors, losses: losses.pointer + range.lowerBound * panelWidth)
      let made = UnsafeRawPointer(codes)
      for (place, panel) in range.enumerated() {
        for j in 0..<count {
          let line = made.loadUnaligned(
            fromByteOffset: place * size + j * panelWidth, as: SIMD16<UInt8>.self)
          target.set(line, panel: firstPanel + panel, at: block.places[j])
        }
      }
    }
  }

  private func zeroDead(_ dead: [Bool]) {
    let channels = dead.indices.filter { dead[$0] }
    guard !channels.isEmpty else { return }
    for panel in 0..<panels {
      for k in channels {
        (weights.pointer + panel * panelFloats + k * panelWidth).update(repeating: 0, count: panelWidth)
      }
    }
  }

  private func permute(_ order: [Int]) {
    pool.runRanges(panels) { range in
      Scratch.withFloats(panelFloats) { copy in
        for panel in range {
          let base = weights.pointer + panel * panelFloats
          copy.update(from: base, count: panelFloats)
          for (column, channel) in order.enumerated() {
            (base + column * panelWidth).update(from: copy + channel * panelWidth, count: panelWidth)
          }
        }
      }
    }
  }

  // MARK: Parameters and rounding

  /// Scales and zero points of some groups, from the weights.
  private func findParameters(_ range: Range<Int>, importance: AlignedBuffer<Float>?)
    -> ParameterFinder.Findings
  {
    let found = AlignedBuffer<ParameterFinder.Findings>(count: panels)
    pool.runRanges(panels) { share in
      for panel in share {
        found[panel] = findParameters(
          range, ofPanel: panel, from: weights.pointer + panel * panelFloats, columns: 0..<inFeatures,
          importance: importance)
      }
    }
    return found.buffer.reduce(into: ParameterFinder.Findings()) { $0 += $1 }
  }

  /// - Parameters:
  ///   - source: the panel's weights of `columns`, `[column of columns][16]`.
  ///   - columns: all columns of those groups, and perhaps more.
  ///   - importance: of all columns of the matrix, in the order of `source`.
  private func findParameters(
    _ range: Range<Int>, ofPanel panel: Int, from source: UnsafePointer<Float>, columns: Range<Int>,
    importance: AlignedBuffer<Float>?
  ) -> ParameterFinder.Findings {
    var findings = ParameterFinder.Findings()
    for group in range {
      let at = (panel * groups + group) * panelWidth
      let last = min(columns.upperBound, (group + 1) * groupSize)
      finder.find(
        source, columns: group * groupSize - columns.lowerBound..<last - columns.lowerBound,
        importance: importance.map { $0.pointer + columns.lowerBound },
        lanes: min(panelWidth, out - panel * panelWidth), scales: scales.pointer + at,
        zeros: zeros.pointer + at, findings: &findings)
    }
    return findings
  }

  func roundToNearest() -> ParameterFinder.Findings {
    let findings = findParameters(0..<groups, importance: nil)
    let top = recipe.maximumCode
    pool.runRanges(panels) { range in
      for panel in range {
        let lanes = min(panelWidth, out - panel * panelWidth)
        for column in 0..<inFeatures {
          var codes = SIMD16<UInt8>.zero
          let parameters = (panel * groups + column / groupSize) * panelWidth
          let at = panel * panelFloats + column * panelWidth
          for lane in 0..<lanes {
            let (scale, zero) = (scales[parameters + lane], zeros[parameters + lane])
            let w = weights[at + lane]
            let code = min(max((w / scale).rounded(.toNearestOrEven) + zero, 0), top)
            codes[lane] = UInt8(code)
            let error = Double(w - scale * (code - zero))
            losses[panel * panelWidth + lane] += error * error / 2
          }
          target.set(codes, panel: firstPanel + panel, at: target.place(ofChannel: column))
        }
      }
    }
    return findings
  }

  // MARK: Result

  /// Puts scales and zero points beside the codes.
  func storeParameters() {
    for group in 0..<groups {
      for n in 0..<out {
        let at = (n / panelWidth * groups + group) * panelWidth + n % panelWidth
        target.set(
          scale: HalfPrecision.bits(of: scales[at]), zero: UInt8(zeros[at]), output: firstOutput + n,
          group: group)
      }
    }
  }
}
