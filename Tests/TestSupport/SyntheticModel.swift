import Architecture
import Compute
import Foundation
import Tensors
import Transformer

/// A small random decoder with its weights at hand, and the same computation written plainly in double precision.
package struct SyntheticModel {
  package let configuration: DecoderConfiguration
  package var tensors: [String: [Float]] = [:]

  package init(
    layout: DecoderConfiguration.QKVLayout, heads: Int, kvHeads: Int, headDim: Int = 16, seed: UInt64 = 1
  ) {
    let hidden = 48
    configuration = DecoderConfiguration(
      hiddenSize: hidden, intermediateSize: 80, layerCount: 2, attentionHeads: heads, kvHeads: kvHeads,
      headDim: headDim, vocabularySize: 70, contextLength: 2048, rmsNormEps: 1e-5,
      rotary: RotaryParameters(theta: 10_000, rotaryDim: headDim), qkvLayout: layout)
    var generator = SplitMix64(seed: seed)
    func make(_ name: String, _ count: Int, around: Float = 0, spread: Float) {
      tensors[name] = (0..<count).map { _ in around + Float.random(in: -spread...spread, using: &generator) }
    }
    let c = configuration
    make("embed", c.vocabularySize * hidden, spread: 1)
    make("head", c.vocabularySize * hidden, spread: 0.3)
    make("norm", hidden, around: 1, spread: 0.3)
    for layer in 0..<c.layerCount {
      make("\(layer).in", hidden, around: 1, spread: 0.3)
      make("\(layer).post", hidden, around: 1, spread: 0.3)
      make("\(layer).qkv", c.qkvWidth * hidden, spread: 0.3)
      make("\(layer).qkv.bias", c.qkvWidth, spread: 0.3)
      make("\(layer).o", hidden * c.attentionWidth, spread: 0.2)
      make("\(layer).gate", c.intermediateSize * hidden, spread: 0.2)
      make("\(layer).up", c.intermediateSize * hidden, spread: 0.2)
      make("\(layer).down", hidden * c.intermediateSize, spread: 0.2)
    }
  }

  package func matrix(_ name: String, out: Int, into inFeatures: Int, panels: Bool) -> WeightMatrix {
    let values = tensors[name]!
    if panels {
      let count = (out + 15) / 16
      let buffer = AlignedBuffer<Float>(zeros: count * 16 * inFeatures)
      for n in 0..<out {
        for k in 0..<inFeatures {
          buffer[(n / 16 * inFeatures + k) * 16 + n % 16] = values[n * inFeatures + k]
        }
      }
      return .panels(
        PanelMatrix(
          elements: UnsafeRawPointer(buffer.pointer), dtype: .f32, outFeatures: out, inFeatures: inFeatures,
          owner: buffer))
    }
    let buffer = AlignedBuffer(values)
    return .rows(
      RowMatrix(
        elements: UnsafeRawPointer(buffer.pointer), dtype: .f32, outFeatures: out, inFeatures: inFeatures,
        owner: buffer))
  }

  package func decoder(
    panels: Bool = false, attention: AttentionArithmetic = .exact, pool: WorkerPool = .shared
  ) -> Decoder {
    let c = configuration
    let layers = (0..<c.layerCount).map { i in
      DecoderLayer(
        inputNorm: AlignedBuffer(tensors["\(i).in"]!),
        qkv: .fused(
          Linear(
            weight: matrix("\(i).qkv", out: c.qkvWidth, into: c.hiddenSize, panels: panels),
            bias: AlignedBuffer(tensors["\(i).qkv.bias"]!))),
        o: Linear(weight: matrix("\(i).o", out: c.hiddenSize, into: c.attentionWidth, panels: panels)),
        postAttentionNorm: AlignedBuffer(tensors["\(i).post"]!),
        gate: Linear(
          weight: matrix("\(i).gate", out: c.intermediateSize, into: c.hiddenSize, panels: panels)),
        up: Linear(weight: matrix("\(i).up", out: c.intermediateSize, into: c.hiddenSize, panels: panels)),
        down: Linear(weight: matrix("\(i).down", out: c.hiddenSize, into: c.intermediateSize, panels: panels))
      )
    }
    return Decoder(
      configuration: c, embedding: matrix("embed", out: c.vocabularySize, into: c.hiddenSize, panels: panels),
      layers: layers, finalNorm: AlignedBuffer(tensors["norm"]!),
      head: Linear(weight: matrix("head", out: c.vocabularySize, into: c.hiddenSize, panels: panels)),
      attention: attention, pool: pool)
  }

  /// Logits `[tokens][vocabulary]`, everything in double, attention over the full matrix of scores.
  package func referenceLogits(_ tokens: [Int]) -> [[Double]] {
    let c = configuration
    func product(_ x: [Double], _ name: String, _ out: Int) -> [Double] {
      let w = tensors[name]!
      return (0..<out).map { n in x.indices.reduce(0) { $0 + x[$1] * Double(w[n * x.count + $1]) } }
    }
    func norm(_ x: [Double], _ name: String) -> [Double] {
      let inverse = 1 / (x.reduce(0) { $0 + $1 * $1 } / Double(x.count) + Double(c.rmsNormEps)).squareRoot()
      return x.indices.map { x[$0] * inverse * Double(tensors[name]![$0]) }
    }
    func rotated(_ head: [Double], _ position: Int) -> [Double] {
      let half = c.headDim / 2
      var result = head
      for e in 0..<half {
        let angle = Double(position) * pow(c.rotary.theta, -2 * Double(e) / Double(c.headDim))
        result[e] = head[e] * cos(angle) - head[e + half] * sin(angle)
        result[e + half] = head[e + half] * cos(angle) + head[e] * sin(angle)
      }
      return result
    }
    var x = tokens.map { t in (0..<c.hiddenSize).map { Double(tensors["embed"]![t * c.hiddenSize + $0]) } }
    for layer in 0..<c.layerCount {
      let qkv = x.map { row in
        zip(product(norm(row, "\(layer).in"), "\(layer).qkv", c.qkvWidth), tensors["\(layer).qkv.bias"]!).map
        {
          $0 + Double($1)
        }
      }
      func part(_ t: Int, _ offset: Int) -> [Double] { Array(qkv[t][offset..<offset + c.headDim]) }
      for t in tokens.indices {
        var mixed: [Double] = []
        for head in 0..<c.attentionHeads {
          let kv = head / c.queriesPerKV
          let q = rotated(part(t, c.queryOffset(head)), t)
          let scores = (0...t).map { s in
            zip(q, rotated(part(s, c.keyOffset(kv)), s)).reduce(0) { $0 + $1.0 * $1.1 }
              / Double(c.headDim).squareRoot()
          }
          let weights = scores.map { exp($0 - scores.max()!) }
          let total = weights.reduce(0, +)
          for e in 0..<c.headDim {
            mixed.append((0...t).reduce(0) { $0 + weights[$1] / total * part($1, c.valueOffset(kv))[e] })
          }
        }
        let o = product(mixed, "\(layer).o", c.hiddenSize)
        x[t] = zip(x[t], o).map(+)
      }
      for t in tokens.indices {
        let y = norm(x[t], "\(layer).post")
        let gate = product(y, "\(layer).gate", c.intermediateSize)
        let up = product(y, "\(layer).up", c.intermediateSize)
        let down = product(
          zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 }, "\(layer).down", c.hiddenSize)
        x[t] = zip(x[t], down).map(+)
      }
    }
    return x.map { product(norm($0, "norm"), "head", c.vocabularySize) }
  }
}
