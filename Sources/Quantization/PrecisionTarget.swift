import Architecture
import AutoGPTQ
import JSON

/// What bits of single modules are chosen for, and from what.
package struct PrecisionTarget: Equatable, Sendable {
  package enum Goal: Equatable, Sendable {
    /// The least loss at an average of so many bits for each weight of a quantized module, scales included.
    case bits(Double)
    /// The fewest bits whose mean KL divergence from the float model on held-out windows is so large, in nats per token.
    case divergence(Double)
  }
  package var goal: Goal
  /// Settings that modules may get, in any order.
  package var candidates: [ModuleSettings]
  /// Texts on which quantized models are measured; none: part of the calibration windows, which are then not calibrated on.
  package var heldOutPaths: [String]

  /// How far from a divergence counts as reached, relative to it.
  package static let tolerance = 0.1
  /// How many quantizations a search for a divergence may take.
  package static let mostRounds = 4
  static let mostCandidates = 16

  package init(goal: Goal, candidates: [ModuleSettings], heldOutPaths: [String] = []) {
    self.goal = goal
    self.candidates = candidates
    self.heldOutPaths = heldOutPaths
  }

  /// - Throws: ``QuantizationError`` naming the option that makes no sense.
  package func validate(_ recipe: QuantizationRecipe) throws {
    let option =
      switch goal {
      case .bits(let bits) where !(bits > 0 && bits <= 64):
        ("--target-bits", "\(bits)", "a number from 2 to 8.5")
      case .divergence(let kl) where !(kl > 0 && kl.isFinite): ("--target-kl", "\(kl)", "a number above 0")
      default: ("", "", "")
      }
    guard option.0.isEmpty else {
      throw QuantizationError.setting(option: option.0, value: option.1, expected: option.2)
    }
    guard recipe.method == .gptq else {
      throw QuantizationError.setting(
        option: "--method", value: recipe.method.rawValue, expected: "gptq, for bits of single modules")
    }
    guard (1...PrecisionTarget.mostCandidates).contains(candidates.count),
      Set(candidates).count == candidates.count
    else {
      throw QuantizationError.setting(
        option: "--bit-choices", value: candidates.map(\.description).joined(separator: ","),
        expected: "1 to \(PrecisionTarget.mostCandidates) different choices")
    }
    for candidate in candidates {
      var own = recipe
      own.settings = candidate
      do { try own.validate() } catch QuantizationError.setting(_, _, let expected) {
        throw QuantizationError.setting(
          option: "--bit-choices", value: candidate.description, expected: "\(expected) in each part")
      }
    }
  }

  package var json: JSONValue {
    let goal: (String, JSONValue) =
      switch goal {
      case .bits(let bits): ("target_bits", .init(bits))
      case .divergence(let divergence): ("target_kl", .init(divergence))
      }
    return .object(JSONObject([goal, ("choices", .array(candidates.map(\.json)))]))
  }

  /// The calibration windows that are kept out of calibration, evenly spread: an eighth, but at least eight unless that is more than a
  /// quarter.
  /// - Returns: nil when there are too few windows.
  static func heldOut(of count: Int) -> [Int]? {
    let held = min(count / 4, max(8, count / 8))
    return held == 0 ? nil : (0..<held).map { (2 * $0 + 1) * count / (2 * held) }
  }
}

/// The projections of a layer that share an input. They get the same settings: engines make one matrix of those that share an input
/// and refuse parts of different bits.
package struct PrecisionItem: Equatable, Sendable {
  package var layer: Int
  package var stage: TensorRule.Stage
  /// Weights of all its matrices.
  package var weightCount: Int
  /// For each candidate what the matrices take, in bits, and the divergence that their errors are predicted to cause.
  package var choices: [Knapsack.Choice]

  var json: JSONValue {
    [
      "layer": .init(layer), "stage": .init(stage.rawValue), "weights": .init(weightCount),
      "costs": .array(choices.map { .init($0.cost) }), "losses": .array(choices.map { .init($0.loss) }),
    ]
  }
}

extension PrecisionItem {
  /// Reads what `json` gives; nil when it is something else.
  init?(_ json: JSONValue) {
    guard let layer = json["layer"]?.intValue, let number = json["stage"]?.intValue,
      let stage = TensorRule.Stage(rawValue: number), let weights = json["weights"]?.intValue,
      let costs = json["costs"]?.arrayValue?.compactMap(\.intValue),
      let losses = json["losses"]?.arrayValue?.compactMap(\.doubleValue),
      !costs.isEmpty, costs.count == losses.count
    else { return nil }
    self.init(
      layer: layer, stage: stage, weightCount: weights,
      choices: zip(costs, losses).map { Knapsack.Choice(cost: $0, loss: $1) })
  }
}

/// One quantization with settings of single modules, and what it was found to lose.
package struct PrecisionRound: Equatable, Sendable {
  /// For each item the place of its candidate.
  package var choices: [Int]
  /// Average for each weight of the quantized modules, scales included.
  package var bitsPerWeight: Double
  /// Mean KL divergence in nats per token, as the sum of the items' predictions says.
  package var predicted: Double
  /// The same on the held-out windows.
  package var measured: Double
  /// How much `predicted`, or `bitsPerWeight` where the fewest bits were asked for, may be above the best there is; 0: it is the best.
  package var gap: Double

  var json: JSONValue {
    [
      "bits_per_weight": .init(bitsPerWeight), "predicted_kl": .init(predicted),
      "measured_kl": .init(measured),
      "gap": .init(gap), "choices": .array(choices.map { .init($0) }),
    ]
  }
}

extension PrecisionRound {
  init?(_ json: JSONValue) {
    guard let bits = json["bits_per_weight"]?.doubleValue, let predicted = json["predicted_kl"]?.doubleValue,
      let measured = json["measured_kl"]?.doubleValue, let gap = json["gap"]?.doubleValue,
      let choices = json["choices"]?.arrayValue?.compactMap(\.intValue)
    else { return nil }
    self.init(choices: choices, bitsPerWeight: bits, predicted: predicted, measured: measured, gap: gap)
  }
}
