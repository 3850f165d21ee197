import CKernels
import Checkpoints
import Numerics

/// The column loop over one matrix, in panels of 16 outputs: rows of W do not depend on each other, so lanes are rows.
final class ColumnSweep {
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
  private(set) var memory: SweepMemory
  /// `[panel][column of the sweep][16]`: W; what the sweep has passed is W − Q.
  private let weights: AlignedBuffer<Float>
  private let codes: AlignedBuffer<UInt8>
  /// `[panel][group][16]`
  private let scales: AlignedBuffer<Float>
  private let zeros: AlignedBuffer<Float>
  /// Per panel and lane.
  private let losses: AlignedBuffer<Double>

  /// - Parameter memory: of an earlier sweep, or new.
  init(_ solver: Solver, weights matrix: WeightMatrix, memory: SweepMemory) {
    self.memory = memory
    recipe = solver.recipe
    pool = solver.pool
    blockSize = solver.blockSize
    span = solver.spanWidth(inFeatures: matrix.inFeatures)
    finder = ParameterFinder(recipe)
    out = matrix.outFeatures
    inFeatures = matrix.inFeatures
    panels = (out + panelWidth - 1) / panelWidth
    groupSize = recipe.groupSize(forInputs: inFeatures)
    groups = (inFeatures + groupSize - 1) / groupSize
    let elements = panels * panelWidth * inFeatures
    weights = matrix.floatPanels(into: self.memory.floats(.weights, count: elements), pool: pool)
    codes = self.memory.codes(count: elements)
    scales = AlignedBuffer(count: panels * panelWidth * groups)
    zeros = AlignedBuffer(count: panels * panelWidth * groups)
    losses = AlignedBuffer(zeros: panels * panelWidth)
  }

  private var panelFloats: Int { inFeatures * panelWidth }

  /// Total loss, added up in the order of the outputs.
  var loss: Double {
    var sum = 0.0
    for n in 0..<out { sum += losses[n] }
    return sum
  }

  func checkFinite(module: String) throws {
    let bad = AlignedBuffer<Int32>(count: panels)
    pool.runRanges(panels) { range in
      for panel in range {
        let values = UnsafeBufferPointer(start: weights.pointer + panel * panelFloats, count: panelFloats)
        bad[panel] = values.firstIndex { !$0.isFinite }.map { Int32($0) } ?? -1
      }
    }
    guard let panel = bad.buffer.firstIndex(where: { $0 >= 0 }) else { return }
    let place = Int(bad[panel])
    throw QuantizationError(
      "\(module).weight: element [\(panel * panelWidth + place % panelWidth), \(place / panelWidth)] is "
        + "\(weights[panel * panelFloats + place]); a model with such weights cannot be quantized")
  }

  // MARK: GPTQ

  func run(_ hessian: PreparedHessian) -> ParameterFinder.Findings {
    var findings = ParameterFinder.Findings()
    // A whole row's parameters are found before dead columns are zeroed, as the original does.
    if recipe.groupSize == -1 { findings += findParameters(0..<1) }
    zeroDead(hessian.dead)
    if recipe.staticGroups && recipe.groupSize != -1 { findings += findParameters(0..<groups) }
    if let order = hessian.order { permute(order) }
    let dynamic = recipe.groupSize != -1 && !recipe.staticGroups

    let corrected = memory.floats(.corrected, count: panels * panelWidth * span)
    let products = memory.floats(.products, count: panels * panelWidth * span)
    for first in stride(from: 0, to: inFeatures, by: span) {
      let columns = first..<min(inFeatures, first + span)
      let inverse = hessian.factor.inverse(ofColumns: columns, pool: pool).rows()
      correct(columns, factor: hessian.factor, inverse: inverse, into: corrected, products: products)
      findings += sweepSpan(columns, inverse, corrected, order: hessian.order, findsParameters: dynamic)
    }
    return findings
  }

