import Architecture
import Calibration
import Compute
import Distribution
import Foundation
import Models
import Quantization
import TestSupport
import Testing

/// Ranks that are threads of this process quantize to the bits of one.
@Suite struct RankTests {
  static let shards = 5

  static func quantizer(
    _ recipe: QuantizationRecipe, _ communicator: any Communicator, model: String = "tiny-zhinao-gqa"
  ) throws -> ModelQuantizer {
    let opened = try OpenedModel(path: Fixture.path(model), accepting: .all)
    let calibration = try CalibrationSet.load(
      files: [CalibrationFile(Fixture.tinyZhinao + "/calibration.jsonl")], tokenizer: opened.tokenizer(),
      template: nil, vocabularySize: opened.configuration.vocabularySize,
      options: CalibrationOptions(sequenceLength: 96, samples: 12, encoderSamples: 12))
    return try ModelQuantizer(
      model: opened, contents: ModelContents(opened), recipe: recipe, calibration: calibration,
      communicator: communicator, pool: WorkerPool(threads: 1))
  }

  static func recipe(_ change: (inout QuantizationRecipe) -> Void) -> QuantizationRecipe {
    var recipe = QuantizationRecipe(groupSize: 32, shards: shards)
    change(&recipe)
    return recipe
  }

  static let recipes: [(name: String, recipe: QuantizationRecipe)] = [
    ("autogptq", recipe { $0.apply(.autogptq) }), ("balanced", recipe { $0.apply(.balanced) }),
    ("best", recipe { $0.apply(.best) }),
    (
      "best in blocks",
      recipe {
        $0.apply(.best)
        $0.outputBlock = 48
      }
    ),
    (
      "fisher",
      recipe {
        $0.apply(.balanced)
        $0.tokenWeights = .fisher
      }
    ),
    (
      "asymmetric",
      recipe {
        $0.apply(.balanced)
        $0.isSymmetric = false
      }
    ),
    ("act-order", recipe { $0.descendingActivation = true }),
    (
      "errors and refinement",
      recipe {
        $0.apply(.balanced)
        $0.propagatesErrors = true
        $0.refinementRounds = 2
      }
    ),
    ("all at once", recipe { $0.trueSequential = false }),
    ("round to nearest", recipe { $0.method = .rtn }),
  ]

  @Test(arguments: recipes.indices, [2, 3, 5])
  func ranksDoNotChangeABit(index: Int, ranks: Int) throws {
    let recipe = Self.recipes[index].recipe
    let folder = try TemporaryFolder()
    let alone = try Self.quantizer(recipe, SingleProcess())
    try alone.run(into: PipelineTests.store(alone, folder.file("alone")))
    let path = folder.file("ranks")
    _ = try LocalRank.run(ranks) { communicator in
      let quantizer = try Self.quantizer(recipe, communicator)
      try quantizer.run(into: communicator.isRoot ? PipelineTests.store(quantizer, path) : nil)
    }
    #expect(try PipelineTests.weights(path) == PipelineTests.weights(folder.file("alone")))
    #expect(try Self.losses(path) == Self.losses(folder.file("alone")))
  }

