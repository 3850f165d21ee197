import Compute
import JSON
import Quantization
import Tensors
import TestSupport
import Testing

/// Refitted scales, codes that move, and windows that stop both.
@Suite struct RefinementTests {
  static let out = 37
  static let inputs = 160
  static let tokens = 600

  static var x: AlignedBuffer<Float> {
    var generator = SplitMix64(seed: 13)
    let shared = (0..<tokens).map { _ in Float.random(in: -1...1, using: &generator) }
    return AlignedBuffer(
      (0..<tokens * inputs).map { at in
        let (token, channel) = (at / inputs, at % inputs)
        let value = Float.random(in: -1...1, using: &generator) + shared[token] * Float(channel % 3)
        // One channel is always zero.
        return channel == 70 ? 0 : value * (1 + Float(channel % 7))
      })
  }

  static var w: AlignedBuffer<Float> {
    var generator = SplitMix64(seed: 14)
    return AlignedBuffer(
      (0..<out * inputs).map { _ in
        let value = Float.random(in: -1...1, using: &generator)
        return value * value * value
      })
  }

  static var matrix: WeightMatrix { SolverGoldens.matrix(w, [out, inputs]) }

  static func recipe(_ edit: (inout QuantizationRecipe) -> Void = { _ in }) -> QuantizationRecipe {
    var recipe = QuantizationRecipe(groupSize: 32, refinementRounds: 1)
    edit(&recipe)
    return recipe
  }

  static func prepared(_ recipe: QuantizationRecipe, pool: WorkerPool = .shared) throws -> PreparedHessian {
    let hessian = Hessian(order: inputs)
    let x = RefinementTests.x
    hessian.add(x.pointer, rows: tokens, pool: pool)
    return try PreparedHessian(hessian, sequences: 4, recipe: recipe, name: "m", pool: pool)
  }

  /// H + d in double precision.
  static let damped: [[Double]] = {
    let x = RefinementTests.x
    var h = [[Double]](repeating: [Double](repeating: 0, count: inputs), count: inputs)
    for token in 0..<tokens {
      let row = (0..<inputs).map { Double(x[token * inputs + $0]) }
      for i in 0..<inputs { for j in 0..<inputs { h[i][j] += row[i] * row[j] / 2 } }
    }
    h[70][70] = 1
    let mean = (0..<inputs).reduce(0) { $0 + h[$1][$1] } / Double(inputs)
    for i in 0..<inputs { h[i][i] += 0.01 * mean }
    return h
  }()

  /// W − Q of each row; weights of channels that were always zero are 0.
  static func errors(_ matrix: QuantizedMatrix) -> [[Double]] {
    let w = RefinementTests.w
    return (0..<out).map { n in
      (0..<inputs).map { k in
        let parameters = Int(matrix.groupIndex[k]) * out + n
        let scale = Double(HalfPrecision.value(of: matrix.scales[parameters]))
        let value = scale * Double(Int(matrix.codes[k * out + n]) - Int(matrix.zeros[parameters]))
        return (k == 70 ? 0 : Double(w[n * inputs + k])) - value
      }
    }
  }

  static func product(_ a: [Double], _ b: [Double]) -> Double {
    var sum = 0.0
    for i in 0..<a.count {
      guard a[i] != 0 else { continue }
      var inner = 0.0
      for j in 0..<b.count { inner += damped[i][j] * b[j] }
      sum += a[i] * inner
    }
    return sum
  }

  static func losses(_ matrix: QuantizedMatrix) -> [Double] { errors(matrix).map { product($0, $0) } }

  /// With the codes of a row fixed, the scales that lose least, in double precision.
  private static func bestScales(_ matrix: QuantizedMatrix, row n: Int) -> [Double] {
    let groups = matrix.groupCount
    let codes = (0..<groups).map { g in
      (0..<inputs).map { k in
        Int(matrix.groupIndex[k]) == g
          ? Double(Int(matrix.codes[k * out + n]) - Int(matrix.zeros[g * out + n])) : 0
      }
    }
    let w = RefinementTests.w
    let target = (0..<inputs).map { $0 == 70 ? 0 : Double(w[n * inputs + $0]) }
    var a = codes.map { g in codes.map { product(g, $0) } + [product(g, target)] }
    for i in 0..<groups {
      let pivot = a[i][i]
      a[i] = a[i].map { $0 / pivot }
      for j in 0..<groups where j != i {
        let factor = a[j][i]
        a[j] = zip(a[j], a[i]).map { $0 - factor * $1 }
      }
    }
    return a.map { $0[groups] }
  }