  /// `corrected` `[panel][column of the span][16]` = the span's weights as the sweep of all earlier columns leaves them.
  ///
  /// GPTQ takes E·U[earlier, span] away, E being the earlier columns' errors over U's diagonal. With D = W − Q of those
  /// columns, D = E·U there; and U·R = 1 says U[earlier, span] = −U[earlier, earlier]·R[earlier, span]·V with
  /// V = R[span, span]⁻¹. So D·R[earlier, span]·V is added, and nobody needs U as a whole, nor passes over the weights
  /// to the right after every block. (QuIP, arXiv 2307.13304, shows GPTQ to be such a linear feedback of W − Q.)
  /// - Parameter inverse: V, row-major.
  private func correct(
    _ span: Range<Int>, factor: CholeskyFactor, inverse: AlignedBuffer<Float>,
    into corrected: AlignedBuffer<Float>, products: AlignedBuffer<Float>
  ) {
    let (first, width) = (span.lowerBound, span.count)
    let stride = width * panelWidth
    pool.runRanges(panels) { range in
      for panel in range {
        (corrected.pointer + panel * stride).update(
          from: weights.pointer + panel * panelFloats + first * panelWidth, count: stride)
      }
    }
    guard first > 0 else { return }
    LinearAlgebra.gemm(
      m: width, n: panels * panelWidth, k: first, a: factor.pointer(row: 0, column: first), aRowStride: 1,
      aKStride: factor.order, bPanels: weights.pointer, bPanelStride: panelFloats, c: products.pointer,
      cRowStride: panelWidth, cPanelStride: stride, mode: ZN_OVERWRITE, pool: pool)
    LinearAlgebra.gemm(
      m: width, n: panels * panelWidth, k: width, a: inverse.pointer, aRowStride: 1, aKStride: width,
      bPanels: products.pointer, bPanelStride: stride, c: corrected.pointer, cRowStride: panelWidth,
      cPanelStride: stride, mode: ZN_ADD, pool: pool)
  }

  /// The columns of one span, block by block; `weights` then holds D of them.
  private func sweepSpan(
    _ span: Range<Int>, _ inverse: AlignedBuffer<Float>, _ corrected: AlignedBuffer<Float>, order: [Int]?,
    findsParameters: Bool
  ) -> ParameterFinder.Findings {
    var findings = ParameterFinder.Findings()
    let width = span.count
    let errors = memory.floats(.errors, count: panels * panelWidth * min(blockSize, width))
    for first in stride(from: 0, to: width, by: blockSize) {
      let block = first..<min(width, first + blockSize)
      if findsParameters {
        let start = span.lowerBound + first
        let starts = (start + groupSize - 1) / groupSize..<(start + block.count + groupSize - 1) / groupSize
        findings += findParameters(starts, from: corrected, columns: span)
      }
      let u = inverse.pointer + first * width + first
      sweepBlock(block, of: span, corrected, u: u, order: order, errors: errors)
      let rest = block.upperBound
      guard rest < width else { break }
      LinearAlgebra.gemm(
        m: width - rest, n: panels * panelWidth, k: block.count, a: u + block.count, aRowStride: 1,
        aKStride: width, bPanels: errors.pointer, bPanelStride: block.count * panelWidth,
        c: corrected.pointer + rest * panelWidth, cRowStride: panelWidth, cPanelStride: width * panelWidth,
        mode: ZN_SUBTRACT, pool: pool)
    }
    return findings
  }

  private func sweepBlock(
    _ block: Range<Int>, of span: Range<Int>, _ corrected: AlignedBuffer<Float>, u: UnsafePointer<Float>,
    order: [Int]?, errors: AlignedBuffer<Float>
  ) {
    let u = Upper(pointer: u)
    let table = Kernels.best.table
    let columns = block.count
    let first = span.lowerBound + block.lowerBound
    // Which group's parameters a column of the sweep uses.
    let groupOf = (first..<first + columns).map { column in
      (recipe.staticGroups ? order?[column] ?? column : column) / groupSize
    }
    pool.runRanges(panels) { range in
      Scratch.withFloats(2 * columns * panelWidth) { parameters in
        for panel in range {
          let (columnScales, columnZeros) = (parameters, parameters + columns * panelWidth)
          for (j, group) in groupOf.enumerated() {
            let from = (panel * groups + group) * panelWidth
            (columnScales + j * panelWidth).update(from: scales.pointer + from, count: panelWidth)
            (columnZeros + j * panelWidth).update(from: zeros.pointer + from, count: panelWidth)
          }
          table.pointee.gptq_block(
            corrected.pointer + (panel * span.count + block.lowerBound) * panelWidth,
            weights.pointer + panel * panelFloats + first * panelWidth, u.pointer, Int64(span.count),
            Int64(columns),
            columnScales, columnZeros, recipe.maximumCode,
            codes.pointer + panel * panelFloats + first * panelWidth,
            errors.pointer + panel * columns * panelWidth, losses.pointer + panel * panelWidth)
        }
      }
    }
  }