  private static func losses(_ path: String) throws -> [String] {
    try (0..<2).map { layer in
      let file = try Data(contentsOf: URL(fileURLWithPath: "\(path)/layer-\(layer).zhinao"))
      // Reports are JSON; what tells runs apart in them is the time.
      let text = String(decoding: file, as: UTF8.self)
      return text.matches(of: #/"(?:avg_loss|sum_losses|loss_before|loss_after)":[^,}]*/#)
        .map { String($0.output) }.joined(separator: " ")
    }
  }

  /// Killed after the first layer, with activations kept or not, and continued by another number of ranks.
  @Test(arguments: [(2, 3), (3, 1), (1, 4)], [true, false])
  func anyNumberOfRanksContinues(_ ranks: (first: Int, then: Int), keepsHidden: Bool) throws {
    for recipe in [Self.recipes[1].recipe, Self.recipes[2].recipe] {
      let folder = try TemporaryFolder()
      let alone = try Self.quantizer(recipe, SingleProcess())
      try alone.run(into: PipelineTests.store(alone, folder.file("alone")))
      let path = folder.file("ranks")
      func run(_ count: Int) throws {
        _ = try LocalRank.run(count) { communicator in
          let quantizer = try Self.quantizer(recipe, communicator)
          try quantizer.run(
            into: communicator.isRoot
              ? LayerStore(
                path: path, identity: quantizer.identity(), shareForHidden: keepsHidden ? .infinity : 0) : nil
          )
        }
      }
      try run(ranks.first)
      let layer = path + "/layer-1.zhinao"
      #expect(FileManager.default.fileExists(atPath: path + "/hidden-1.bin") == keepsHidden)
      try FileManager.default.removeItem(atPath: layer)
      try run(ranks.then)
      #expect(try PipelineTests.weights(path) == PipelineTests.weights(folder.file("alone")))
    }
  }

  /// Sensitivities, rounds and the file, for a number of bits and for a divergence.
  @Test(arguments: [PrecisionTarget.Goal.bits(4.5), .divergence(0.02)], [2, 3])
  func bitsAreChosenAsByOneProcess(goal: PrecisionTarget.Goal, ranks: Int) throws {
    let folder = try TemporaryFolder()
    @Sendable func run(_ communicator: any Communicator, _ path: String) throws -> QuantizationJob.Result? {
      var recipe = QuantizationRecipe(groupSize: 32, shards: 3)
      recipe.apply(.balanced)
      return try QuantizationJob(
        modelPath: Fixture.path("tiny-zhinao-gqa"), recipe: recipe,
        precision: PrecisionTarget(
          goal: goal, candidates: [2, 4, 8].map { ModuleSettings(bits: $0, groupSize: 32) }),
        calibrationFiles: [CalibrationFile(Fixture.tinyZhinao + "/calibration.jsonl")],
        calibrationOptions: CalibrationOptions(sequenceLength: 64, samples: 12),
        outputs: QuantizationJob.Outputs(packed: path),
        tool: QuantizationJob.ToolIdentity(generator: "t", version: "1"), communicator: communicator
      ).runOnRanks()
    }
    let alone = try run(SingleProcess(), folder.file("alone"))
    let path = folder.file("ranks")
    let found = try LocalRank.run(ranks) { try run($0, path)?.report.precision?.rounds }
    #expect(found[0] == alone?.report.precision?.rounds)
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: path))
        == Data(contentsOf: URL(fileURLWithPath: folder.file("alone"))))
    #expect(!FileManager.default.fileExists(atPath: path + ".partial"))
  }

  @Test func encodersToo() throws {
    let recipe = Self.recipe { $0.apply(.balanced) }.forEncoder()
    let folder = try TemporaryFolder()
    @Sendable func run(_ quantizer: ModelQuantizer, _ path: String, isRoot: Bool) throws {
      try quantizer.run(into: isRoot ? PipelineTests.store(quantizer, path) : nil)
    }
    try run(
      Self.quantizer(recipe, SingleProcess(), model: "tiny-bert"), folder.file("alone"), isRoot: true)
    let path = folder.file("ranks")
    _ = try LocalRank.run(3) { communicator in
      try run(
        Self.quantizer(recipe, communicator, model: "tiny-bert"), path, isRoot: communicator.isRoot)
    }
    #expect(try PipelineTests.weights(path) == PipelineTests.weights(folder.file("alone")))
  }

  @Test func fewerShardsThanRanksAreRefused() throws {
    let error = #expect(throws: DistributionError.self) {
      _ = try LocalRank.run(2) { communicator in
        _ = try Self.quantizer(Self.recipe { $0.shards = 1 }, communicator)
      }
    }
    #expect(error == .tooFewShards(option: "--shards", shards: 1, ranks: 2))
  }
}
