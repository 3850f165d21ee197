import Architecture
import Compute
import Foundation
import Models
import Tensors
import TestSupport
import Testing
import Training
import Transformer

/// Every backward step of an encoder against finite differences of the forward step in double precision, and the kernels against that.
@Suite struct EncoderBackwardTests {
  private var generator = SplitMix64(seed: 41)

  private mutating func rows(_ count: Int, _ width: Int, size: Double = 1.5) -> [[Double]] {
    (0..<count).map { _ in
      (0..<width).map { _ in Double(Float.random(in: Float(-size)...Float(size), using: &generator)) }
    }
  }

  private func buffer(_ rows: [[Double]]) -> AlignedBuffer<Float> {
    AlignedBuffer(rows.flatMap { $0.map { Float($0) } })
  }

  /// The largest difference in terms of the largest element.
  private func distance(_ a: [[Double]], _ b: [[Double]]) -> Double {
    let (a, b) = (a.flatMap { $0 }, b.flatMap { $0 })
    let largest = b.map(abs).max() ?? 1
    return zip(a, b).map { abs($0 - $1) }.max()! / largest
  }

  private func distance(_ a: AlignedBuffer<Float>, _ b: [[Double]]) -> Double {
    distance([a.array.map(Double.init)], b)
  }

  /// Steps of the small BERT on every instruction set and two numbers of threads.
  private func eachStep(_ body: (EncoderBackwardSteps) throws -> [UInt32]) throws {
    let configuration = try #require(try Self.model().configuration.encoder)
    var bits: [[UInt32]] = []
    for isa in InstructionSet.runnable {
      for threads in [1, 3] {
        let pool = WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa)))
        bits.append(
          try body(EncoderBackwardSteps(EncoderSteps(configuration: configuration, pool: pool))))
      }
    }
    #expect(bits.allSatisfy { $0 == bits[0] })
  }

  private static func model() throws -> OpenedModel {
    try OpenedModel(path: Fixture.path("tiny-bert"), accepting: .encoders)
  }

  @Test func layerNorm() throws {
    var random = self
    let width = 96
    let epsilon = 1e-12
    let weight = random.rows(1, width)[0]
    let bias = random.rows(1, width)[0]
    let (x, dy) = (random.rows(67, width), random.rows(67, width))
    let plain = PlainEncoder(epsilon: epsilon)
    let expected = zip(dy, x).map { plain.normBackward($0, $1, weight) }
    let few = Array(0..<3)
    let measured = Plain.differences(few.map { x[$0] }, few.map { dy[$0] }) {
      $0.map { plain.norm($0, weight, bias) }
    }
    #expect(distance(few.map { expected[$0] }, measured) < 1e-6)
    let ofWeight = Plain.differences([weight], [dy[0]]) { [plain.norm(x[0], $0[0], bias)] }
    let norm = LayerNorm(
      weight: AlignedBuffer(weight.map { Float($0) }), bias: AlignedBuffer(bias.map { Float($0) }))
    #expect(try #require(try Self.model().configuration.encoder).hiddenSize == width)
    try eachStep { steps in
      // The gradient is added to what is there.
      let dx = buffer(x)
      let (inputs, gradients) = (buffer(x), buffer(dy))
      steps.normalize(
        gradients.pointer, x: inputs.pointer, norm: norm, rows: x.count, addingTo: dx.pointer)
      #expect(distance(dx, zip(expected, x).map { zip($0, $1).map(+) }) < 1e-6)
      let sums = LayerNorm(weight: AlignedBuffer(zeros: width), bias: AlignedBuffer(zeros: width))
      steps.addNormGradients(gradients.pointer, x: inputs.pointer, rows: 1, to: sums)
      #expect(distance(sums.weight, ofWeight) < 1e-6)
      steps.addNormGradients(
        gradients.pointer + width, x: inputs.pointer + width, rows: x.count - 1, to: sums)
      let all = (0..<width).map { column in dy.reduce(0) { $0 + $1[column] } }
      #expect(distance(sums.bias, [all]) < 1e-6)
      return (dx.array + sums.weight.array + sums.bias.array).map(\.bitPattern)
    }
  }

  @Test(arguments: [EncoderConfiguration.Activation.gelu, .geluTanh, .relu])
  func activation(_ activation: EncoderConfiguration.Activation) throws {
    var random = self
    let (x, bias) = (random.rows(4, 77, size: 5), random.rows(1, 77)[0])
    let dy = random.rows(4, 77)
    let expected = zip(dy, x).map { dy, x in
      x.indices.map { dy[$0] * PlainEncoder.slope(activation, x[$0] + bias[$0]) }
    }
    let measured = Plain.differences(x, dy) {
      $0.map { row in row.indices.map { PlainEncoder.activate(activation, row[$0] + bias[$0]) } }
    }
    #expect(distance(expected, measured) < 1e-6)
    let bits = try InstructionSet.runnable.map { isa in
      let kernels = try #require(Kernels(for: isa))
      let (y, gradient, bias) = (buffer(x), buffer(dy), AlignedBuffer(bias.map { Float($0) }))
      for row in 0..<4 {
        let (line, dy) = (y.pointer + row * 77, gradient.pointer + row * 77)
        switch activation {
        case .gelu: kernels.geluGradient(line, bias: bias.pointer, gradient: dy, count: 77)
        case .geluTanh: kernels.geluTanhGradient(line, bias: bias.pointer, gradient: dy, count: 77)
        case .relu: kernels.reluGradient(line, bias: bias.pointer, gradient: dy, count: 77)
        }
      }
      #expect(distance(y, expected) < 2e-6)
      return y.array.map(\.bitPattern)
    }
    #expect(bits.allSatisfy { $0 == bits[0] })
  }

  /// Where functions are flat or steep, slopes stay finite; NaN stays NaN.
  @Test func slopesAtTheEdges() throws {
    for isa in InstructionSet.runnable {
      let kernels = try #require(Kernels(for: isa))
      let values: [Float] = [0, -0.0, 1e-30, -1e-30, 9, -9, 14, -14, 1e10, -1e10, 3e18, -3e18, .nan]
      let ones = AlignedBuffer([Float](repeating: 1, count: values.count))
      func slopes(
        _ step: (UnsafeMutablePointer<Float>, UnsafePointer<Float>?, UnsafePointer<Float>, Int) -> Void
      ) -> [Float] {
        let x = AlignedBuffer(values)
        step(x.pointer, nil, ones.pointer, values.count)
        return x.array
      }
      let far: [Float] = [1, 0, 1, 0, 1, 0]
      for result in [
        slopes { kernels.geluGradient($0, bias: $1, gradient: $2, count: $3) },
        slopes { kernels.geluTanhGradient($0, bias: $1, gradient: $2, count: $3) },
      ] {
        #expect(result[0..<4].allSatisfy { abs($0 - 0.5) < 1e-6 })
        #expect(zip(result[6..<12], far).allSatisfy { abs($0 - $1) < 1e-6 })
        #expect(result[12].isNaN)
      }
      let relu = slopes { kernels.reluGradient($0, bias: $1, gradient: $2, count: $3) }
      #expect(relu.dropLast() == [0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0])
      #expect(relu[12].isNaN)
    }
  }

  /// Texts longer than a block of queries, and of one token.
  @Test func attention() throws {
    var random = self
    let c = try #require(try Self.model().configuration.encoder)
    let plain = PlainEncoder(heads: c.attentionHeads)
    let (few, fewOut) = (random.rows(4, 3 * c.hiddenSize), random.rows(4, c.hiddenSize))
    let measured = Plain.differences(few, fewOut) { plain.attend($0) }
    #expect(distance(plain.attendBackward(fewOut, few), measured) < 1e-6)

    let lengths = [61, 1, 19]
    let inputs = lengths.map { random.rows($0, 3 * c.hiddenSize) }
    let gradients = lengths.map { random.rows($0, c.hiddenSize) }
    let wanted = zip(gradients, inputs).flatMap { plain.attendBackward($0, $1) }
    let texts = [0..<61, 61..<62, 62..<81]
    try eachStep { steps in
      let work = EncoderBuffers(c, rows: 81)
      let x = AlignedBuffer<Float>(zeros: 81 * c.hiddenSize)
      let rows = EncoderRows(x: x.pointer, texts: texts, work: work)
      rows.qkv.update(from: buffer(inputs.flatMap { $0 }).array, count: 81 * 3 * c.hiddenSize)
      let layer = try Self.model().encoder().layers[0]
      steps.forward.run(.attention, of: layer, on: rows)
      let dOut = buffer(gradients.flatMap { $0 })
      let d = AlignedBuffer<Float>(count: 81 * 3 * c.hiddenSize)
      steps.attend(
        rows.qkv, out: rows.attention, dOut: dOut.pointer, texts: texts, into: d.pointer)
      #expect(distance(d, wanted) < 1e-5)
      return d.array.map(\.bitPattern)
    }
  }

  /// A whole block of the small BERT.
  @Test func block() throws {
    var random = self
    let model = try Self.model()
    let c = try #require(model.configuration.encoder)
    let layer = try model.encoder().layers[1]
    let plain = PlainEncoder(c, layer)
    let lengths = [4, 2]
    let inputs = lengths.map { random.rows($0, c.hiddenSize) }
    let gradients = lengths.map { random.rows($0, c.hiddenSize, size: 1) }
    // Finite differences of a few inputs are enough: the steps have theirs.
    let wanted = zip(inputs, gradients).map { x, dy in
      Plain.differences(x, dy, step: 1e-5) { plain.block($0) }
    }
    var norms: [ModuleKind: [Float]] = [:]
    try eachStep { steps in
      let block = EncoderBlockBackward(steps, rows: 6)
      let x = buffer(inputs.flatMap { $0 })
      let gradient = buffer(gradients.flatMap { $0 })
      var seen: [ModuleKind] = []
      block.run(layer, x: x.pointer, texts: [0..<4, 4..<6], gradient: gradient.pointer) { kind, dy, _ in
        seen.append(kind)
        norms[kind] = Array(UnsafeBufferPointer(start: dy, count: 4))
      }
      #expect(seen == [.output, .intermediate, .attentionOutput, .query, .key, .value])
      #expect(distance(gradient, wanted.flatMap { $0 }) < 1e-5)
      #expect(x.array == buffer(inputs.flatMap { $0 }).array)
      return gradient.array.map(\.bitPattern)
    }
    #expect(norms.values.allSatisfy { $0.allSatisfy(\.isFinite) && $0.contains { $0 != 0 } })
  }
}