  @Test(arguments: [(4, true, false), (4, false, false), (3, true, true)])
  func aRefitFindsTheLeastSquares(bits: Int, isSymmetric: Bool, ordered: Bool) throws {
    let recipe = Self.recipe {
      ($0.bits, $0.isSymmetric, $0.descendingActivation) = (bits, isSymmetric, ordered)
    }
    let hessian = try Self.prepared(recipe)
    let tensor = try Solver(recipe: recipe).solve(Self.matrix, hessian: hessian, module: "m").tensor
    let refined = Refinement(hessian, heldOut: nil, rounds: 0).refined(tensor, weights: Self.matrix)
    let (before, after) = (tensor.unpacked(), refined.tensor.unpacked())
    #expect(before.codes == after.codes && before.zeros == after.zeros)
    #expect(before.groupIndex == after.groupIndex)
    #expect(refined.report.rows == [Self.out])
    var changed = 0
    for n in 0..<Self.out {
      let scales = (0..<before.groupCount).map { group in
        Double(HalfPrecision.value(of: after.scales[group * Self.out + n]))
      }
      let best = Self.bestScales(before, row: n)
      let isBest = zip(scales, best).allSatisfy { abs($0 - $1) < 1e-3 * abs($1) }
      let isAsBefore = (0..<before.groupCount).allSatisfy {
        before.scales[$0 * Self.out + n] == after.scales[$0 * Self.out + n]
      }
      #expect(isBest || isAsBefore, "row \(n)")
      if isBest { changed += 1 }
    }
    #expect(changed >= Self.out - 2)
  }

