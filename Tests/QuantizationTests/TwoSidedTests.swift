import Compute
import Quantization
import Tensors
import TestSupport
import Testing

/// Rounding on both sides of a matrix.
@Suite struct TwoSidedTests {
  /// Several spans of columns, a last panel that is not full, more panels than a task takes.
  private let out = 85
  private let inputs = 320
  private let tokens = 500

  private func random(_ count: Int, seed: UInt64) -> [Float] {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in Float.random(in: -1...1, using: &generator) }
  }

  /// Rows whose elements depend on each other.
  private func correlated(_ rows: Int, _ width: Int, seed: UInt64) -> AlignedBuffer<Float> {
    let noise = random(rows * width, seed: seed)
    let shared = random(rows * 4, seed: seed + 1)
    let mixing = random(4 * width, seed: seed + 2)
    return AlignedBuffer(
      (0..<rows * width).map { at in
        let (row, column) = (at / width, at % width)
        return (0..<4).reduce(0.3 * noise[at]) { $0 + shared[row * 4 + $1] * mixing[$1 * width + column] }
          * Float(1 + column % 5)
      })
  }

  private var weights: [Float] { random(out * inputs, seed: 9) }

  private func gradients(blockSize: Int, pool: WorkerPool) -> OutputHessian {
    let hessian = OutputHessian(outputs: out, blockSize: blockSize)
    let g = correlated(tokens, out, seed: 21)
    hessian.add(g.pointer, rows: tokens, rowStride: out, pool: pool)
    return hessian
  }

  private func identity(_ outputs: Int) -> OutputHessian {
    let hessian = OutputHessian(outputs: outputs, blockSize: outputs)
    for i in 0..<outputs { hessian.blocks[0].values[i * outputs + i] = 1 }
    return hessian
  }

  private func solve(
    _ recipe: QuantizationRecipe, outputs: OutputHessian?, weights: [Float]? = nil, pool: WorkerPool = .shared
  ) throws -> QuantizedMatrix {
    let values = weights ?? self.weights
    let hessian = Hessian(order: inputs)
    let x = correlated(tokens, inputs, seed: 3)
    hessian.add(x.pointer, rows: tokens, pool: pool)
    let prepared = try PreparedHessian(hessian, sequences: 4, recipe: recipe, name: "m", pool: pool)
    return try Solver(recipe: recipe, pool: pool).solve(
      SolverGoldens.matrix(AlignedBuffer(values), [values.count / inputs, inputs]), hessian: prepared,
      outputs: outputs, module: "m"
    ).tensor.unpacked()
  }

  private var recipes: [QuantizationRecipe] {
    [
      QuantizationRecipe(groupSize: 32), QuantizationRecipe(bits: 3, groupSize: -1, isSymmetric: false),
      QuantizationRecipe(
        groupSize: 64, descendingActivation: true, staticGroups: true, searchesScales: true),
      QuantizationRecipe(bits: 8, groupSize: 32, isSymmetric: false, descendingActivation: true),
    ]
  }

  @Test func withoutFeedbackItIsGPTQ() throws {
    for recipe in recipes {
      let plain = try solve(recipe, outputs: nil)
      let both = try solve(recipe, outputs: identity(out))
      #expect(both.codes == plain.codes)
      #expect(both.scales == plain.scales)
      #expect(both.zeros == plain.zeros)
    }
  }

  /// Σ over tokens of gradients and inputs of (g · (W − Q) x)², which is what rounding on both sides makes small.
  private func loss(_ matrix: QuantizedMatrix) -> Double {
    let x = correlated(tokens, inputs, seed: 3)
    let g = correlated(tokens, out, seed: 21)
    let w = weights
    let q = WeightMatrix.intPanels(IntPanelTensor(packing: matrix).matrix).rowMajorFloats()
    var sum = 0.0
    // A part of the tokens says enough.
    for token in stride(from: 0, to: tokens, by: 7) {
      let moved = (0..<out).map { n in
        (0..<inputs).reduce(0.0) {
          $0 + Double(w[n * inputs + $1] - q[n * inputs + $1]) * Double(x[token * inputs + $1])
        }
      }
      for other in stride(from: 0, to: tokens, by: 7) {
        let dot = (0..<out).reduce(0.0) { $0 + moved[$1] * Double(g[other * out + $1]) }
        sum += dot * dot
      }
    }
    return sum
  }

  @Test func losesLessWhereOutputsDependOnEachOther() throws {
    let recipe = QuantizationRecipe(
      groupSize: 64, descendingActivation: true, staticGroups: true, searchesScales: true)
    let plain = loss(try solve(recipe, outputs: nil))
    let both = loss(try solve(recipe, outputs: gradients(blockSize: 4096, pool: .shared)))
    #expect(both < 0.4 * plain, "\(both) after \(plain)")
  }

  @Test func threadsAndInstructionSetsDoNotChangeABit() throws {
    for recipe in recipes {
      var made: [QuantizedMatrix] = []
      for isa in InstructionSet.runnable {
        for threads in [1, 2, 3] {
          let pool = WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa)))
          made.append(try solve(recipe, outputs: gradients(blockSize: 4096, pool: pool), pool: pool))
        }
      }
      for matrix in made {
        #expect(matrix.codes == made[0].codes)
        #expect(matrix.scales == made[0].scales)
      }
    }
  }

  /// Outputs of different blocks do not depend on each other.
  @Test func blocksStandAlone() throws {
    let recipe = QuantizationRecipe(groupSize: 64, descendingActivation: true, staticGroups: true)
    let blocks = gradients(blockSize: 32, pool: .shared)
    #expect(blocks.blocks.map(\.outputs) == [0..<32, 32..<64, 64..<85])
    let whole = try solve(recipe, outputs: blocks)
    for block in blocks.blocks {
      var alone = blocks
      alone.blocks = [
        OutputHessian.Block(outputs: 0..<block.order, values: block.values)
      ]
      let rows = Array(weights[block.outputs.lowerBound * inputs..<block.outputs.upperBound * inputs])
      let part = try solve(recipe, outputs: alone, weights: rows)
      for k in 0..<inputs {
        for n in 0..<block.order {
          #expect(part.codes[k * block.order + n] == whole.codes[k * out + block.outputs.lowerBound + n])
        }
      }
    }
  }
}
