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
  /// Between outputs, which then are in its order; nil: outputs do not depend on each other.
  private let feedback: OutputFeedback?
  /// `[panel][column of the sweep][16]`: W; what the sweep has passed is W − Q.
  private let weights: AlignedBuffer<Float>
  /// For the factor of a span's correction; nil when there is only one span, or several are swept at a time.
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
  ///   - feedback: between the outputs of `matrix`, in whose order they are.
  init(
    _ solver: Solver, weights matrix: WeightMatrix, memory: SweepMemory, target: IntPanelBuilder,
    firstOutput: Int, feedback: OutputFeedback? = nil
  ) {
    self.feedback = feedback
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
      recipe.method == .gptq && inFeatures > span && feedback == nil
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

  /// Of each output, in the order of the sweep.
  var outputLosses: [Double] { (0..<out).map { losses[$0] } }

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
    let row = panel * panelWidth + place % panelWidth
    let output = feedback?.outputs[row] ?? firstOutput + row
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
    if let feedback { return sweepBothSides(hessian, feedback, findsParameters: dynamic, findings) }

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
    let span = Span(self, columns, hessian, findsParameters: findsParameters)
    let tasks = panelsOfTasks(columns: columns.count)
    let found = AlignedBuffer<ParameterFinder.Findings>(count: tasks.count)
    pool.run(tasks.count) { task in
      found[task] = sweep(panels: tasks[task], span, importance: hessian.importance?.ofColumns)
    }
    return found.buffer.reduce(into: ParameterFinder.Findings()) { $0 += $1 }
  }

  /// Some columns, and what their sweep shares among panels.
  private struct Span {
    let columns: Range<Int>
    let blocks: [SweptBlock]
    let correction: Correction?

    init(_ sweep: ColumnSweep, _ columns: Range<Int>, _ hessian: PreparedHessian, findsParameters: Bool) {
      self.columns = columns
      let inverse = hessian.factor.inverse(ofColumns: columns, pool: sweep.pool).rows()
      blocks = stride(from: 0, to: columns.count, by: sweep.blockSize).map {
        let block = $0..<min(columns.count, $0 + sweep.blockSize)
        return SweptBlock(
          block, of: columns, inverse: inverse, pool: sweep.pool,
          groupsStarting: findsParameters ? sweep.groupSize : nil,
          groupOf: block.map { column in
            let column = columns.lowerBound + column
            return Int32(
              (sweep.recipe.staticGroups ? hessian.order?[column] ?? column : column) / sweep.groupSize)
          },
          places: block.map { column in
            let column = columns.lowerBound + column
            return sweep.target.place(ofChannel: hessian.order?[column] ?? column)
          })
      }
      correction = sweep.correction(of: columns, factor: hessian.factor, inverse: inverse)
    }
  }

  // MARK: Feedback between outputs

  /// The sweep with feedback between outputs: a task is some panels of one span, which wait for the same panels of the span before,
  /// and for the panels before in the same span. Tasks on a diagonal do not wait for each other.
  private func sweepBothSides(
    _ hessian: PreparedHessian, _ feedback: OutputFeedback, findsParameters: Bool,
    _ before: ParameterFinder.Findings
  ) -> ParameterFinder.Findings {
    let spans = stride(from: 0, to: inFeatures, by: span).map { $0..<min(inFeatures, $0 + span) }
    let rows = stride(from: 0, to: panels, by: Kernels.rowPanels).map {
      $0..<min(panels, $0 + Kernels.rowPanels)
    }
    // W − Q of every column, before later columns are corrected: `[panel of columns][output][16]`.
    let differences = AlignedBuffer<Float>(
      count: (inFeatures + panelWidth - 1) / panelWidth * panels * panelWidth * panelWidth)
    let found = AlignedBuffer<ParameterFinder.Findings>(count: rows.count)
    for place in 0..<rows.count { found[place] = ParameterFinder.Findings() }
    var prepared: [Span?] = spans.map { _ in nil }
    for diagonal in 0..<rows.count + spans.count - 1 {
      if diagonal < spans.count {
        prepared[diagonal] = Span(self, spans[diagonal], hessian, findsParameters: findsParameters)
      }
      let first = max(0, diagonal - spans.count + 1)
      let last = min(rows.count - 1, diagonal)
      pool.run(last - first + 1) { [prepared] task in
        let place = first + task
        guard let span = prepared[diagonal - place] else { return }
        found[place] += sweep(
          panels: rows[place], span, importance: hessian.importance?.ofColumns,
          bothSides: (feedback, differences))
      }
      if diagonal >= rows.count - 1 { prepared[diagonal - rows.count + 1] = nil }
    }
    return found.buffer.reduce(into: before) { $0 += $1 }
  }

  /// What the rows before some panels add to their targets in the columns of a span, `[rows of the panels][columns]`.
  private func addedByEarlierRows(
    _ range: Range<Int>, _ columns: Range<Int>, _ feedback: OutputFeedback,
    _ differences: AlignedBuffer<Float>, into before: UnsafeMutablePointer<Float>
  ) {
    let first = range.lowerBound * panelWidth
    pool.kernels.gemm(
      m: range.count * panelWidth, n: columns.count, k: first, a: feedback.pointer(row: 0, column: first),
      aRowStride: 1, aKStride: feedback.stride,
      b: differences.pointer + columns.lowerBound / panelWidth * panels * panelWidth * panelWidth,
      bPanelStride: panels * panelWidth * panelWidth, c: before, cRowStride: columns.count,
      cPanelStride: panelWidth, mode: .overwrite)
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
  /// - Parameter bothSides: the feedback between outputs, and W − Q of all outputs and columns.
  private func sweep(
    panels range: Range<Int>, _ span: Span, importance: AlignedBuffer<Float>?,
    bothSides: (OutputFeedback, AlignedBuffer<Float>)? = nil
  ) -> ParameterFinder.Findings {
    var findings = ParameterFinder.Findings()
    let columns = span.columns
    let stride = columns.count * panelWidth
    let addedCount = bothSides == nil ? 0 : range.count * stride
    Scratch.withFloats(2 * range.count * stride + addedCount) { memory in
      // The span's weights as the sweep of all earlier columns leaves them, `[panel][column of the span][16]`.
      let (corrected, products) = (memory, memory + range.count * stride)
      let added = products + range.count * stride
      for (place, panel) in range.enumerated() {
        (corrected + place * stride).update(
          from: weights.pointer + panel * panelFloats + columns.lowerBound * panelWidth, count: stride)
      }
      if let correction = span.correction {
        correction.earlier.multiply(
          panels: range.count, by: weights.pointer + range.lowerBound * panelFloats,
          bPanelStride: panelFloats, into: products, cPanelStride: stride, mode: .overwrite)
        for part in correction.inverse {
          part.side.multiply(
            panels: range.count, by: products, bPanelStride: stride,
            into: corrected + part.columns.lowerBound * panelWidth, cPanelStride: stride, mode: .add)
        }
      }
      if let (feedback, differences) = bothSides {
        addedByEarlierRows(range, columns, feedback, differences, into: added)
      }
      for block in span.blocks {
        for (place, panel) in range.enumerated() {
          findings += findParameters(
            block.groups, ofPanel: panel, from: corrected + place * stride, columns: columns,
            importance: importance)
        }
        // What was taken away is not needed any more.
        let errors = products
        sweep(
          block, panels: range, corrected, stride: stride, of: columns, errors: errors,
          bothSides: bothSides.map { ($0, $1, UnsafePointer(added)) })
        block.feedback?.multiply(
          panels: range.count, by: errors, bPanelStride: block.columns.count * panelWidth,
          into: corrected + block.columns.upperBound * panelWidth, cPanelStride: stride, mode: .subtract)
      }
    }
    return findings
  }

  private func sweep(
    _ block: SweptBlock, panels range: Range<Int>, _ corrected: UnsafeMutablePointer<Float>, stride: Int,
    of columns: Range<Int>, errors: UnsafeMutablePointer<Float>,
    bothSides: (OutputFeedback, AlignedBuffer<Float>, UnsafePointer<Float>)?
  ) {
    let count = block.columns.count
    let column = columns.lowerBound + block.columns.lowerBound
    let size = count * panelWidth
    Scratch.withFloats((range.count * size + 3) / 4) { memory in
      let codes = UnsafeMutableRawPointer(memory).assumingMemoryBound(to: UInt8.self)
      let parameters = range.lowerBound * groups * panelWidth
      let current = corrected + block.columns.lowerBound * panelWidth
      let original = weights.pointer + range.lowerBound * panelFloats + column * panelWidth
      let blockLosses = losses.pointer + range.lowerBound * panelWidth
      if let (feedback, differences, added) = bothSides {
        let row = range.lowerBound * panelWidth
        let panelStride = panels * panelWidth * panelWidth
        pool.kernels.gptqRows(
          panels: range.count, columns: count, weights: current, weightStride: stride, original: original,
          originalStride: panelFloats, u: block.diagonal, uStride: block.width,
          scales: scales.pointer + parameters, zeros: zeros.pointer + parameters,
          parameterStride: groups * panelWidth, groupOf: block.groupOf, maximumCode: recipe.maximumCode,
          codes: codes, errors: errors, losses: blockLosses, before: added + block.columns.lowerBound,
          beforeStride: columns.count, feedback: feedback.pointer(row: row, column: row),
          feedbackStride: feedback.stride,
          differences: differences.pointer + column / panelWidth * panelStride + row * panelWidth,
          differenceStride: panelStride)
      } else {
        pool.kernels.gptqBlock(
          panels: range.count, columns: count, weights: current, weightStride: stride, original: original,
          originalStride: panelFloats, u: block.diagonal, uStride: block.width,
          scales: scales.pointer + parameters, zeros: zeros.pointer + parameters,
          parameterStride: groups * panelWidth, groupOf: block.groupOf, maximumCode: recipe.maximumCode,
          codes: codes, errors: errors, losses: blockLosses)
      }
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