/// The steps of an encoder's block in double precision, written plainly.
private struct PlainEncoder {
  var epsilon = 1e-12
  var heads = 1
  private var layer: EncoderLayer?
  /// Rows of each projection, with the bias at their end.
  private var matrices: [ModuleKind: [[Double]]] = [:]
  private var activation = EncoderConfiguration.Activation.gelu

  init(epsilon: Double) { self.epsilon = epsilon }
  init(heads: Int) { self.heads = heads }
  init(_ c: EncoderConfiguration, _ layer: EncoderLayer) {
    epsilon = Double(c.layerNormEps)
    heads = c.attentionHeads
    activation = c.activation
    self.layer = layer
    for kind in [ModuleKind.query, .key, .value, .attentionOutput, .intermediate, .output] {
      let bias = layer[kind].bias
      matrices[kind] = layer[kind].weight.rows.enumerated().map { n, row in
        row.map(Double.init) + [Double(bias?[n] ?? 0)]
      }
    }
  }

  private func standard(_ x: [Double]) -> (values: [Double], inverse: Double) {
    let mean = x.reduce(0, +) / Double(x.count)
    let inverse =
      1 / (x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count) + epsilon).squareRoot()
    return (x.map { ($0 - mean) * inverse }, inverse)
  }

  func norm(_ x: [Double], _ weight: [Double], _ bias: [Double]) -> [Double] {
    let h = standard(x).values
    return x.indices.map { h[$0] * weight[$0] + bias[$0] }
  }

  func normBackward(_ dy: [Double], _ x: [Double], _ weight: [Double]) -> [Double] {
    let (h, inverse) = standard(x)
    let z = zip(dy, weight).map { $0 * $1 }
    let mean = z.reduce(0, +) / Double(x.count)
    let along = zip(z, h).reduce(0) { $0 + $1.0 * $1.1 } / Double(x.count)
    return x.indices.map { inverse * (z[$0] - mean - h[$0] * along) }
  }

  static func activate(_ activation: EncoderConfiguration.Activation, _ x: Double) -> Double {
    switch activation {
    case .gelu: x / 2 * (1 + erf(x / 2.0.squareRoot()))
    case .geluTanh: x / 2 * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    case .relu: max(x, 0)
    }
  }

  static func slope(_ activation: EncoderConfiguration.Activation, _ x: Double) -> Double {
    switch activation {
    case .gelu:
      return (1 + erf(x / 2.0.squareRoot())) / 2 + x * exp(-x * x / 2) / (2 * Double.pi).squareRoot()
    case .geluTanh:
      let k = (2 / Double.pi).squareRoot()
      let t = tanh(k * (x + 0.044715 * x * x * x))
      return (1 + t) / 2 + x / 2 * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x)
    case .relu: return x > 0 ? 1 : 0
    }
  }

  private func part(_ row: [Double], _ kind: Int, _ head: Int) -> ArraySlice<Double> {
    let hidden = row.count / 3
    let width = hidden / heads
    return row[kind * hidden + head * width..<kind * hidden + (head + 1) * width]
  }

  private func probabilities(_ qkv: [[Double]], _ t: Int, _ head: Int) -> [Double] {
    let q = part(qkv[t], 0, head)
    let scores = qkv.map { row in
      zip(q, part(row, 1, head)).reduce(0) { $0 + $1.0 * $1.1 } / Double(q.count).squareRoot()
    }
    let weights = scores.map { exp($0 - scores.max()!) }
    let total = weights.reduce(0, +)
    return weights.map { $0 / total }
  }

  func attend(_ qkv: [[Double]]) -> [[Double]] {
    qkv.indices.map { t in
      (0..<heads).flatMap { head -> [Double] in
        let p = probabilities(qkv, t, head)
        var sum = [Double](repeating: 0, count: qkv[0].count / 3 / heads)
        for (s, row) in qkv.enumerated() {
          for (e, value) in part(row, 2, head).enumerated() { sum[e] += p[s] * value }
        }
        return sum
      }
    }
  }

  func attendBackward(_ dOut: [[Double]], _ qkv: [[Double]]) -> [[Double]] {
    let hidden = qkv[0].count / 3
    let width = hidden / heads
    var result = qkv.map { $0.map { _ in 0.0 } }
    for t in qkv.indices {
      for head in 0..<heads {
        let p = probabilities(qkv, t, head)
        let d = Array(dOut[t][head * width..<(head + 1) * width])
        let dp = qkv.map { row in zip(d, part(row, 2, head)).reduce(0) { $0 + $1.0 * $1.1 } }
        let mean = zip(p, dp).reduce(0) { $0 + $1.0 * $1.1 }
        for s in qkv.indices {
          let ds = p[s] * (dp[s] - mean) / Double(width).squareRoot()
          for e in 0..<width {
            let at = head * width + e
            result[t][at] += ds * qkv[s][hidden + at]
            result[s][hidden + at] += ds * qkv[t][at]
            result[s][2 * hidden + at] += p[s] * d[e]
          }
        }
      }
    }
    return result
  }

  private func product(_ x: [Double], _ kind: ModuleKind) -> [Double] {
    (matrices[kind] ?? []).map { row in
      var sum = row[x.count]
      for k in x.indices { sum += row[k] * x[k] }
      return sum
    }
  }

  func block(_ x: [[Double]]) -> [[Double]] {
    guard let layer else { preconditionFailure("a block has weights") }
    func norm(_ x: [Double], _ norm: LayerNorm) -> [Double] {
      self.norm(x, norm.weight.array.map(Double.init), norm.bias.array.map(Double.init))
    }
    let qkv = x.map { product($0, .query) + product($0, .key) + product($0, .value) }
    return zip(x, attend(qkv)).map { row, attention in
      let middle = norm(zip(row, product(attention, .attentionOutput)).map(+), layer.attentionNorm)
      let inner = product(middle, .intermediate).map { PlainEncoder.activate(activation, $0) }
      return norm(zip(middle, product(inner, .output)).map(+), layer.outputNorm)
    }
  }
}

extension WeightMatrix {
  /// `[outFeatures][inFeatures]`
  fileprivate var rows: [[Float]] {
    let line = AlignedBuffer<Float>(count: inFeatures)
    return (0..<outFeatures).map { row in
      copyRow(row, into: line.pointer, kernels: .best)
      return line.array
    }
  }
}
