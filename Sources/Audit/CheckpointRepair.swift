import AutoGPTQ
import Files
import Foundation
import JSON

/// A fault of a GPTQ checkpoint that lies in what its configuration files say, not in its weights.
package enum CheckpointRepair: Equatable, Sendable, CustomStringConvertible {
  /// The zero points are stored in this format; the files declare the other.
  case zeroPointFormat(ZeroPointFormat)
  /// `g_idx` is in act-order, though `desc_act` is false.
  case declareActOrder
  /// This id ends a text, but is not among the stops.
  case addStop(Int)
  /// `is_marlin_format: false` says nothing, but GPTQModel 7 refuses the key.
  case dropMarlinKey

  package var description: String {
    switch self {
    case .zeroPointFormat(let format): "checkpoint_format becomes \(format.rawValue)"
    case .declareActOrder: "desc_act becomes true"
    case .addStop(let id): "\(id) joins eos_token_id of generation_config.json"
    case .dropMarlinKey: "is_marlin_format is removed"
    }
  }

  /// Rewrites the files concerned, each whole or not at all; everything else in them stays as it is.
  /// - Returns: a line for each file changed.
  package func apply(to folder: String) throws -> [String] {
    switch self {
    case .zeroPointFormat(let format):
      return try CheckpointRepair.edit(folder) { object in
        let usesShortName = object["checkpoint_format"] == nil && object["format"] != nil
        object[usesShortName ? "format" : "checkpoint_format"] = .string(format.rawValue)
      }.map { "\($0): \(self)" }
    case .declareActOrder:
      return try CheckpointRepair.edit(folder) { $0["desc_act"] = true }.map { "\($0): \(self)" }
    case .dropMarlinKey:
      return try CheckpointRepair.edit(folder) { $0["is_marlin_format"] = nil }.map { "\($0): \(self)" }
    case .addStop(let id):
      let path = "\(folder)/generation_config.json"
      var object =
        FileManager.default.fileExists(atPath: path)
        ? try JSONValue.parse(file: path).objectValue ?? JSONObject() : JSONObject()
      let before = object["eos_token_id"].map { $0.arrayValue ?? [$0] } ?? []
      object["eos_token_id"] = .array(before.filter { !$0.isNull } + [.init(id)])
      try AtomicFile.write(JSONValue.object(object).serialized(indent: 2) + "\n", to: path)
      return ["\(path): \(self)"]
    }
  }

  /// Changes the quantization settings wherever the checkpoint keeps them.
  private static func edit(_ folder: String, _ change: (inout JSONObject) -> Void) throws -> [String] {
    var changed: [String] = []
    for name in ["quantize_config.json", "quant_config.json", "config.json"] {
      let path = "\(folder)/\(name)"
      guard FileManager.default.fileExists(atPath: path),
        var object = try JSONValue.parse(file: path).objectValue
      else { continue }
      if name == "config.json" {
        guard var inner = object["quantization_config"]?.objectValue else { continue }
        change(&inner)
        object["quantization_config"] = .object(inner)
      } else {
        change(&object)
      }
      try AtomicFile.write(JSONValue.object(object).serialized(indent: 2) + "\n", to: path)
      changed.append(path)
    }
    return changed
  }
}

extension ZeroPointFormat {
  var other: ZeroPointFormat { self == .v1 ? .v2 : .v1 }
}
