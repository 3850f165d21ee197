import Architecture
import AutoGPTQ
import Calibration
import Compute
import Distribution
import Evaluation
import Files
import Foundation
import JSON
import Models
import Tensors
import Tokenization
import Transformer

/// Chooses the settings of every module, quantizes with them, and measures what that loses, until the target is reached.
struct MixedPrecision {
  let target: PrecisionTarget
  /// The recipe of modules before they have settings of their own.
  let quantizer: ModelQuantizer
  /// Windows that no Hessian has seen.
  let heldOut: [[Int]]

  /// - Throws: ``QuantizationError`` when the target cannot be reached with the model's shapes, or its modules not be stored.
  init(target: PrecisionTarget, quantizer: ModelQuantizer, heldOut: [[Int]]) throws {
    self.target = target
    self.quantizer = quantizer
    self.heldOut = heldOut
    let index = TensorIndex(quantizer.model.configuration)
    for kind in index.stages.flatMap(\.modules) {
      let module = ModuleID(kind, layer: 0)
      let shape = index.shape(of: module)
      for bits in Set(target.candidates.map(\.bits)).sorted() {
        if let obstacle = AutoGPTQModule.obstacle(bits: bits, out: shape.out, in: shape.in) {
          throw QuantizationError.cannotBeStored(
            module: index.name(of: module), bits: bits, obstacle: obstacle)
        }
      }
    }
    guard case .bits(let wanted) = target.goal else { return }
    let shapes = index.projections.map { index.shape(of: $0) }
    let weights = shapes.reduce(0) { $0 + $1.out * $1.in }
    let isSymmetric = quantizer.recipe.isSymmetric
    let least =
      target.candidates.map { candidate in
        shapes.reduce(0) { $0 + candidate.bitCount(out: $1.out, in: $1.in, isSymmetric: isSymmetric) }
      }.min() ?? 0
    let most = Double(least) / Double(max(1, weights))
    guard wanted >= most else {
      let text = String(format: "%.3f", (most * 1000).rounded(.up) / 1000)
      throw QuantizationError.setting(
        option: "--target-bits", value: "\(wanted)",
        expected: "at least \(text), which the smallest of --bit-choices takes with its scales")
    }
  }

  /// Everything the result depends on.
  func identity() throws -> JSONObject {
    var identity = try quantizer.identity()
    identity["precision"] = target.json
    identity["held_out_sha256"] = .string(
      CalibrationSet(windows: heldOut, report: CalibrationReport(sources: [])).digest)
    return identity
  }

  // MARK: The search

  /// The finished search: a quantizer with the settings found, and the store of its layers.
  struct Outcome {
    var quantizer: ModelQuantizer
    var store: LayerStore
    var report: PrecisionReport
  }

  private var communicator: any Communicator { quantizer.communicator }

  /// Searches on from what `store` holds. Rank 0 decides what is tried and measures it; all ranks find sensitivities and quantize.
  /// - Parameter store: nil on other ranks than 0.
  /// - Returns: nil on other ranks than 0.
  func run(into store: AllocationStore?, observer: any QuantizationObserver) throws -> Outcome? {
    try SensitivityPass(quantizer: quantizer, candidates: target.candidates).run(
      into: store, observer: observer)
    let items = try itemsOfRankZero(store)
    let search = store.map { _ in PrecisionSearch(goal: target.goal, items: items) }
    while true {
      let round = store.flatMap { search?.next(after: $0.rounds) }
      guard let choices = try choicesOfRankZero(round?.choices) else { break }
      let number = store?.rounds.count ?? 0
      if let round { observer.precisionRoundStarted(number + 1, round) }
      let (quantizer, layers) = try layers(of: choices, items, number, in: store)
      if let layers { observer.storeOpened(at: layers.path, finishedLayers: layers.finishedLayers) }
      try quantizer.run(into: layers, observer: observer)
      guard let store, let layers, let search, var measured = round else { continue }
      measured.measured = try divergence(of: layers)
      try store.add(measured)
      observer.precisionRoundMeasured(number + 1, measured)
      // Only the best is written.
      let best = search.best(of: store.rounds)
      for other in store.rounds.indices where other != best { store.removeRound(other) }
    }
    let best = store.flatMap { search?.best(of: $0.rounds) }
    guard let choices = try choicesOfRankZero(best.flatMap { store?.rounds[$0].choices }) else {
      preconditionFailure("a search has at least a round")
    }
    let (quantizer, layers) = try layers(of: choices, items, best ?? 0, in: store)
    // Unless somebody removed them, all are there.
    try quantizer.run(into: layers, observer: observer)
    guard let store, let layers, let search, let best else { return nil }
    return Outcome(
      quantizer: quantizer, store: layers,
      report: PrecisionReport(self, search: search, rounds: store.rounds, chosen: best))
  }

