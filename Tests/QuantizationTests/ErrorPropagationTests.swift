import Architecture
import Compute
import Foundation
import Models
import Quantization
import Tensors
import TestSupport
import Testing

/// Weights that make up for what their inputs have lost.
@Suite struct ErrorPropagationTests {
  private static let order = RefinementTests.inputs

  private static func rows(_ matrix: WeightMatrix) -> [Float] { matrix.rowMajorFloats().array }

  /// In double precision: the row of W′ that solves (W′ − W)·(H + d) = W·C.
  private static func target(_ c: [[Double]], row n: Int) -> [Double] {
    let w = RefinementTests.w
    var right = (0..<order).map { j in
      (0..<order).reduce(0.0) { $0 + Double(w[n * order + $1]) * c[$1][j] }
    }
    var h = RefinementTests.damped
    for i in 0..<order {
      for j in i + 1..<max(order, i + 1) where h[j][i] != 0 {
        let factor = h[j][i] / h[i][i]
        for k in i..<order { h[j][k] -= factor * h[i][k] }
        right[j] -= factor * right[i]
      }
    }
    for i in (0..<order).reversed() {
      for j in i + 1..<max(order, i + 1) { right[i] -= h[i][j] * right[j] }
      right[i] /= h[i][i]
    }
    return (0..<order).map { Double(w[n * order + $0]) + right[$0] }
  }

