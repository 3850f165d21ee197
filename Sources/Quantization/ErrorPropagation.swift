import Architecture
import Compute
import Tensors
import Transformer

/// The calibration tokens on their way through the float model, beside those that pass through the quantized one.
///
/// What a module of the float model gives is W·x_f; the quantized model can only offer it x. W′ = W + W·C·(H + d)⁻¹, with
/// C = Σ w[t] · (x_f[t] − x[t]) · x[t]ᵀ in the units of H and H's damping d, is the matrix whose W′·x is nearest to W·x_f (QEP,
/// arXiv 2504.09629), so that a module makes up for errors of the modules before it.
package final class FloatStream {
  let activations: CalibrationActivations
  /// The float weights of the block that runs.
  var layer: DecoderLayer?
  /// Inputs of a stage in the float model that its rows do not hold any more: `[rows of a chunk, hiddenSize]`.
  private let inputs: AlignedBuffer<Float>
  /// Their weighted differences from the quantized model's, `[rows of a chunk, width]`. Modules that share an input may weight it
  /// differently, so that the inputs stay.
  private let weighted: AlignedBuffer<Float>
  /// Whether `inputs` holds the stage's input; if not, `rows` has it.
  private var hasInputs = false
  private var rows: BlockRows?

  /// - Parameter other: of the quantized model; its windows and working memory are shared.
  /// - Throws: ``QuantizationError`` when the folder of `scratch` cannot hold the activations.
  init(beside other: CalibrationActivations, scratch: String?) throws {
    activations = try CalibrationActivations(beside: other, scratch: scratch)
    let c = other.configuration
    let rows = other.chunks.map(\.rows).max() ?? 0
    inputs = AlignedBuffer(count: rows * c.hiddenSize)
    weighted = AlignedBuffer(count: rows * max(c.hiddenSize, c.attentionWidth, c.intermediateSize))
  }

  /// Runs steps on the chunk's tokens in the float model, before the same steps run in the quantized one.
  func run(
    _ list: [BlockStep], on chunk: CalibrationActivations.Chunk, steps: LayerSteps, index: Int
  ) {
    guard let layer else { preconditionFailure("a float stream without weights") }
    let rows = activations.rows(of: chunk)
    for step in list { steps.run(step, of: layer, index: index, on: rows) }
    // The quantized model's norm will write to the same memory.
    hasInputs = list.last?.isNorm == true
    if hasInputs {
      inputs.pointer.update(from: rows.normed, count: rows.count * activations.configuration.hiddenSize)
    }
    self.rows = rows
  }

  /// w[t] · (x_f[t] − x[t]) of the tokens of the chunk that ran last.
  /// - Parameters:
  ///   - quantized: the same rows in the quantized model.
  ///   - weights: of each row; nil: all are 1.
  /// - Returns: `[rows, width]`, valid until the next call.
  func differences(
    from quantized: BlockRows, of stage: TensorRule.Stage, width: Int, weights: [Float]?, pool: WorkerPool
  ) -> UnsafePointer<Float> {
    guard let rows, rows.count == quantized.count else {
      preconditionFailure("the streams are not at the same chunk")
    }
    let float = SharedPointer(hasInputs ? inputs.pointer : rows.input(of: stage))
    let x = SharedPointer(quantized.input(of: stage))
    let target = weighted
    pool.runRanges(rows.count, grain: 8) { range in
      for row in range {
        let weight = weights?[row] ?? 1
        let (from, x, to) = (float + row * width, x + row * width, target.pointer + row * width)
        for k in 0..<width { to[k] = weight * (from[k] - x[k]) }
      }
    }
    return UnsafePointer(weighted.pointer)
  }
}