  private struct Upper: @unchecked Sendable { let pointer: UnsafePointer<Float> }

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

  /// Scales and zero points of some groups.
  /// - Parameters:
  ///   - source: `[panel][column of columns][16]`; nil: the weights.
  ///   - columns: all columns of those groups.
  private func findParameters(
    _ range: Range<Int>, from source: AlignedBuffer<Float>? = nil, columns: Range<Int>? = nil
  ) -> ParameterFinder.Findings {
    let source = source ?? weights
    let columns = columns ?? 0..<inFeatures
    let found = AlignedBuffer<ParameterFinder.Findings>(count: panels)
    pool.runRanges(panels) { share in
      for panel in share {
        var findings = ParameterFinder.Findings()
        for group in range {
          let at = (panel * groups + group) * panelWidth
          finder.find(
            source.pointer + panel * columns.count * panelWidth,
            columns: group * groupSize - columns.lowerBound..<min(columns.upperBound, (group + 1) * groupSize)
              - columns.lowerBound,
            lanes: min(panelWidth, out - panel * panelWidth), scales: scales.pointer + at,
            zeros: zeros.pointer + at,
            findings: &findings)
        }
        found[panel] = findings
      }
    }
    return found.buffer.reduce(into: ParameterFinder.Findings()) { $0 += $1 }
  }

  func roundToNearest() -> ParameterFinder.Findings {
    let findings = findParameters(0..<groups)
    let top = recipe.maximumCode
    pool.runRanges(panels) { range in
      for panel in range {
        for column in 0..<inFeatures {
          let parameters = (panel * groups + column / groupSize) * panelWidth
          let at = panel * panelFloats + column * panelWidth
          for lane in 0..<panelWidth {
            let (scale, zero) = (scales[parameters + lane], zeros[parameters + lane])
            let w = weights[at + lane]
            let code = min(max((w / scale).rounded(.toNearestOrEven) + zero, 0), top)
            codes[at + lane] = UInt8(code)
            let error = Double(w - scale * (code - zero))
            losses[panel * panelWidth + lane] += error * error / 2
          }
        }
      }
    }
    return findings
  }

  // MARK: Result

  func result(order: [Int]?) -> QuantizedMatrix {
    var matrix = QuantizedMatrix(
      bits: recipe.bits, groupSize: groupSize, inFeatures: inFeatures, outFeatures: out,
      codes: [UInt8](repeating: 0, count: inFeatures * out),
      scales: [UInt16](repeating: 0, count: groups * out),
      zeros: [UInt8](repeating: 0, count: groups * out),
      groupIndex: (0..<inFeatures).map { Int32($0 / groupSize) })
    for column in 0..<inFeatures {
      let channel = order?[column] ?? column
      if order != nil && !recipe.staticGroups { matrix.groupIndex[channel] = Int32(column / groupSize) }
    }
    matrix.codes.withUnsafeMutableBufferPointer { target in
      let target = SendableBytes(target)
      pool.runRanges(inFeatures, grain: 32) { range in
        for column in range {
          let line = target.pointer + (order?[column] ?? column) * out
          for panel in 0..<panels {
            let from = codes.pointer + panel * panelFloats + column * panelWidth
            (line + panel * panelWidth).update(from: from, count: min(panelWidth, out - panel * panelWidth))
          }
        }
      }
    }
    for group in 0..<groups {
      for n in 0..<out {
        let at = (n / panelWidth * groups + group) * panelWidth + n % panelWidth
        matrix.scales[group * out + n] = HalfPrecision.bits(of: scales[at])
        matrix.zeros[group * out + n] = UInt8(zeros[at])
      }
    }
    return matrix
  }

  private struct SendableBytes: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<UInt8>
    init(_ buffer: UnsafeMutableBufferPointer<UInt8>) {
      pointer = buffer.baseAddress ?? UnsafeMutablePointer(bitPattern: 1)!
    }
  }
}
