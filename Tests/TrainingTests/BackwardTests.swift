import Architecture
import Compute
import Foundation
import Tensors
import TestSupport
import Testing
import Training
import Transformer

/// Every backward step against finite differences of the forward step in double precision, and the kernels against that.
@Suite struct BackwardTests {
  private var generator = SplitMix64(seed: 31)

  private mutating func rows(_ count: Int, _ width: Int) -> [[Double]] {
    (0..<count).map { _ in
      (0..<width).map { _ in Double(Float.random(in: -1.5...1.5, using: &generator)) }
    }
  }

  private func buffer(_ rows: [[Double]]) -> AlignedBuffer<Float> {
    AlignedBuffer(rows.flatMap { $0.map { Float($0) } })
  }

  /// The largest difference in terms of the largest element.
  private func distance(_ a: [Double], _ b: [Double]) -> Double {
    let largest = b.map(abs).max() ?? 1
    return zip(a, b).map { abs($0 - $1) }.max()! / largest
  }

  private func distance(_ a: AlignedBuffer<Float>, _ b: [[Double]]) -> Double {
    distance(a.array.map(Double.init), b.flatMap { $0 })
  }

  private func backward(_ model: SyntheticModel, _ pool: WorkerPool = .shared) -> BackwardSteps {
    BackwardSteps(
      LayerSteps(
        configuration: model.configuration, rotary: RotaryEmbedding(model.configuration.rotary), pool: pool))
  }

  @Test mutating func norm() throws {
    let model = SyntheticModel(layout: .interleaved, heads: 4, kvHeads: 2)
    let plain = Plain(configuration: model.configuration)
    let w = try #require(model.tensors["norm"])
    let (x, dy) = (rows(3, w.count), rows(3, w.count))
    let expected = zip(dy, x).map { plain.normBackward($0, $1, w) }
    let measured = Plain.differences(x, dy) { $0.map { plain.norm($0, w) } }
    #expect(distance(expected.flatMap { $0 }, measured.flatMap { $0 }) < 1e-6)
    // The gradient is added to what is there.
    let dx = AlignedBuffer<Float>(x.flatMap { $0.map { Float($0) } })
    let (inputs, gradients) = (buffer(x), buffer(dy))
    backward(model).normalize(
      gradients.pointer, x: inputs.pointer, weight: AlignedBuffer(w), rows: 3, addingTo: dx.pointer)
    #expect(distance(dx, zip(expected, x).map { zip($0, $1).map(+) }) < 1e-6)
  }

  @Test mutating func activation() throws {
    let model = SyntheticModel(layout: .interleaved, heads: 4, kvHeads: 2)
    let width = model.configuration.intermediateSize
    let (gate, up, dy) = (rows(2, width), rows(2, width), rows(2, width))
    let expected = gate.indices.map { Plain.activateBackward(dy[$0], gate[$0], up[$0]) }
    let ofGate = Plain.differences(gate, dy) { zip($0, up).map(Plain.activate) }
    let ofUp = Plain.differences(up, dy) { zip(gate, $0).map(Plain.activate) }
    #expect(distance(expected.flatMap(\.gate), ofGate.flatMap { $0 }) < 1e-6)
    #expect(distance(expected.flatMap(\.up), ofUp.flatMap { $0 }) < 1e-6)
    let (g, u, d) = (buffer(gate), buffer(up), buffer(dy))
    backward(model).activate(d.pointer, gate: g.pointer, up: u.pointer, rows: 2)
    #expect(distance(g, expected.map(\.gate)) < 2e-6)
    #expect(distance(u, expected.map(\.up)) < 2e-6)
  }