/// C = Σ w[t] · (x_f[t] − x[t]) · x[t]ᵀ of the inputs of a stage, and the weights it leads to.
package final class InputDrift {
  package let order: Int
  /// `[x_f − x][x]`
  let values: AlignedBuffer<Float>
  /// Rows whose products are summed in one chain before they are added to C. Part of the result, not a tuning knob.
  static let depth = 512

  package init(order: Int) {
    self.order = order
    values = AlignedBuffer(zeros: order * order)
  }

  /// - Parameters:
  ///   - differences: w · (x_f − x), `[rows, order]`.
  ///   - x: `[rows, order]`
  package func add(
    differences: UnsafePointer<Float>, x: UnsafePointer<Float>, rows: Int, pool: WorkerPool = .shared
  ) {
    let n = order
    let panels = (n + panelWidth - 1) / panelWidth
    let packed = AlignedBuffer<Float>(count: panels * panelWidth * min(rows, InputDrift.depth))
    for first in stride(from: 0, to: rows, by: InputDrift.depth) {
      let step = min(InputDrift.depth, rows - first)
      let source = SharedPointer(x + first * n)
      pool.runRanges(panels) { range in
        let column = range.lowerBound * panelWidth
        pool.kernels.copyPanels(
          packed.pointer + column * step, panelStride: step * panelWidth, from: source + column, rowStride: n,
          columns: min(range.count * panelWidth, n - column), k: step)
      }
      LinearAlgebra.gemm(
        m: n, n: n, k: step, a: differences + first * n, aRowStride: 1, aKStride: n,
        bPanels: packed.pointer, bPanelStride: step * panelWidth, c: values.pointer, cRowStride: n,
        cPanelStride: panelWidth, mode: .addBlock, pool: pool)
    }
  }

  /// Brings C to the units of H.
  package func scale(by factor: Float, pool: WorkerPool = .shared) {
    let (values, n) = (values, order)
    pool.runRanges(n) { range in
      pool.kernels.scale(values.pointer + range.lowerBound * n, by: factor, count: range.count * n)
    }
  }

  /// Outputs that are computed together.
  static let outputsOfPart = 2048

  /// The same sums over other windows, which say how much of a change helps text that it was not computed from.
  package struct Judge {
    let drift: InputDrift
    /// `[order, order]`, both triangles.
    let hessian: AlignedBuffer<Float>

    /// - Parameters:
    ///   - drift: in the units of `hessian`.
    ///   - hessian: finished.
    package init(_ drift: InputDrift, _ hessian: Hessian) {
      self.drift = drift
      self.hessian = hessian.values
    }
  }

  /// W′ = W + α·W·C·(H + d)⁻¹, in floats; W itself when it is not finite, which the solver reports.
  /// - Parameter judge: α of each output is what brings W′·x nearest to W·x_f on its windows, between 0 and 1: there are as many
  ///   unknowns as inputs, and some of what they explain is chance. Nil: α is 1.
  package func target(
    of weights: WeightMatrix, _ hessian: PreparedHessian, judge: Judge? = nil, pool: WorkerPool = .shared
  ) -> WeightMatrix {
    let (n, out) = (order, weights.outFeatures)
    precondition(weights.inFeatures == n && hessian.factor.order == n, "a matrix of other inputs")
    let panels = (out + panelWidth - 1) / panelWidth
    let stride = n * panelWidth
    let result = weights.floatPanels(pool: pool)
    guard
      FiniteCheck.firstNotFinite(UnsafeRawBufferPointer(result.buffer), dtype: .f32, pool: pool) == nil
    else { return weights }
    let most = min(panels, InputDrift.outputsOfPart / panelWidth)
    let change = AlignedBuffer<Float>(count: most * stride)
    let product = AlignedBuffer<Float>(count: judge == nil ? 0 : most * stride)
    // The column of each channel.
    var columns = [Int](repeating: 0, count: hessian.order?.count ?? 0)
    for (column, channel) in (hessian.order ?? []).enumerated() { columns[channel] = column }
    for first in Swift.stride(from: 0, to: panels, by: most) {
      let count = min(most, panels - first)
      let source = result.pointer + first * stride
      multiply(source, panels: count, into: change, pool: pool)
      if let order = hessian.order { change.permuteLines(order, panels: count, pool: pool) }
      hessian.factor.divide(panels: count, at: change.pointer, pool: pool)
      if hessian.order != nil { change.permuteLines(columns, panels: count, pool: pool) }
      let strengths = AlignedBuffer([Float](repeating: 1, count: count * panelWidth))
      if let judge {
        judge.setStrengths(
          strengths, of: change, weights: source, panels: count, product: product, pool: pool)
      }
      let target = DisjointWrites(source)
      pool.runRanges(count) { range in
        for panel in range {
          let to = UnsafeMutableRawPointer(target + panel * stride)
          let from = UnsafeRawPointer(change.pointer + panel * stride)
          let strength = UnsafeRawPointer(strengths.pointer + panel * panelWidth)
            .loadUnaligned(as: SIMD16<Float>.self)
          for offset in Swift.stride(from: 0, to: stride * 4, by: panelWidth * 4) {
            let line = from.loadUnaligned(fromByteOffset: offset, as: SIMD16<Float>.self)
            let sum =
              to.loadUnaligned(fromByteOffset: offset, as: SIMD16<Float>.self) + strength * line
            to.storeBytes(of: sum, toByteOffset: offset, as: SIMD16<Float>.self)
          }
        }
      }
    }
    return .panels(
      PanelMatrix(elements: result.pointer, dtype: .f32, outFeatures: out, inFeatures: n, owner: result))
  }

  /// W·C of some panels, `[panel][x][16]`.
  fileprivate func multiply(
    _ weights: UnsafePointer<Float>, panels: Int, into product: AlignedBuffer<Float>, pool: WorkerPool
  ) {
    let stride = order * panelWidth
    LinearAlgebra.gemm(
      m: order, n: panels * panelWidth, k: order, a: values.pointer, aRowStride: 1, aKStride: order,
      bPanels: weights, bPanelStride: stride, c: product.pointer, cRowStride: panelWidth,
      cPanelStride: stride, mode: .overwrite, pool: pool)
  }
}

