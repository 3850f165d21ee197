import Architecture
import Compute
import Tensors
import Transformer

/// The steps of ``EncoderStep`` backwards, for the gradients of activations. Weights are frozen. Buffers are row-major, one row a token;
/// dx stands for the gradient of the loss with respect to x.
package struct EncoderBackwardSteps: Sendable {
  package let forward: EncoderSteps
  package var configuration: EncoderConfiguration { forward.configuration }
  package var pool: WorkerPool { forward.pool }

  package init(_ forward: EncoderSteps) { self.forward = forward }

  /// dx += the gradient through y = LayerNorm(x); `rows` rows of `hiddenSize`.
  /// - Parameter x: the sum that is normalized.
  package func normalize(
    _ dy: UnsafePointer<Float>, x: UnsafePointer<Float>, norm: LayerNorm, rows: Int,
    addingTo dx: UnsafeMutablePointer<Float>
  ) {
    let width = configuration.hiddenSize
    let kernels = pool.kernels
    let epsilon = configuration.layerNormEps
    let (dy, x, dx) = (SharedPointer(dy), SharedPointer(x), DisjointWrites(dx))
    pool.runRanges(rows, grain: 4) { range in
      for row in range {
        kernels.addLayerNormGradient(
          to: dx + row * width, gradient: dy + row * width, x: x + row * width, weight: norm.weight.pointer,
          count: width, epsilon: epsilon)
      }
    }
  }

  /// The gradients of weight and bias of y = LayerNorm(x), Σ dy · (x − mean) / √(variance + epsilon) and Σ dy over the rows, are added to
  /// those of `gradient`.
  package func addNormGradients(
    _ dy: UnsafePointer<Float>, x: UnsafePointer<Float>, rows: Int, to gradient: LayerNorm
  ) {
    let width = configuration.hiddenSize
    let kernels = pool.kernels
    let epsilon = configuration.layerNormEps
    // Sums of so many rows are added, one after the other, whatever the threads.
    let rowsOfSum = 64
    let blocks = (rows + rowsOfSum - 1) / rowsOfSum
    let ones = AlignedBuffer([Float](repeating: 1, count: width))
    let zeros = AlignedBuffer<Float>(zeros: width)
    // Of each block the weight's, then the bias's.
    let sums = AlignedBuffer<Float>(zeros: max(1, 2 * blocks * width))
    let (dy, x) = (SharedPointer(dy), SharedPointer(x))
    pool.run(blocks) { block in
      let weight = sums.pointer + 2 * block * width
      Scratch.withFloats(width) { line in
        for row in block * rowsOfSum..<min(rows, (block + 1) * rowsOfSum) {
          kernels.layerNorm(
            line, x: x + row * width, residual: nil, weight: ones.pointer, bias: zeros.pointer, count: width,
            epsilon: epsilon)
          kernels.multiply(line, by: dy + row * width, count: width)
          kernels.add(weight, line, count: width)
          kernels.add(weight + width, dy + row * width, count: width)
        }
      }
    }
    for block in 0..<blocks {
      let weight = sums.pointer + 2 * block * width
      kernels.add(gradient.weight.pointer, weight, count: width)
      kernels.add(gradient.bias.pointer, weight + width, count: width)
    }
  }

  /// The gradient through y = activation(x + bias) takes the place of x; `rows` rows of `intermediateSize`.
  package func activate(
    _ dy: UnsafePointer<Float>, x: UnsafeMutablePointer<Float>, bias: AlignedBuffer<Float>?, rows: Int
  ) {
    let width = configuration.intermediateSize
    let kernels = pool.kernels
    let (dy, x) = (SharedPointer(dy), DisjointWrites(x))
    pool.runRanges(rows) { range in
      for row in range {
        let (line, gradient) = (x + row * width, dy + row * width)
        switch configuration.activation {
        case .gelu: kernels.geluGradient(line, bias: bias?.pointer, gradient: gradient, count: width)
        case .geluTanh: kernels.geluTanhGradient(line, bias: bias?.pointer, gradient: gradient, count: width)
        case .relu: kernels.reluGradient(line, bias: bias?.pointer, gradient: gradient, count: width)
        }
      }
    }
  }

  /// The gradient through the step ``EncoderStep/attention``, as that of a decoder, but every token sees its whole text.
  /// - Parameters:
  ///   - qkv: `[rows, 3 * hiddenSize]`: queries, keys, values.
  ///   - out: what the step gives, `[rows, hiddenSize]`.
  ///   - dOut: `[rows, hiddenSize]`.
  ///   - texts: rows of each.
  ///   - dQKV: `[rows, 3 * hiddenSize]`, written.
  package func attend(
    _ qkv: UnsafePointer<Float>, out: UnsafePointer<Float>, dOut: UnsafePointer<Float>, texts: [Range<Int>],
    into dQKV: UnsafeMutablePointer<Float>
  ) {
    let c = configuration
    let (qkv, out, dOut) = (SharedPointer(qkv), SharedPointer(out), SharedPointer(dOut))
    let dQKV = DisjointWrites(dQKV)
    let texts = texts.filter { !$0.isEmpty }
    pool.run(texts.count * c.attentionHeads) { [texts] task in
      let text = texts[task / c.attentionHeads]
      let offset = task % c.attentionHeads * c.headDim
      let (first, hidden) = (text.lowerBound, c.hiddenSize)
      HeadGradient(
        kernels: pool.kernels, rows: text.count, headDim: c.headDim, isCausal: false,
        queries: [(offset, offset)], key: hidden + offset, value: 2 * hidden + offset, qkvWidth: 3 * hidden,
        outWidth: hidden, qkv: qkv + first * 3 * hidden, out: out + first * hidden,
        dOut: dOut + first * hidden, dQKV: dQKV + first * 3 * hidden
      ).run()
    }
  }
}

