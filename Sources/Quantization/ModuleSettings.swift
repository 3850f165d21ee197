import Architecture
import JSON

/// Bits and group size of one module.
package struct ModuleSettings: Hashable, Sendable, CustomStringConvertible {
  /// 2, 3, 4 or 8.
  package var bits: Int
  /// Inputs of one group; −1: the whole row.
  package var groupSize: Int

  package init(bits: Int, groupSize: Int) {
    self.bits = bits
    self.groupSize = groupSize
  }

  package var json: JSONValue { ["bits": .init(bits), "group_size": .init(groupSize)] }
  package var description: String { "\(bits):\(groupSize)" }

  /// What a matrix takes: codes, a scale in half precision for each group and output, and codes of zero points where they are not
  /// all the same.
  package func bitCount(out: Int, in inFeatures: Int, isSymmetric: Bool) -> Int {
    let group = groupSize == -1 ? inFeatures : groupSize
    let groups = (inFeatures + group - 1) / group
    return out * (inFeatures * bits + groups * (16 + (isSymmetric ? 0 : bits)))
  }
}

extension QuantizationRecipe {
  /// Bits and group size of modules that `modules` does not name.
  package var settings: ModuleSettings {
    get { ModuleSettings(bits: bits, groupSize: groupSize) }
    set { (bits, groupSize) = (newValue.bits, newValue.groupSize) }
  }

  /// The recipe of one module, which names no other.
  package func of(_ module: ModuleID) -> QuantizationRecipe {
    var result = self
    result.modules = [:]
    if let own = modules[module] { result.settings = own }
    return result
  }

  /// The recipe in which each module has settings of its own.
  ///
  /// The settings for all other modules are those of most modules, but 2 or 3 bits wherever a module has so few: vLLM chooses its
  /// kernels by them, and those that it chooses for 4 and 8 bits refuse a module of 2 or 3.
  package func with(_ settings: [ModuleID: ModuleSettings]) -> QuantizationRecipe {
    var counts: [ModuleSettings: Int] = [:]
    for own in settings.values { counts[own, default: 0] += 1 }
    let few = counts.filter { $0.key.bits <= 3 }
    let most = (few.isEmpty ? counts : few).max {
      ($0.value, $1.key.bits, $1.key.groupSize) < ($1.value, $0.key.bits, $0.key.groupSize)
    }
    var result = self
    if let most { result.settings = most.key }
    result.modules = settings.filter { $0.value != result.settings }
    return result
  }

  /// `modules` in the order of layers.
  var modulesJSON: JSONObject {
    let order = Dictionary(uniqueKeysWithValues: ModuleKind.allCases.enumerated().map { ($1, $0) })
    let sorted = modules.sorted {
      ($0.key.layer ?? -1, order[$0.key.kind] ?? 0) < ($1.key.layer ?? -1, order[$1.key.kind] ?? 0)
    }
    return JSONObject(
      sorted.map { module, own in
        (
          [module.layer.map(String.init), module.kind.rawValue].compactMap { $0 }.joined(separator: "."),
          own.json
        )
      })
  }
}