extension InputDrift.Judge {
  /// With M = W·C·(H + d)⁻¹ of a row, ‖W·(x_f − x) − α·M·x‖² is smallest for α = W·C·Mᵀ / (M·H·Mᵀ), C and H being those of the windows
  /// that judge.
  /// - Parameters:
  ///   - change: M of some panels.
  ///   - product: memory of as many floats.
  fileprivate func setStrengths(
    _ strengths: AlignedBuffer<Float>, of change: AlignedBuffer<Float>, weights: UnsafePointer<Float>,
    panels: Int, product: AlignedBuffer<Float>, pool: WorkerPool
  ) {
    let n = drift.order
    let stride = n * panelWidth
    func dots() -> AlignedBuffer<Double> {
      let sums = AlignedBuffer<Double>(zeros: panels * panelWidth)
      pool.runRanges(panels) { range in
        for panel in range {
          pool.kernels.dotLanes(
            columns: n, change.pointer + panel * stride, product.pointer + panel * stride,
            sums: sums.pointer + panel * panelWidth)
        }
      }
      return sums
    }
    drift.multiply(weights, panels: panels, into: product, pool: pool)
    let explained = dots()
    LinearAlgebra.gemm(
      m: n, n: panels * panelWidth, k: n, a: hessian.pointer, aRowStride: n, aKStride: 1,
      bPanels: change.pointer, bPanelStride: stride, c: product.pointer, cRowStride: panelWidth,
      cPanelStride: stride, mode: .overwrite, pool: pool)
    let whole = dots()
    for row in 0..<panels * panelWidth {
      let share = explained[row] / whole[row]
      // Nothing to add, or not a number.
      strengths[row] = share > 0 ? Float(min(share, 1)) : 0
    }
  }
}

extension AlignedBuffer<Float> {
  /// Line c of each panel `[order.count][16]` becomes what line `order[c]` was.
  func permuteLines(_ order: [Int], panels: Int, pool: WorkerPool) {
    let size = order.count * panelWidth
    pool.runRanges(panels) { range in
      Scratch.withFloats(size) { copy in
        for panel in range {
          let base = pointer + panel * size
          copy.update(from: base, count: size)
          for (line, source) in order.enumerated() {
            (base + line * panelWidth).update(from: copy + source * panelWidth, count: panelWidth)
          }
        }
      }
    }
  }
}
