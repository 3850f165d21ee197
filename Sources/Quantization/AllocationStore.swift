import Files
import Foundation
import JSON

/// What a choice of bits has found so far, on disk, so that a run that died continues: sensitivities layer by layer, and what rounds
/// measured.
///
/// `OUTPUT.partial/` then holds `recipe.json` as of any ``LayerStore``, `allocation.json`, and one folder `round-N` with the finished
/// layers of each round that is still of use.
final class AllocationStore {
  /// Also holds what a backward pass learned of the layers that are still to come.
  let folder: LayerStore
  private(set) var layers: [[PrecisionItem]] = []
  private(set) var rounds: [PrecisionRound] = []

  var path: String { folder.path }
  private var file: String { AllocationStore.file(in: path) }
  private static func file(in path: String) -> String { "\(path)/allocation.json" }

  /// Opens the folder, or makes it.
  /// - Parameter identity: everything the result depends on.
  /// - Throws: as ``LayerStore`` does, and ``QuantizationError/damagedLayer(path:detail:)``.
  init(path: String, identity: JSONObject) throws {
    // Without a manifest nobody knows what the rest was computed from.
    if !FileManager.default.fileExists(atPath: "\(path)/recipe.json") {
      AllocationStore.removeLeftovers(in: path)
    }
    folder = try LayerStore(path: path, identity: identity)
    let file = AllocationStore.file(in: path)
    guard FileManager.default.fileExists(atPath: file) else { return }
    let json = try JSONValue.parse(file: file)
    guard let layers = json["layers"]?.arrayValue, let rounds = json["rounds"]?.arrayValue else {
      throw QuantizationError.damagedLayer(path: file, detail: "does not hold layers and rounds")
    }
    self.layers = try layers.map { layer in
      let members = layer.arrayValue ?? []
      let items = members.compactMap { PrecisionItem($0) }
      guard !items.isEmpty, items.count == members.count else {
        throw QuantizationError.damagedLayer(path: file, detail: "holds a layer that cannot be read")
      }
      return items
    }
    self.rounds = rounds.compactMap { PrecisionRound($0) }
    guard self.rounds.count == rounds.count else {
      throw QuantizationError.damagedLayer(path: file, detail: "holds a round that cannot be read")
    }
  }

  var finishedLayers: Int { layers.count }

  func add(_ layer: [PrecisionItem]) throws {
    layers.append(layer)
    try save()
  }

  func add(_ round: PrecisionRound) throws {
    rounds.append(round)
    try save()
  }

  private func save() throws {
    let json: JSONValue = [
      "layers": .array(layers.map { .array($0.map(\.json)) }), "rounds": .array(rounds.map(\.json)),
    ]
    try AtomicFile.write(json.serialized() + "\n", to: file)
  }

  // MARK: Rounds

  /// Where the layers of a round are.
  func path(ofRound number: Int) -> String { "\(path)/round-\(number)" }

  func removeRound(_ number: Int) { try? FileManager.default.removeItem(atPath: path(ofRound: number)) }

  /// Removes the folder: the outputs are complete.
  func remove() {
    // The manifest last, so that what a process leaves that is killed meanwhile is a valid store.
    for number in rounds.indices { removeRound(number) }
    unlink(file)
    folder.remove()
  }

  /// Removes the folder if nothing in it took long to find.
  func removeIfEmpty() { if layers.isEmpty { remove() } }

  private static func removeLeftovers(in path: String) {
    for name in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    where name == "allocation.json" || name.hasPrefix("round-") {
      try? FileManager.default.removeItem(atPath: "\(path)/\(name)")
    }
  }
}