  /// The items whose sensitivities are known; on other ranks than 0 without them.
  private func itemsOfRankZero(_ store: AllocationStore?) throws -> [PrecisionItem] {
    let own = store.map { $0.layers.flatMap { $0 } }
    let places = try communicator.broadcast(own.map { $0.flatMap { [$0.layer, $0.stage.rawValue] } })
    if let own { return own }
    return stride(from: 0, to: places.count, by: 2).map {
      guard let stage = TensorRule.Stage(rawValue: places[$0 + 1]) else {
        preconditionFailure("a stage that only rank 0 has")
      }
      return PrecisionItem(layer: places[$0], stage: stage, weightCount: 0, choices: [])
    }
  }

  /// Rank 0's choices for all items on all ranks; nil: it has none.
  private func choicesOfRankZero(_ choices: [Int]?) throws -> [Int]? {
    let found = try communicator.broadcast(communicator.isRoot ? choices ?? [] : nil)
    return found.isEmpty ? nil : found
  }

  private func layers(
    of choices: [Int], _ items: [PrecisionItem], _ number: Int, in store: AllocationStore?
  ) throws -> (ModelQuantizer, LayerStore?) {
    let own = try ModelQuantizer(
      model: quantizer.model, contents: quantizer.contents,
      recipe: quantizer.recipe.with(settings(of: choices, items: items)),
      calibration: quantizer.calibration, scratch: quantizer.scratch, communicator: communicator,
      pool: quantizer.pool)
    return (
      own,
      try store.map {
        try LayerStore(
          path: $0.path(ofRound: number), identity: own.identity(),
          shareForHidden: QuantizationJob.shareForHidden(communicator))
      }
    )
  }

  private func settings(of choices: [Int], items: [PrecisionItem]) -> [ModuleID: ModuleSettings] {
    let stages = Dictionary(
      uniqueKeysWithValues: TensorIndex(quantizer.model.configuration).stages.map { ($0.stage, $0.modules) })
    var settings: [ModuleID: ModuleSettings] = [:]
    for (item, choice) in zip(items, choices) {
      for kind in stages[item.stage] ?? [] {
        settings[ModuleID(kind, layer: item.layer)] = target.candidates[choice]
      }
    }
    return settings
  }

  /// The mean KL divergence from the float model on the held-out windows, in nats per token.
  private func divergence(of layers: LayerStore) throws -> Double {
    let model = quantizer.model
    let weights = FinishedLayers(store: layers, floats: model.store, index: TensorIndex(model.configuration))
    let candidate = try DecoderBuilder(model.configuration, weights: weights).decoder(pool: quantizer.pool)
    let reference = try model.decoder(pool: quantizer.pool)
    var (sum, count) = (0.0, 0)
    var start = 0
    while start < heldOut.count {
      // Windows of one length are measured together.
      let length = heldOut[start].count
      let end = heldOut[start...].firstIndex { $0.count != length } ?? heldOut.count
      let comparison = try Comparison.measure(
        reference: reference, candidate: candidate, ids: heldOut[start..<end].flatMap { $0 },
        protocol: WindowProtocol(length: length))
      sum += comparison.meanKL * Double(comparison.tokensScored)
      count += comparison.tokensScored
      start = end
      weights.releasePages()
    }
    // In single precision, as predictions are.
    return Double(Float(sum / Double(max(1, count))))
  }
}

/// A model's weights, its projections being those of finished layers.
private struct FinishedLayers: WeightSource {
  let store: LayerStore
  let floats: any ModelStore
  let index: TensorIndex

  var path: String { floats.path }

  func matrix(_ module: ModuleID, out: Int, in inFeatures: Int) throws -> WeightMatrix {
    guard let layer = module.layer, index.tensor(TensorID(module))?.role == .projection else {
      return try floats.matrix(module, out: out, in: inFeatures)
    }
    let tensor = try store.tensor(index.name(of: module), layer: layer, shape: (out, inFeatures))
    return .intPanels(tensor.matrix)
  }

  func vector(_ id: TensorID, count: Int) throws -> AlignedBuffer<Float>? {
    try floats.vector(id, count: count)
  }
  func separateHead(out: Int, in inFeatures: Int) throws -> WeightMatrix? {
    try floats.separateHead(out: out, in: inFeatures)
  }
  func label(of id: TensorID) -> String { floats.label(of: id) }
  func releasePages() {
    floats.releasePages()
    store.releasePages()
  }
}

// MARK: - Report