  @Test(arguments: [2, 3, 4, 8], [true, false])
  func everyRoundLowersTheLossOfEveryRow(bits: Int, isSymmetric: Bool) throws {
    for (groupSize, ordered, isStatic) in [
      (32, false, false), (64, true, true), (32, true, false), (-1, true, false),
    ] {
      let recipe = Self.recipe {
        ($0.bits, $0.isSymmetric, $0.groupSize) = (bits, isSymmetric, groupSize)
        ($0.descendingActivation, $0.staticGroups) = (ordered, isStatic)
      }
      let hessian = try Self.prepared(recipe)
      let tensor = try Solver(recipe: recipe).solve(Self.matrix, hessian: hessian, module: "m").tensor
      var last = Self.losses(tensor.unpacked())
      let first = last.reduce(0, +)
      var reports: [RefinementReport] = []
      for rounds in 0...3 {
        let (refined, report) = Refinement(hessian, heldOut: nil, rounds: rounds).refined(
          tensor, weights: Self.matrix)
        let found = Self.losses(refined.unpacked())
        for n in 0..<Self.out { #expect(found[n] <= last[n] * (1 + 1e-5), "row \(n), \(rounds) rounds") }
        #expect(abs(report.lossBefore - first / 2) < 1e-3 * first)
        #expect(abs(report.lossAfter - found.reduce(0, +) / 2) < 1e-3 * first)
        #expect(report.rows.reduce(0, +) == Self.out)
        #expect(refined.layout.isPermuted == tensor.layout.isPermuted)
        last = found
        reports.append(report)
      }
      #expect(last.reduce(0, +) < 0.999 * first)
      // A row may be where no single code can move.
      #expect(try #require(reports.last).rows[0] < Self.out)
    }
  }

  @Test(arguments: [
    (128, true, false, false), (32, false, true, false), (32, true, true, true), (-1, true, false, false),
  ])
  func threadsPartsAndInstructionSetsDoNotChangeABit(
    groupSize: Int, isSymmetric: Bool, ordered: Bool, isStatic: Bool
  ) throws {
    let recipe = Self.recipe {
      ($0.groupSize, $0.isSymmetric) = (groupSize, isSymmetric)
      ($0.descendingActivation, $0.staticGroups) = (ordered, isStatic)
    }
    func refined(_ isa: InstructionSet, threads: Int, outputsOfPart: Int) throws -> IntPanelTensor {
      let pool = WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa)))
      let hessian = try Self.prepared(recipe, pool: pool)
      let tensor = try Solver(recipe: recipe, pool: pool).solve(
        Self.matrix, hessian: hessian, module: "m"
      ).tensor
      return Refinement(
        hessian, heldOut: try Self.heldOut(pool), rounds: 2, outputsOfPart: outputsOfPart, pool: pool
      )
      .refined(tensor, weights: Self.matrix).tensor
    }
    let expected = try refined(.scalar, threads: 1, outputsOfPart: 1024)
    for isa in InstructionSet.runnable {
      for threads in 1...3 {
        #expect(try refined(isa, threads: threads, outputsOfPart: 1024) == expected, "\(isa), \(threads)")
      }
      #expect(try refined(isa, threads: 2, outputsOfPart: 16) == expected, "\(isa), parts")
    }
  }

  /// Of other inputs than H.
  private static func heldOut(_ pool: WorkerPool) throws -> Hessian {
    var generator = SplitMix64(seed: 15)
    let x = AlignedBuffer((0..<200 * inputs).map { _ in Float.random(in: -1...1, using: &generator) })
    let hessian = Hessian(order: inputs)
    hessian.add(x.pointer, rows: 200, pool: pool)
    hessian.finish(sequences: 1, pool: pool)
    return hessian
  }

  /// Codes that are rounded to nearest are the best where channels do not depend on each other, whatever H says.
  @Test func windowsThatAreKeptOutStopDescents() throws {
    let recipe = Self.recipe()
    let hessian = try Self.prepared(recipe)
    let tensor = try Solver(recipe: Self.recipe { $0.method = .rtn }).solve(
      Self.matrix, hessian: nil, module: "m"
    ).tensor
    let identity = Hessian(order: Self.inputs)
    let x = AlignedBuffer((0..<Self.inputs * Self.inputs).map { Float($0 % (Self.inputs + 1) == 0 ? 1 : 0) })
    identity.add(x.pointer, rows: Self.inputs, pool: .shared)
    identity.finish(sequences: 1, pool: .shared)
    let judged = Refinement(hessian, heldOut: identity, rounds: 4).refined(tensor, weights: Self.matrix)
    let own = Refinement(hessian, heldOut: nil, rounds: 4).refined(tensor, weights: Self.matrix)
    let codes = tensor.unpacked().codes
    func moved(_ refined: IntPanelTensor) -> Int { zip(refined.unpacked().codes, codes).count { $0 != $1 } }
    // Scales that are fitted first leave little to gain for a row here and there.
    #expect(judged.report.rows[0] > Self.out * 3 / 4 && own.report.rows[0] == 0)
    #expect(5 * moved(judged.tensor) < moved(own.tensor))
    #expect(judged.report.lossAfter <= judged.report.lossBefore)
  }

  @Test func oneWindowInEightIsKeptOut() {
    #expect(
      (1...24).map(HeldOutWindows.count(of:)) == [0] + [Int](repeating: 1, count: 14)
        + [Int](repeating: 2, count: 8) + [3])
    #expect((0..<16).filter { HeldOutWindows.contains($0, of: 16) } == [7, 15])
    #expect((0..<5).filter { HeldOutWindows.contains($0, of: 5) } == [4])
    #expect(!HeldOutWindows.contains(0, of: 1))
  }

  @Test func reportsComeBackAsTheyWere() throws {
    let report = RefinementReport(rows: [3, 4], lossBefore: 2.5, lossAfter: 1.25)
    #expect(try RefinementReport(JSONFields(report.json, document: "r")) == report)
  }

  @Test func recipesNameWhatDiffersFromTheDefault() throws {
    var recipe = QuantizationRecipe()
    let plain = recipe.json.objectValue?.keys
    #expect(plain?.contains("refinement_rounds") == false && plain?.contains("error_propagation") == false)
    recipe.refinementRounds = 2
    recipe.propagatesErrors = true
    #expect(recipe.json["refinement_rounds"]?.intValue == 2)
    #expect(recipe.json["error_propagation"]?.boolValue == true)
    try recipe.validate()
    for edit: (inout QuantizationRecipe) -> Void in [
      { $0.refinementRounds = -1 }, { $0.refinementRounds = 101 }, { $0.trueSequential = false },
      { $0.method = .rtn },
    ] {
      var other = recipe
      edit(&other)
      #expect(throws: QuantizationError.self) { try other.validate() }
    }
  }
}