  @Test(arguments: [false, true])
  func aKnownDriftGivesTheClosedForm(ordered: Bool) throws {
    let recipe = QuantizationRecipe(descendingActivation: ordered)
    let (order, rows) = (Self.order, RefinementTests.tokens)
    var generator = SplitMix64(seed: 21)
    let x = RefinementTests.x
    let differences = AlignedBuffer(
      (0..<rows * order).map { x[$0] * 0.1 + Float.random(in: -0.2...0.2, using: &generator) })
    var c = [[Double]](repeating: [Double](repeating: 0, count: order), count: order)
    for t in 0..<rows {
      let line = (0..<order).map { Double(x[t * order + $0]) }
      for i in 0..<order {
        let difference = Double(differences[t * order + i]) / 2
        for j in 0..<order { c[i][j] += difference * line[j] }
      }
    }
    var found: [[Float]] = []
    for isa in InstructionSet.runnable {
      for threads in 1...3 {
        let pool = WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa)))
        let drift = InputDrift(order: order)
        // In two parts, neither a whole number of blocks.
        drift.add(differences: differences.pointer, x: x.pointer, rows: 100, pool: pool)
        drift.add(
          differences: differences.pointer + 100 * order, x: x.pointer + 100 * order, rows: rows - 100,
          pool: pool)
        drift.scale(by: 0.5, pool: pool)
        let hessian = try RefinementTests.prepared(recipe, pool: pool)
        found.append(Self.rows(drift.target(of: RefinementTests.matrix, hessian, pool: pool)))
      }
    }
    #expect(found.allSatisfy { $0 == found[0] })
    for n in [0, 17, 36] {
      for (k, expected) in Self.target(c, row: n).enumerated() {
        #expect(abs(Double(found[0][n * order + k]) - expected) < 2e-4, "\(n), \(k)")
      }
    }
  }

  @Test func inputsWithoutDriftChangeNothing() throws {
    let hessian = try RefinementTests.prepared(QuantizationRecipe())
    let drift = InputDrift(order: Self.order)
    let (x, zeros) = (
      RefinementTests.x, AlignedBuffer<Float>(zeros: RefinementTests.tokens * RefinementTests.inputs)
    )
    drift.add(differences: zeros.pointer, x: x.pointer, rows: RefinementTests.tokens)
    let target = drift.target(of: RefinementTests.matrix, hessian)
    #expect(Self.rows(target) == RefinementTests.w.array)
  }

  /// What chance explains in one half of the text does not help in the other; what the same text explains is taken as it is.
  @Test func windowsThatAreKeptOutJudge() throws {
    let (order, rows) = (Self.order, RefinementTests.tokens)
    var generator = SplitMix64(seed: 22)
    let x = RefinementTests.x
    func drift(_ isTrue: Bool) -> InputDrift {
      let differences = AlignedBuffer(
        (0..<rows * order).map {
          (isTrue ? 0.1 * x[$0] : 0) + Float.random(in: -0.5...0.5, using: &generator)
        })
      let drift = InputDrift(order: order)
      drift.add(differences: differences.pointer, x: x.pointer, rows: rows)
      drift.scale(by: 0.5)
      return drift
    }
    let hessian = Hessian(order: order)
    hessian.add(x.pointer, rows: rows, pool: .shared)
    hessian.finish(sequences: 4, pool: .shared)
    let prepared = try RefinementTests.prepared(QuantizationRecipe(descendingActivation: true))
    func change(_ drift: InputDrift, judge: InputDrift?) -> Double {
      let target = Self.rows(
        drift.target(
          of: RefinementTests.matrix, prepared, judge: judge.map { InputDrift.Judge($0, hessian) }))
      return zip(target, RefinementTests.w.array).reduce(0) { $0 + Double(abs($1.0 - $1.1)) }
    }
    let (chance, other) = (drift(false), drift(false))
    let (real, again) = (drift(true), drift(true))
    #expect(change(chance, judge: chance) == change(chance, judge: nil))
    #expect(change(chance, judge: other) < 0.4 * change(chance, judge: nil))
    #expect(change(real, judge: again) > 0.5 * change(real, judge: nil))
    #expect(change(real, judge: InputDrift(order: order)) == 0)
  }

  @Test func weightsThatAreNotFiniteAreLeftToTheSolver() throws {
    let hessian = try RefinementTests.prepared(QuantizationRecipe())
    let w = RefinementTests.w
    w[5 * Self.order + 3] = .nan
    let matrix = SolverGoldens.matrix(w, [RefinementTests.out, Self.order])
    let target = InputDrift(order: Self.order).target(of: matrix, hessian)
    let error = #expect(throws: QuantizationError.self) {
      try Solver(recipe: QuantizationRecipe()).solve(target, hessian: hessian, module: "m")
    }
    guard case .weightNotFinite("m", 5, 3, _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  private static func recipe(_ edit: (inout QuantizationRecipe) -> Void = { _ in }) -> QuantizationRecipe {
    var recipe = QuantizationRecipe(groupSize: 32, refinementRounds: 1)
    recipe.apply(.balanced)
    recipe.propagatesErrors = true
    edit(&recipe)
    return recipe
  }

  /// The first stage of the first layer sees what the float model sees.
  @Test func theFirstModuleIsAsWithoutPropagation() throws {
    let folder = try TemporaryFolder()
    func weights(_ propagates: Bool) throws -> [Data] {
      let quantizer = try PipelineTests.job(Self.recipe { $0.propagatesErrors = propagates })
      let path = folder.file("p\(propagates)")
      try quantizer.run(into: PipelineTests.store(quantizer, path))
      return try PipelineTests.weights(path)
    }
    let (with, without) = (try weights(true), try weights(false))
    #expect(with.count == 10 && with[0] == without[0])
    for module in 1..<10 { #expect(with[module] != without[module], "\(module)") }
  }

  /// With Fisher weights, modules that share an input have sums of their own. Each aims at the float model: weights move a little.
  @Test func modulesThatShareAnInputKeepTheirWeights() throws {
    let folder = try TemporaryFolder()
    let quantizer = try PipelineTests.job(
      Self.recipe {
        $0.refinementRounds = 0
        $0.apply(.best)
      })
    let store = try PipelineTests.store(quantizer, folder.file("fisher"))
    try quantizer.run(into: store)
    let builder = quantizer.model.builder()
    for index in 0..<2 {
      let layer = try builder.layer(index)
      for kind in quantizer.index.stages.flatMap(\.modules) {
        let module = ModuleID(kind, layer: index)
        let tensor = try store.tensor(
          quantizer.index.name(of: module), layer: index, shape: quantizer.index.shape(of: module))
        let (w, q) = (Self.rows(layer[kind].weight), Self.rows(.intPanels(tensor.matrix)))
        let lost = zip(w, q).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
        let whole = w.reduce(0.0) { $0 + Double($1 * $1) }
        #expect(lost < 0.05 * whole, "\(module): \(lost / whole)")
      }
    }
  }

  @Test func threadsDoNotChangeABit() throws {
    let folder = try TemporaryFolder()
    var results: [[Data]] = []
    for threads in 1...3 {
      let quantizer = try PipelineTests.job(Self.recipe(), threads: threads)
      let path = folder.file("t\(threads)")
      try quantizer.run(into: PipelineTests.store(quantizer, path))
      results.append(try PipelineTests.weights(path))
    }
    #expect(results[0] == results[1] && results[0] == results[2])
  }

  /// The float model's activations are kept beside the others, or computed again.
  @Test(arguments: FloatArithmetic.allCases, [true, false])
  func aRunThatDiedContinuesToTheSameBits(calibrationArithmetic: FloatArithmetic, keepsHidden: Bool) throws {
    let folder = try TemporaryFolder()
    let quantizer = try PipelineTests.job(Self.recipe { $0.calibrationArithmetic = calibrationArithmetic })
    let (whole, part) = (folder.file("whole"), folder.file("part"))
    try quantizer.run(into: PipelineTests.store(quantizer, whole))
    try quantizer.run(
      into: LayerStore(
        path: part, identity: quantizer.identity(), shareForHidden: keepsHidden ? .infinity : 0))
    try FileManager.default.removeItem(atPath: part + "/layer-1.zhinao")
    #expect(FileManager.default.fileExists(atPath: part + "/hidden-1.bin") == keepsHidden)
    let again = try PipelineTests.store(quantizer, part)
    #expect(again.finishedLayers == 1)
    try quantizer.run(into: again)
    #expect(try PipelineTests.weights(part) == PipelineTests.weights(whole))
    #expect(try again.reports(layer: 1).allSatisfy { $0.refinement != nil })
  }

  @Test func thePlanCountsTheFloatStream() throws {
    let plain = try PipelineTests.job(Self.recipe { ($0.propagatesErrors, $0.refinementRounds) = (false, 0) })
      .plan()
    let propagating = try PipelineTests.job(Self.recipe { $0.refinementRounds = 0 }).plan()
    let refining = try PipelineTests.job(Self.recipe { $0.propagatesErrors = false }).plan()
    // Twelve windows of 128 tokens, 128 + 384 floats each.
    #expect(propagating.peakMemoryBytes > plain.peakMemoryBytes + 12 * 128 * 512 * 4)
    #expect(refining.peakMemoryBytes > plain.peakMemoryBytes + 384 * 384 * 4)
  }
}