/// What bits were chosen, what was predicted, and what was measured.
package struct PrecisionReport: Equatable, Sendable {
  package var target: PrecisionTarget
  /// In the order in which they were tried.
  package var rounds: [PrecisionRound]
  /// The round whose model was written.
  package var chosen: Int
  package var heldOutTokens: Int
  /// How many items got each candidate.
  package var itemCounts: [Int]
  /// What is predicted if all modules get the same candidate.
  package var uniform: [Uniform]

  package struct Uniform: Equatable, Sendable {
    package var bitsPerWeight: Double
    package var predicted: Double
  }

  package var best: PrecisionRound { rounds[chosen] }

  /// Whether the divergence asked for was reached; true where bits were.
  package var isReached: Bool {
    guard case .divergence(let target) = target.goal else { return true }
    return abs(best.measured / target - 1) <= PrecisionTarget.tolerance
  }

  init(_ mixed: MixedPrecision, search: PrecisionSearch, rounds: [PrecisionRound], chosen: Int) {
    target = mixed.target
    self.rounds = rounds
    self.chosen = chosen
    heldOutTokens = mixed.heldOut.reduce(0) { $0 + $1.count }
    itemCounts = mixed.target.candidates.indices.map { place in
      rounds[chosen].choices.count { $0 == place }
    }
    uniform = mixed.target.candidates.indices.map {
      let (bits, predicted) = search.uniform($0)
      return Uniform(bitsPerWeight: bits, predicted: predicted)
    }
  }

  package var json: JSONValue {
    var json = target.json.objectValue ?? JSONObject()
    json["choices"] = .array(
      target.candidates.indices.map { place in
        [
          "bits": .init(target.candidates[place].bits),
          "group_size": .init(target.candidates[place].groupSize),
          "stages": .init(itemCounts[place]), "uniform_bits_per_weight": .init(uniform[place].bitsPerWeight),
          "uniform_predicted_kl": .init(uniform[place].predicted),
        ]
      })
    json["held_out_tokens"] = .init(heldOutTokens)
    json["rounds"] = .array(
      rounds.map { round in
        [
          "bits_per_weight": .init(round.bitsPerWeight), "predicted_kl": .init(round.predicted),
          "measured_kl": .init(round.measured), "gap": .init(round.gap),
        ]
      })
    json["written_round"] = .init(chosen + 1)
    json["reached"] = .bool(isReached)
    return .object(json)
  }
}

// MARK: - The job

extension QuantizationJob {
  /// As `runOnRanks`, for a target instead of given bits.
  func run(
    for target: PrecisionTarget, start: Date, observer: any QuantizationObserver
  ) throws -> Result? {
    let (quantizer, heldOut) = try split(makeQuantizer(observer), target)
    let mixed = try MixedPrecision(target: target, quantizer: quantizer, heldOut: heldOut)
    let plan = try quantizer.plan(for: target, heldOut: heldOut.map(\.count))
    guard communicator.isRoot else {
      _ = try mixed.run(into: nil, observer: observer)
      return nil
    }
    try announce(plan, to: observer)
    let store = try AllocationStore(path: outputs.storePath, identity: mixed.identity())
    let resumed = store.finishedLayers
    observer.allocationOpened(
      at: store.path, finishedLayers: store.finishedLayers, finishedRounds: store.rounds.count)
    do {
      guard let outcome = try mixed.run(into: store, observer: observer) else {
        preconditionFailure("rank 0 has an outcome")
      }
      var result = try write(
        outcome.quantizer, store: outcome.store, start: start, precision: outcome.report, observer: observer)
      store.remove()
      result.resumedLayers = resumed
      result.seconds = Date().timeIntervalSince(start)
      return result
    } catch {
      store.removeIfEmpty()
      throw error
    }
  }

  /// A quantizer for the windows that are calibrated on, and the others.
  private func split(_ whole: ModelQuantizer, _ target: PrecisionTarget) throws -> (ModelQuantizer, [[Int]]) {
    if !target.heldOutPaths.isEmpty {
      let held = try windowsOfRankZero {
        let tokenizer = try whole.model.tokenizer()
        return try CalibrationSet.load(
          files: target.heldOutPaths.map { CalibrationFile($0) }, tokenizer: tokenizer,
          template: ChatTemplate.detected(tokenizer: tokenizer, files: whole.model.files),
          vocabularySize: whole.model.configuration.vocabularySize, options: calibrationOptions)
      }
      return (whole, held.windows)
    }
    let windows = whole.calibration.windows
    guard let held = PrecisionTarget.heldOut(of: windows.count) else {
      throw QuantizationError.tooFewWindows(count: windows.count)
    }
    var calibration = whole.calibration
    calibration.windows = windows.indices.filter { !held.contains($0) }.map { windows[$0] }
    let quantizer = try ModelQuantizer(
      model: whole.model, contents: whole.contents, recipe: whole.recipe, calibration: calibration,
      scratch: whole.scratch, communicator: communicator, pool: whole.pool)
    return (quantizer, held.map { windows[$0] })
  }
}
