import Architecture
import Compute
import Foundation
import Models
import Tensors
import TestSupport
import Testing
import Training
import Transformer

/// What does not change a gradient, and what does.
@Suite struct TrainingPassTests {
  private let path = Fixture.path("tiny-zhinao-gqa")

  private func rows(_ lengths: [Int] = [37, 5, 64]) -> [TrainingRow] {
    var generator = SplitMix64(seed: 7)
    return lengths.map { length in
      let tokens = (0..<length).map { _ in Int.random(in: 0..<2000, using: &generator) }
      return TrainingRow(tokens: tokens, labels: tokens.map { $0 % 3 == 0 ? nil : $0 })
    }
  }

  private func pass(
    _ options: LoRAOptions, settings: TrainingSettings = .init(), pool: WorkerPool = .shared,
    path: String? = nil
  ) throws -> TrainingPass {
    let model = try OpenedModel(path: path ?? self.path)
    let adapter = try TrainedAdapter(builder: model.builder(), options: options)
    // B is zero at first, and with it the gradient of A.
    var generator = SplitMix64(seed: 3)
    for parameter in adapter.parameters where parameter.name.contains("lora_B") {
      for index in 0..<parameter.count {
        parameter.values[index] = Float.random(in: -0.1...0.1, using: &generator)
      }
    }
    return try TrainingPass(
      builder: model.builder(), adapter: adapter, settings: settings, tokens: 128, longest: 64,
      residentBytes: model.store.residentBytes, pool: pool)
  }

  /// The loss and every gradient, as bits.
  private func bits(_ pass: TrainingPass, _ rows: [TrainingRow], step: Int = 0, item: Int = 0) throws
    -> [UInt64]
  {
    for parameter in pass.adapter.parameters {
      parameter.gradient.pointer.update(repeating: 0, count: parameter.count)
    }
    let loss = try pass.accumulate(rows, divisor: 10, step: step, item: item)
    return [loss.sum.bitPattern]
      + pass.adapter.parameters.flatMap { $0.gradient.array.map { UInt64($0.bitPattern) } }
  }