/// One block of an encoder backwards over some texts: recomputes its activations from its input, then brings the gradient of its output
/// to its input and shows those of the projections' outputs on the way.
package struct EncoderBlockBackward {
  package let steps: EncoderBackwardSteps
  private let work: Buffers

  /// Working memory for `rows` tokens.
  private final class Buffers {
    let forward: EncoderBuffers
    /// Input; the sums before both norms, and what lies between them.
    let input, first, middle, second: AlignedBuffer<Float>
    let dAttention, dQKV, inner, activated: AlignedBuffer<Float>

    init(_ c: EncoderConfiguration, rows: Int) {
      func buffer(_ width: Int) -> AlignedBuffer<Float> { AlignedBuffer(count: rows * width) }
      forward = EncoderBuffers(c, rows: rows)
      input = buffer(c.hiddenSize)
      first = buffer(c.hiddenSize)
      middle = buffer(c.hiddenSize)
      second = buffer(c.hiddenSize)
      dAttention = buffer(c.hiddenSize)
      dQKV = buffer(3 * c.hiddenSize)
      inner = buffer(c.intermediateSize)
      activated = buffer(c.intermediateSize)
    }
  }

  /// - Parameter rows: the most tokens of a run.
  package init(_ steps: EncoderBackwardSteps, rows: Int) {
    self.steps = steps
    work = Buffers(steps.configuration, rows: rows)
  }

  /// - Parameters:
  ///   - layer: weights in any form, frozen.
  ///   - x: the block's input, `[rows, hiddenSize]`, untouched.
  ///   - texts: rows of each, the first from 0.
  ///   - gradient: of the block's output; becomes that of its input.
  ///   - tap: gets a projection, the gradient of its output, and how many floats lie from one row of that to the next.
  package func run(
    _ layer: EncoderLayer, x: UnsafePointer<Float>, texts: [Range<Int>],
    gradient: UnsafeMutablePointer<Float>, arithmetic: FloatArithmetic = .fp32, tap: BlockBackward.Tap
  ) rethrows {
    let c = steps.configuration
    let (hidden, inner, rows) = (c.hiddenSize, c.intermediateSize, texts.last?.upperBound ?? 0)
    let forward = recompute(layer, x: x, texts: texts)
    func project(
      _ dy: UnsafePointer<Float>, _ stride: Int, _ kind: ModuleKind, into dx: UnsafeMutablePointer<Float>
    ) {
      LinearAlgebra.multiply(
        dy: dy, rows: rows, dyRowStride: stride, byTransposeOf: layer[kind].weight, into: dx,
        dxRowStride: layer[kind].inFeatures, arithmetic: arithmetic, pool: steps.pool)
    }

    // The gradient of the second sum takes the place of what lies there.
    let dSecond = work.input.pointer
    dSecond.update(repeating: 0, count: rows * hidden)
    steps.normalize(gradient, x: work.second.pointer, norm: layer.outputNorm, rows: rows, addingTo: dSecond)
    try tap(.output, dSecond, hidden)
    project(dSecond, hidden, .output, into: work.activated.pointer)
    steps.activate(
      work.activated.pointer, x: work.inner.pointer, bias: layer.intermediate.bias, rows: rows)
    try tap(.intermediate, work.inner.pointer, inner)
    project(work.inner.pointer, inner, .intermediate, into: work.middle.pointer)
    add(work.middle.pointer, to: dSecond, count: rows * hidden)

    let dFirst = gradient
    dFirst.update(repeating: 0, count: rows * hidden)
    steps.normalize(dSecond, x: work.first.pointer, norm: layer.attentionNorm, rows: rows, addingTo: dFirst)
    try tap(.attentionOutput, dFirst, hidden)
    project(dFirst, hidden, .attentionOutput, into: work.dAttention.pointer)
    steps.attend(
      forward.qkv, out: forward.attention, dOut: work.dAttention.pointer, texts: texts,
      into: work.dQKV.pointer)
    for (place, kind) in [ModuleKind.query, .key, .value].enumerated() {
      let part = work.dQKV.pointer + place * hidden
      try tap(kind, part, 3 * hidden)
      project(part, 3 * hidden, kind, into: work.middle.pointer)
      add(work.middle.pointer, to: dFirst, count: rows * hidden)
    }
  }

  /// The block up to its second sum.
  private func recompute(
    _ layer: EncoderLayer, x: UnsafePointer<Float>, texts: [Range<Int>]
  ) -> EncoderRows {
    let c = steps.configuration
    let (hidden, inner) = (c.hiddenSize, c.intermediateSize)
    let rows = EncoderRows(x: work.input.pointer, texts: texts, work: work.forward)
    work.input.pointer.update(from: x, count: rows.count * hidden)
    for step in [EncoderStep.queriesKeysValues, .attention] { steps.forward.run(step, of: layer, on: rows) }
    sum(layer.attentionOutput, of: rows.attention, and: x, rows: rows.count, into: work.first.pointer)
    let kernels = steps.pool.kernels
    let (first, middle) = (SharedPointer(work.first.pointer), DisjointWrites(work.middle.pointer))
    steps.pool.runRanges(rows.count, grain: 4) { range in
      for row in range {
        kernels.layerNorm(
          middle + row * hidden, x: first + row * hidden, residual: nil,
          weight: layer.attentionNorm.weight.pointer, bias: layer.attentionNorm.bias.pointer, count: hidden,
          epsilon: c.layerNormEps)
      }
    }
    Linear.apply(
      [(layer.intermediate, work.inner.pointer, inner)], to: work.middle.pointer, rows: rows.count,
      addsBias: false, pool: steps.pool)
    let bias = layer.intermediate.bias
    let (from, to) = (SharedPointer(work.inner.pointer), DisjointWrites(work.activated.pointer))
    steps.pool.runRanges(rows.count) { range in
      for row in range {
        let line = to + row * inner
        line.update(from: from + row * inner, count: inner)
        switch c.activation {
        case .gelu: kernels.gelu(line, bias: bias?.pointer, count: inner)
        case .geluTanh: kernels.geluTanh(line, bias: bias?.pointer, count: inner)
        case .relu: kernels.relu(line, bias: bias?.pointer, count: inner)
        }
      }
    }
    sum(
      layer.output, of: work.activated.pointer, and: work.middle.pointer, rows: rows.count,
      into: work.second.pointer)
    return rows
  }

  /// y = input · Wᵀ + b + residual
  private func sum(
    _ linear: Linear, of input: UnsafePointer<Float>, and residual: UnsafePointer<Float>, rows: Int,
    into y: UnsafeMutablePointer<Float>
  ) {
    let hidden = steps.configuration.hiddenSize
    linear.apply(input, rows: rows, into: y, yRowStride: hidden, pool: steps.pool)
    add(residual, to: y, count: rows * hidden)
  }

  private func add(_ x: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>, count: Int) {
    let (x, y, kernels) = (SharedPointer(x), DisjointWrites(y), steps.pool.kernels)
    steps.pool.runRanges(count, grain: 1024) { range in
      kernels.add(y + range.lowerBound, x + range.lowerBound, count: range.count)
    }
  }
}
