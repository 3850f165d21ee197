import Compute
import Quantization
import Tensors
import TestSupport
import Testing

/// Scales that lose least, and tokens that count differently.
@Suite struct ScaleSearchTests {
  private let out = 37
  private let inputs = 160
  private let tokens = 600

  /// Inputs of different size that depend on each other, and a few huge tokens.
  private var x: AlignedBuffer<Float> {
    var generator = SplitMix64(seed: 3)
    let shared = (0..<tokens).map { _ in Float.random(in: -1...1, using: &generator) }
    return AlignedBuffer(
      (0..<tokens * inputs).map { at in
        let (token, channel) = (at / inputs, at % inputs)
        let value = Float.random(in: -1...1, using: &generator) + shared[token] * Float(channel % 3)
        return value * (token % 150 == 0 ? 60 : 1) * (1 + Float(channel % 7))
      })
  }

  private var w: [Float] {
    var generator = SplitMix64(seed: 4)
    return (0..<out * inputs).map { _ in
      let value = Float.random(in: -1...1, using: &generator)
      return value * value * value
    }
  }

  private func recipe(_ edit: (inout QuantizationRecipe) -> Void) -> QuantizationRecipe {
    var recipe = QuantizationRecipe(groupSize: 32)
    edit(&recipe)
    return recipe
  }

  private func solve(
    _ recipe: QuantizationRecipe, weights: [Float]? = nil, isa: InstructionSet? = nil, threads: Int = 2
  ) throws -> QuantizedMatrix {
    let pool = WorkerPool(threads: threads, kernels: try #require(isa.map { Kernels(for: $0) } ?? .best))
    let hessian = Hessian(order: inputs)
    let x = x
    hessian.add(x.pointer, rows: tokens, weights: weights, pool: pool)
    let prepared = try PreparedHessian(hessian, sequences: 4, recipe: recipe, name: "m", pool: pool)
    return try Solver(recipe: recipe, pool: pool).solve(
      SolverGoldens.matrix(AlignedBuffer(w), [out, inputs]), hessian: prepared, module: "m"
    ).tensor.unpacked()
  }

  /// mean((X·(Q − W)ᵀ)²), each token divided by its norm if `relative`.
  private func error(_ matrix: QuantizedMatrix, relative: Bool = false) -> Double {
    let (x, w) = (x, w)
    var sum = 0.0
    for token in 0..<tokens {
      let row = (0..<inputs).map { Double(x[token * inputs + $0]) }
      let square = relative ? row.reduce(0) { $0 + $1 * $1 } : 1
      for n in 0..<out {
        var difference = 0.0
        for k in 0..<inputs {
          let parameters = Int(matrix.groupIndex[k]) * out + n
          let scale = Double(HalfPrecision.value(of: matrix.scales[parameters]))
          let value = scale * Double(Int(matrix.codes[k * out + n]) - Int(matrix.zeros[parameters]))
          difference += row[k] * (value - Double(w[n * inputs + k]))
        }
        sum += difference * difference / square
      }
    }
    return sum / Double(tokens * out)
  }

  @Test(arguments: [2, 3, 4], [true, false])
  func searchedScalesLoseLess(bits: Int, isSymmetric: Bool) throws {
    func loss(_ edit: (inout QuantizationRecipe) -> Void) throws -> Double {
      error(
        try solve(
          recipe {
            ($0.bits, $0.isSymmetric) = (bits, isSymmetric)
            ($0.descendingActivation, $0.staticGroups) = (true, true)
            edit(&$0)
          }))
    }
    let ranges = try loss { _ in }
    let positive = try loss {
      $0.searchesScales = true
      $0.signedScales = false
    }
    let signed = try loss { $0.searchesScales = true }
    #expect(positive < 0.95 * ranges)
    #expect(isSymmetric ? signed < positive : signed == positive)
  }

  @Test func negativeScalesAreAChoice() throws {
    func negative(_ signed: Bool) throws -> Int {
      try solve(
        recipe {
          $0.searchesScales = true
          $0.signedScales = signed
        }
      ).scales.count { $0 & 0x8000 != 0 }
    }
    #expect(try negative(false) == 0)
    let groups = out * inputs / 32
    #expect(try (groups / 4...groups * 3 / 4).contains(negative(true)))
  }

  /// Also groups whose scales are found on the way, and whole rows.
  @Test(arguments: [(128, false, false), (32, true, false), (32, true, true), (-1, true, false)])
  func threadsAndInstructionSetsDoNotChangeABit(groupSize: Int, ordered: Bool, isStatic: Bool) throws {
    let recipe = recipe {
      ($0.groupSize, $0.descendingActivation, $0.staticGroups) = (groupSize, ordered, isStatic)
      $0.searchesScales = true
    }
    let expected = try solve(recipe, isa: .scalar, threads: 1)
    for isa in InstructionSet.runnable {
      for threads in 1...3 {
        let found = try solve(recipe, isa: isa, threads: threads)
        #expect(found.codes == expected.codes && found.scales == expected.scales, "\(isa), \(threads)")
      }
    }
  }

  @Test func groupsOfZerosAndTinyWeightsHaveScales() throws {
    let recipe = recipe { $0.searchesScales = true }
    var w = [Float](repeating: 0, count: out * inputs)
    for k in 32..<64 { w[k] = 1e-9 * Float(k - 48) }
    let pool = WorkerPool(threads: 1)
    let hessian = Hessian(order: inputs)
    let x = x
    hessian.add(x.pointer, rows: tokens, pool: pool)
    let (tensor, report) = try Solver(recipe: recipe, pool: pool).solve(
      SolverGoldens.matrix(AlignedBuffer(w), [out, inputs]),
      hessian: PreparedHessian(hessian, sequences: 4, recipe: recipe, name: "m", pool: pool), module: "m")
    #expect(tensor.scales.allSatisfy { $0 & 0x7FFF != 0 && $0 & 0x7C00 != 0x7C00 })
    // What the tiny weights lose goes to the columns after them.
    #expect(report.tinyScales >= 1)
  }

  /// With 1 / norm² every token's direction counts the same, so the loss of directions falls.
  @Test func tokensThatCountLessLoseMore() throws {
    let x = x
    let weights = (0..<tokens).map { token in
      1 / (0..<inputs).reduce(Float(0)) { $0 + x[token * inputs + $1] * x[token * inputs + $1] }
    }
    let recipe = recipe { _ in }
    let (plain, weighted) = (try solve(recipe), try solve(recipe, weights: weights))
    #expect(error(weighted, relative: true) < error(plain, relative: true))
    #expect(error(weighted) > error(plain))
    // Only ratios count.
    let scaled = try solve(recipe, weights: weights.map { $0 * 1024 })
    #expect(scaled.codes == weighted.codes && scaled.scales == weighted.scales)
  }

  @Test func presetsAreSettings() {
    var recipe = QuantizationRecipe()
    recipe.apply(.balanced)
    #expect(recipe.descendingActivation && recipe.staticGroups && recipe.searchesScales)
    #expect(recipe.tokenWeights == .attention)
    // Engines need not know in which order the columns were.
    #expect(!recipe.quantizeConfiguration(format: .v1).descendingActivation)
    recipe.apply(.best)
    #expect(recipe.tokenWeights == .fisher && recipe.roundsBothSides && recipe.propagatesErrors)
    #expect(recipe.calibrationArithmetic == .bf16)
    recipe.apply(.autogptq)
    #expect(recipe == QuantizationRecipe())
  }
}