  @Test func threadsInstructionSetsAndMemoryDoNotChangeABit() throws {
    let options = LoRAOptions(rank: 4, dropout: 0.25, savedModules: ["norm"])
    let expected = try bits(pass(options), rows())
    for threads in 1...3 {
      let pool = WorkerPool(threads: threads)
      #expect(try bits(pass(options, pool: pool), rows()) == expected, "\(threads) threads")
    }
    for isa in InstructionSet.runnable {
      let pool = WorkerPool(threads: 2, kernels: try #require(Kernels(for: isa)))
      #expect(try bits(pass(options, pool: pool), rows()) == expected, "\(isa)")
    }
    let small = try pass(options, settings: .init(memoryLimit: 1))
    #expect(small.plan.keptBlocks == 0 && small.plan.releasesWeights)
    #expect(try bits(small, rows()) == expected)
    let large = try pass(options)
    #expect(large.plan.keptBlocks == large.plan.blockCount - 1)
    let folder = try TemporaryFolder()
    #expect(try bits(pass(options, settings: .init(scratch: folder.path)), rows()) == expected)
  }

  /// Rows in passes of their own have the gradients of all rows together, but for the order of sums.
  @Test func passesAddUp() throws {
    for dropout in [0, 0.5] {
      let training = try pass(LoRAOptions(rank: 4, dropout: dropout))
      let all = rows()
      let together = try bits(training, all, step: 3, item: 0)
      for parameter in training.adapter.parameters {
        parameter.gradient.pointer.update(repeating: 0, count: parameter.count)
      }
      var loss = LossSum()
      for (item, row) in all.enumerated() {
        loss += try training.accumulate([row], divisor: 10, step: 3, item: item)
      }
      #expect(abs(loss.sum - Double(bitPattern: together[0])) < 1e-6 * loss.sum)
      let found = training.adapter.parameters.flatMap(\.gradient.array)
      let expected = together.dropFirst().map { Float(bitPattern: UInt32($0)) }
      let largest = expected.map(abs).max() ?? 0
      #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 1e-5 * largest })
    }
  }

  /// Another step has another mask; the same has the same.
  @Test func dropoutFollowsItsSeed() throws {
    let training = try pass(LoRAOptions(rank: 4, dropout: 0.3))
    let first = try bits(training, rows(), step: 0)
    #expect(try bits(training, rows(), step: 0) == first)
    #expect(try bits(training, rows(), step: 1) != first)
    let (with, without) = (try pass(LoRAOptions(rank: 4, dropout: 0.3)), try pass(LoRAOptions(rank: 4)))
    #expect(try with.loss(rows()) == without.loss(rows()))
  }

  /// A change of one parameter changes the loss by its gradient, for A, B and a norm, of fused and of split names.
  @Test(arguments: [[], ["q_proj", "k_proj", "v_proj", "down_proj"]])
  func gradientsAreSlopes(targets: [String]) throws {
    let training = try pass(LoRAOptions(rank: 4, targets: targets, savedModules: ["norm"]))
    let data = rows()
    _ = try bits(training, data)
    func loss() throws -> Double { try training.loss(data).sum / 10 }
    for parameter in training.adapter.parameters
    where parameter.name.contains("layers.1") || parameter.shape.count == 1 {
      let place = (0..<parameter.count).max { abs(parameter.gradient[$0]) < abs(parameter.gradient[$1]) } ?? 0
      let (value, slope) = (parameter.values[place], Double(parameter.gradient[place]))
      let h: Float = 2e-3
      parameter.values[place] = value + h
      let above = try loss()
      parameter.values[place] = value - h
      let below = try loss()
      parameter.values[place] = value
      #expect(abs((above - below) / Double(2 * h) - slope) < 0.02 * abs(slope) + 1e-4, "\(parameter.name)")
    }
  }

  @Test func splitNamesAreRowsOfTheFusedMatrix() throws {
    let model = try OpenedModel(path: path)
    let c = model.decoderConfiguration
    let (fused, split) = (
      try pass(LoRAOptions(rank: 4, targets: ["qkv_proj"])),
      try pass(LoRAOptions(rank: 4, targets: ["q_proj", "k_proj", "v_proj"]))
    )
    #expect(split.adapter.parameters.count == 3 * fused.adapter.parameters.count)
    for (place, kind) in ["q_proj", "k_proj", "v_proj"].enumerated() {
      let part = split.adapter.parameters[2 * place + 1]
      #expect(part.name == "base_model.model.model.layers.0.self_attn.\(kind).lora_B.weight")
      #expect(part.shape == [place == 0 ? c.attentionWidth : c.kvHeads * c.headDim, 4])
    }
  }

  @Test func whatIsNotThereIsRefused() throws {
    func reason(_ options: LoRAOptions) throws -> TrainingTargetError.Reason? {
      do { _ = try pass(options) } catch let error as TrainingTargetError { return error.reason }
      return nil
    }
    guard case .unknownTarget("wq", let known) = try reason(LoRAOptions(targets: ["wq"])) else {
      Issue.record("an unknown target was accepted")
      return
    }
    #expect(known.contains("qkv_proj") && known.contains("q_proj"))
    guard case .unknownSavedModule("lm_head", _) = try reason(LoRAOptions(savedModules: ["lm_head"])) else {
      Issue.record("a head was accepted")
      return
    }
    guard case .overlappingTargets = try reason(LoRAOptions(targets: ["qkv_proj", "v_proj"])) else {
      Issue.record("overlapping targets were accepted")
      return
    }
  }

  /// Kaiming-uniform with √5 is a uniform distribution between ±1/√inputs.
  @Test func valuesBeginAsInPEFT() throws {
    let model = try OpenedModel(path: path)
    let adapter = try TrainedAdapter(builder: model.builder(), options: LoRAOptions(rank: 64))
    for parameter in adapter.parameters {
      let values = parameter.values.array
      if parameter.name.contains("lora_B") {
        #expect(values.allSatisfy { $0 == 0 })
      } else {
        let bound = 1 / Float(parameter.shape[1]).squareRoot()
        let variance = values.reduce(0) { $0 + $1 * $1 } / Float(values.count)
        #expect(values.allSatisfy { abs($0) <= bound })
        #expect(abs(variance / (bound * bound / 3) - 1) < 0.1)
      }
    }
    let again = try TrainedAdapter(builder: model.builder(), options: LoRAOptions(rank: 64))
    #expect(zip(adapter.parameters, again.parameters).allSatisfy { $0.values.array == $1.values.array })
  }
}
