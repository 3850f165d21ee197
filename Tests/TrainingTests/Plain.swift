import Architecture
import Foundation

/// The steps of a block and their backward steps in double precision, written plainly. Rows are arrays.
struct Plain {
  let configuration: DecoderConfiguration

  static func product(_ x: [Double], _ w: [Float], bias: [Float]? = nil) -> [Double] {
    (0..<w.count / x.count).map { n in
      x.indices.reduce(Double(bias?[n] ?? 0)) { $0 + x[$1] * Double(w[n * x.count + $1]) }
    }
  }

  /// dy · W
  static func productBackward(_ dy: [Double], _ w: [Float]) -> [Double] {
    let width = w.count / dy.count
    return (0..<width).map { k in dy.indices.reduce(0) { $0 + dy[$1] * Double(w[$1 * width + k]) } }
  }

  private func inverse(_ x: [Double]) -> Double {
    1 / (x.reduce(0) { $0 + $1 * $1 } / Double(x.count) + Double(configuration.rmsNormEps)).squareRoot()
  }

  func norm(_ x: [Double], _ w: [Float]) -> [Double] {
    let r = inverse(x)
    return x.indices.map { x[$0] * r * Double(w[$0]) }
  }

  func normBackward(_ dy: [Double], _ x: [Double], _ w: [Float]) -> [Double] {
    let r = inverse(x)
    let along = x.indices.reduce(0) { $0 + dy[$1] * Double(w[$1]) * x[$1] } * r * r * r / Double(x.count)
    return x.indices.map { r * dy[$0] * Double(w[$0]) - x[$0] * along }
  }

  static func activate(_ gate: [Double], _ up: [Double]) -> [Double] {
    zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 }
  }

  static func activateBackward(_ dy: [Double], _ gate: [Double], _ up: [Double]) -> (
    gate: [Double], up: [Double]
  ) {
    let sigmoid = gate.map { 1 / (1 + exp(-$0)) }
    return (
      gate.indices.map { dy[$0] * up[$0] * sigmoid[$0] * (1 + gate[$0] * (1 - sigmoid[$0])) },
      gate.indices.map { dy[$0] * gate[$0] * sigmoid[$0] }
    )
  }

  private func rotated(_ head: [Double], _ position: Int, by sign: Double = 1) -> [Double] {
    let half = configuration.headDim / 2
    var result = head
    for e in 0..<half {
      let angle =
        sign * Double(position)
        * pow(configuration.rotary.theta, -2 * Double(e) / Double(configuration.headDim))
      result[e] = head[e] * cos(angle) - head[e + half] * sin(angle)
      result[e + half] = head[e + half] * cos(angle) + head[e] * sin(angle)
    }
    return result
  }

  private func part(_ row: [Double], _ offset: Int) -> [Double] {
    Array(row[offset..<offset + configuration.headDim])
  }

  private func probabilities(_ qkv: [[Double]], _ t: Int, head: Int) -> [Double] {
    let c = configuration
    let q = rotated(part(qkv[t], c.queryOffset(head)), t)
    let scores = (0...t).map { s in
      zip(q, rotated(part(qkv[s], c.keyOffset(head / c.queriesPerKV)), s)).reduce(0) { $0 + $1.0 * $1.1 }
        / Double(c.headDim).squareRoot()
    }
    let weights = scores.map { exp($0 - scores.max()!) }
    let total = weights.reduce(0, +)
    return weights.map { $0 / total }
  }

  func attend(_ qkv: [[Double]]) -> [[Double]] {
    let c = configuration
    return qkv.indices.map { t in
      (0..<c.attentionHeads).flatMap { head in
        let p = probabilities(qkv, t, head: head)
        return (0..<c.headDim).map { e in
          (0...t).reduce(0) { $0 + p[$1] * qkv[$1][c.valueOffset(head / c.queriesPerKV) + e] }
        }
      }
    }
  }

  func attendBackward(_ dOut: [[Double]], _ qkv: [[Double]]) -> [[Double]] {
    let c = configuration
    let scale = 1 / Double(c.headDim).squareRoot()
    var result = qkv.map { $0.map { _ in 0.0 } }
    for t in qkv.indices {
      for head in 0..<c.attentionHeads {
        let kv = head / c.queriesPerKV
        let p = probabilities(qkv, t, head: head)
        let d = Array(dOut[t][head * c.headDim..<(head + 1) * c.headDim])
        let dp = (0...t).map { s in zip(d, part(qkv[s], c.valueOffset(kv))).reduce(0) { $0 + $1.0 * $1.1 } }
        let mean = zip(p, dp).reduce(0) { $0 + $1.0 * $1.1 }
        let q = rotated(part(qkv[t], c.queryOffset(head)), t)
        var dq = [Double](repeating: 0, count: c.headDim)
        for s in 0...t {
          let ds = p[s] * (dp[s] - mean) * scale
          let k = rotated(part(qkv[s], c.keyOffset(kv)), s)
          let dk = rotated(q.map { $0 * ds }, s, by: -1)
          for e in 0..<c.headDim {
            dq[e] += ds * k[e]
            result[s][c.keyOffset(kv) + e] += dk[e]
            result[s][c.valueOffset(kv) + e] += p[s] * d[e]
          }
        }
        for (e, value) in rotated(dq, t, by: -1).enumerated() {
          result[t][c.queryOffset(head) + e] += value
        }
      }
    }
    return result
  }

  /// −log softmax(logits)[word], and its gradient.
  static func crossEntropy(_ logits: [Double], _ word: Int) -> (loss: Double, gradient: [Double]) {
    let highest = logits.max()!
    let sum = logits.reduce(0) { $0 + exp($1 - highest) }
    return (
      highest + log(sum) - logits[word],
      logits.indices.map { exp(logits[$0] - highest) / sum - ($0 == word ? 1 : 0) }
    )
  }

  /// A whole block, `weight` giving its tensors.
  func block(_ x: [[Double]], _ weight: (String) -> [Float]) -> [[Double]] {
    let qkv = x.map {
      Plain.product(norm($0, weight("in")), weight("qkv"), bias: weight("qkv.bias"))
    }
    let middle = zip(x, attend(qkv)).map { row, attention in
      zip(row, Plain.product(attention, weight("o"))).map(+)
    }
    return middle.map { row in
      let y = norm(row, weight("post"))
      let activated = Plain.activate(
        Plain.product(y, weight("gate")), Plain.product(y, weight("up")))
      return zip(row, Plain.product(activated, weight("down"))).map(+)
    }
  }

  /// ∂ Σ dy·f(x) / ∂x by central differences.
  static func differences(
    _ x: [[Double]], _ dy: [[Double]], step: Double = 1e-5, _ f: ([[Double]]) -> [[Double]]
  ) -> [[Double]] {
    func value(_ x: [[Double]]) -> Double {
      zip(f(x), dy).reduce(0) { $0 + zip($1.0, $1.1).reduce(0) { $0 + $1.0 * $1.1 } }
    }
    return x.indices.map { row in
      x[row].indices.map { column in
        var (more, less) = (x, x)
        more[row][column] += step
        less[row][column] -= step
        return (value(more) - value(less)) / (2 * step)
      }
    }
  }
}