  /// Heads that share keys and heads that do not; widths that fill panels and that do not.
  @Test(arguments: [
    (4, 2, 16, DecoderConfiguration.QKVLayout.interleaved), (3, 3, 20, .separate), (6, 1, 24, .separate),
  ])
  func attention(heads: Int, kvHeads: Int, headDim: Int, layout: DecoderConfiguration.QKVLayout) throws {
    var random = self
    let model = SyntheticModel(layout: layout, heads: heads, kvHeads: kvHeads, headDim: headDim)
    let c = model.configuration
    let plain = Plain(configuration: c)
    let (qkv, dOut) = (random.rows(5, c.qkvWidth), random.rows(5, c.attentionWidth))
    let expected = plain.attendBackward(dOut, qkv)
    let measured = Plain.differences(qkv, dOut) { plain.attend($0) }
    #expect(distance(expected.flatMap { $0 }, measured.flatMap { $0 }) < 1e-6)

    // More queries than a block has, two sequences, on every instruction set and number of threads.
    let lengths = [61, 19]
    let inputs = lengths.map { random.rows($0, c.qkvWidth) }
    let gradients = lengths.map { random.rows($0, c.attentionWidth) }
    let wanted = zip(gradients, inputs).flatMap { plain.attendBackward($0, $1) }
    var bits: [[UInt32]] = []
    for isa in InstructionSet.runnable {
      for threads in [1, 3] {
        let pool = WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa)))
        let steps = backward(model, pool)
        let x = buffer(inputs.flatMap { $0 })
        let out = AlignedBuffer<Float>(count: 80 * c.attentionWidth)
        let slices = [(0, 61), (61, 19)].map {
          SequenceSlice(
            firstRow: $0, rowCount: $1, firstPosition: 0, cache: KVCache(configuration: c, capacity: 61))
        }
        steps.forward.attend(x.pointer, sequences: slices, layer: 0, into: out.pointer)
        let d = AlignedBuffer<Float>(count: 80 * c.qkvWidth)
        let dOuts = buffer(gradients.flatMap { $0 })
        steps.attend(
          x.pointer, out: out.pointer, dOut: dOuts.pointer, sequences: slices,
          into: d.pointer)
        #expect(distance(d, wanted) < 1e-5)
        bits.append(d.array.map(\.bitPattern))
      }
    }
    #expect(bits.allSatisfy { $0 == bits[0] })
  }

  @Test(arguments: [DecoderConfiguration.QKVLayout.interleaved, .separate])
  func block(layout: DecoderConfiguration.QKVLayout) throws {
    var random = self
    let model = SyntheticModel(layout: layout, heads: 4, kvHeads: 2)
    let c = model.configuration
    var layer = model.decoder().layers[0]
    if layout == .separate, case .fused(let all) = layer.qkv, let bias = all.bias {
      func part(_ range: Range<Int>) -> Linear {
        Linear(weight: all.weight.outputs(range), bias: AlignedBuffer(Array(bias.buffer[range])))
      }
      let (q, k) = (c.attentionWidth, c.kvHeads * c.headDim)
      layer.qkv = .separate(q: part(0..<q), k: part(q..<q + k), v: part(q + k..<q + 2 * k))
    }
    let (x, dy) = (random.rows(4, c.hiddenSize), random.rows(4, c.hiddenSize))
    let measured = Plain.differences(x, dy) {
      Plain(configuration: c).block($0) { model.tensors["0.\($0)"] ?? [] }
    }
    let (inputs, gradient) = (buffer(x), buffer(dy))
    let pool = WorkerPool.shared
    var seen: [ModuleKind: [Float]] = [:]
    BlockBackward(backward(model), rows: 4).run(
      BackwardWeights(layer), index: 0, x: inputs.pointer,
      sequences: [
        SequenceSlice(
          firstRow: 0, rowCount: 4, firstPosition: 0, cache: KVCache(configuration: c, capacity: 4))
      ], gradient: gradient.pointer
    ) { kind, gradients, rowStride in
      seen[kind] = (0..<4).flatMap { row in
        (0..<layer[kind].outFeatures).map { gradients[row * rowStride + $0] }
      }
    }
    #expect(distance(gradient, measured) < 1e-5)
    // What goes into down's output goes out unchanged.
    #expect(seen[.down] == buffer(dy).array)
    #expect(Set(seen.keys) == Set(layer.projections))
    // A change of a projection's bias is a change of its output: the sum over tokens of its gradients.
    let h = 1e-5
    func loss(_ change: Double) -> Double {
      let bias = model.tensors["0.qkv.bias"]!
      let qkv = x.map { row in
        var made = Plain.product(
          Plain(configuration: c).norm(row, model.tensors["0.in"]!), model.tensors["0.qkv"]!, bias: bias)
        made[7] += change
        return made
      }
      let plain = Plain(configuration: c)
      let middle = zip(x, plain.attend(qkv)).map { row, attention in
        zip(row, Plain.product(attention, model.tensors["0.o"]!)).map(+)
      }
      let out = middle.map { row in
        let y = plain.norm(row, model.tensors["0.post"]!)
        let activated = Plain.activate(
          Plain.product(y, model.tensors["0.gate"]!), Plain.product(y, model.tensors["0.up"]!))
        return zip(row, Plain.product(activated, model.tensors["0.down"]!)).map(+)
      }
      return zip(out, dy).reduce(0) { $0 + zip($1.0, $1.1).reduce(0) { $0 + $1.0 * $1.1 } }
    }
    let first = layer.projections[0]
    let width = layer[first].outFeatures
    let ofSeventh = (0..<4).reduce(0.0) { $0 + Double(seen[first]![$1 * width + 7]) }
    let expected = (loss(h) - loss(-h)) / (2 * h)
    #expect(abs(ofSeventh - expected) < 1e-4 * max(1, abs(expected)))
  }

  /// A vocabulary of more than one block.
  @Test mutating func crossEntropy() throws {
    let (words, width, count) = (5003, 24, 7)
    let w = rows(words, width).map { $0.map { Float($0) } }
    let hidden = rows(count, width)
    let targets = [0, 4095, nil, 4096, 5002, 17, 80]
    let head = Linear(
      weight: .rows(
        {
          let values = AlignedBuffer(w.flatMap { $0 })
          return RowMatrix(
            elements: values.pointer, dtype: .f32, outFeatures: words, inFeatures: width, owner: values)
        }()))
    let flat = w.flatMap { $0 }
    let scale = 0.5
    let expected = zip(hidden, targets).map { row, word -> (loss: Double, gradient: [Double]) in
      guard let word else { return (0, row.map { _ in 0 }) }
      let (loss, d) = Plain.crossEntropy(Plain.product(row, flat).map { $0 * scale }, word)
      return (loss, Plain.productBackward(d.map { $0 * scale }, flat))
    }
    let measured = Plain.differences([hidden[1]], [[1]]) { rows in
      rows.map { [Plain.crossEntropy(Plain.product($0, flat).map { $0 * scale }, 4095).loss] }
    }
    #expect(distance(expected[1].gradient, measured[0]) < 1e-6)
    let inputs = buffer(hidden)
    for isa in InstructionSet.runnable {
      let pool = WorkerPool(threads: 2, kernels: try #require(Kernels(for: isa)))
      let gradient = AlignedBuffer<Float>(count: count * width)
      let losses = CrossEntropy(head: head, logitScale: Float(scale), pool: pool).backward(
        inputs.pointer, rows: count, targets: targets, gradient: gradient.pointer)
      #expect(distance(losses, expected.map(\.loss)) < 1e-6)
      #expect(distance(gradient, expected.map(\.gradient)) < 1e-5)
    }
  }

  /// Words are drawn as often as the model expects them, in a vocabulary of more than one block, and the gradient's mean square is the
  /// Fisher information.
  @Test func drawnWordsFollowTheDistribution() throws {
    let (count, words) = (6000, 4099)
    // Only a few words are likely, on both sides of the blocks' border.
    let likely = [3: 1.0, 70: 2.0, 4000: 0.5, 4096: 1.5, 4098: 2.2]
    let logits = (0..<words).map { Float(likely[$0] ?? -20) }
    let values = AlignedBuffer(logits)
    let head = Linear(
      weight: .rows(
        RowMatrix(elements: values.pointer, dtype: .f32, outFeatures: words, inFeatures: 1, owner: values)))
    let hidden = AlignedBuffer<Float>((0..<count).map { _ in 1 })
    let each = 4
    var random = generator
    let numbers = (0..<count * each).map { _ in Double.random(in: 0..<1, using: &random) }
    let gradient = AlignedBuffer<Float>(count: count)
    let drawn = FisherGradient(head: head).drawFisherGradient(
      hidden.pointer, rows: count, numbers: numbers, gradient: gradient.pointer)
    let sum = logits.reduce(0.0) { $0 + exp(Double($1)) }
    for (word, logit) in likely {
      let share = exp(logit) / sum
      for place in 0..<each {
        let met = (0..<count).count { drawn[$0 * each + place] == word }
        // Three standard deviations of the count.
        #expect(abs(Double(met) / Double(count) - share) < 0.02)
      }
    }
    let mean = logits.reduce(0.0) { $0 + exp(Double($1)) / sum * Double($1) }
    let variance = logits.reduce(0.0) { partial, logit in
      let distance = Double(logit) - mean
      return partial + exp(Double(logit)) / sum * distance * distance
    }
    let square = gradient.array.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(count)
    #expect(abs(square - variance) < 0.1 * variance)
  }
}
