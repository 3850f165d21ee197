import Compute
import Foundation
import JSON
import TestSupport
import Testing
import Training
import Tuning

@Suite struct JobOptimizerTests {
  private static func golden() throws -> JSONValue {
    try JSONValue.parse(file: Fixture.path("golden/optimizer.json"))
  }

  private static func floats(_ json: JSONValue?) -> [Float] {
    (json?.arrayValue ?? []).compactMap { $0.doubleValue.map { Float($0) } }
  }

  /// torch fuses some multiplications and additions, and adds squares of gradients in fp32: a few units in the last place.
  @Test func adamWGivesTorchsNumbers() throws {
    for run in try #require(Self.golden()["adamw"]?.arrayValue) {
      let betas = run["betas"]?.arrayValue ?? []
      let parameters = (run["shapes"]?.arrayValue ?? []).enumerated().map { index, shape in
        Parameter(name: "p\(index)", shape: (shape.arrayValue ?? []).compactMap(\.intValue))
      }
      for (index, parameter) in parameters.enumerated() {
        let start = Self.floats(run["start"]?.arrayValue?[index])
        for (place, value) in start.enumerated() { parameter.values[place] = value }
      }
      let optimizer = AdamW(
        parameters,
        settings: AdamW.Settings(
          beta1: try #require(betas[0].doubleValue), beta2: try #require(betas[1].doubleValue),
          epsilon: try #require(run["eps"]?.doubleValue),
          weightDecay: try #require(run["weight_decay"]?.doubleValue)))
      let limit = try #require(run["norm"]?.doubleValue)
      for (step, gradients) in (run["gradients"]?.arrayValue ?? []).enumerated() {
        for (index, parameter) in parameters.enumerated() {
          for (place, value) in Self.floats(gradients.arrayValue?[index]).enumerated() {
            parameter.gradient[place] = value
          }
        }
        let norm = GradientNorm.of(parameters)
        let expected = try #require(run["norms"]?.arrayValue?[step].doubleValue)
        #expect(abs(norm - expected) <= 1e-6 * expected)
        optimizer.step(
          learningRate: try #require(run["lr"]?.doubleValue),
          gradientScale: GradientNorm.scale(norm: norm, limit: limit))
      }
      for (index, parameter) in parameters.enumerated() {
        for (key, values) in [
          ("values", parameter.values), ("exp_avg", optimizer.firstMoments[index]),
          ("exp_avg_sq", optimizer.secondMoments[index]),
        ] {
          let expected = Self.floats(run[key]?.arrayValue?[index])
          #expect(expected.count == values.count)
          for (found, expected) in zip(values.array, expected) {
            #expect(abs(found - expected) <= 2e-6 * max(abs(expected), 1e-3), "\(key) \(index)")
          }
        }
      }
    }
  }

  @Test func threadsDoNotChangeABit() {
    func values(_ threads: Int) -> [UInt32] {
      var random = SplitMix64(seed: 360)
      let pool = WorkerPool(threads: threads)
      let parameter = Parameter(name: "p", shape: [300, 333])
      let optimizer = AdamW([parameter], settings: .init(weightDecay: 0.1), pool: pool)
      var norms: [UInt32] = []
      for _ in 0..<3 {
        for index in 0..<parameter.count {
          parameter.gradient[index] = Float.random(in: -1...1, using: &random)
        }
        let norm = GradientNorm.of([parameter], pool: pool)
        norms.append(Float(norm).bitPattern)
        optimizer.step(learningRate: 1e-3, gradientScale: GradientNorm.scale(norm: norm, limit: 1))
      }
      return parameter.values.array.map(\.bitPattern) + norms
    }
    #expect(values(1) == values(3))
  }

  @Test func schedulesGiveTransformersNumbers() throws {
    for schedule in try #require(Self.golden()["schedules"]?.arrayValue) {
      let shape = try #require(schedule["shape"]?.stringValue.flatMap(LearningRateSchedule.Shape.init))
      let found = LearningRateSchedule(
        shape: shape, peak: try #require(schedule["peak"]?.doubleValue),
        warmUpSteps: try #require(schedule["warm_up_steps"]?.intValue),
        totalSteps: try #require(schedule["total_steps"]?.intValue))
      for (step, expected) in (schedule["rates"]?.arrayValue ?? []).enumerated() {
        let expected = try #require(expected.doubleValue)
        #expect(abs(found.rate(ofStep: step) - expected) <= 1e-14 * 5e-6, "\(shape) \(step)")
      }
    }
  }

  @Test func cosineIsTheLibrarysWithinTheLastPlaces() {
    for step in 0...1000 {
      let x = Double(step) / 1000
      #expect(abs(LearningRateSchedule.cosineOfPi(x) - cos(.pi * x)) <= 5e-16)
    }
  }

  @Test func lengthsFollowTransformers() {
    var recipe = TuningRecipe()
    recipe.accumulation = 4
    recipe.epochs = 2.5
    recipe.warmUpRatio = 0.03
    let length = TuningLength(recipe, batchesPerEpoch: 10)
    #expect(length.stepsPerEpoch == 3)
    #expect(length.totalSteps == 8)
    #expect(length.warmUpSteps == 1)
    #expect(length.place(ofStep: 7) == (2, 1))
    recipe.steps = 5
    recipe.warmUpRatio = 0
    #expect(TuningLength(recipe, batchesPerEpoch: 10).totalSteps == 5)
    #expect(TuningLength(recipe, batchesPerEpoch: 10).warmUpSteps == 0)
  }

  @Test func presetOfTheVendor() {
    let recipe = TuningRecipe(preset: .zhinao)
    #expect(recipe.learningRate == 5e-6 && recipe.epochs == 3 && recipe.batchSize == 4)
    #expect(recipe.optimizer == AdamW.Settings(beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1))
    #expect(recipe.schedule == .constant && recipe.warmUpRatio == 0.01 && recipe.seed == 1024)
    #expect(TuningRecipe.sequenceLength(.zhinao) == 4096)
  }
}
