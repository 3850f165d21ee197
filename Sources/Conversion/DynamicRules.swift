import Architecture
import AutoGPTQ
import JSON

/// Settings of single modules as the regular expressions of GPTQModel's `dynamic`.
///
/// An engine asks for the settings of a module by its name, and vLLM by the name of the matrix that it fuses several modules into
/// (`qkv_proj`, `gate_up_proj`). So where all projections of a stage have the same settings, one expression matches their names and the
/// fused one, for all such layers at once.
struct DynamicRules {
  enum Rule: Equatable {
    case floats
    /// What differs from the checkpoint's settings.
    case settings(JSONObject)

    var value: JSONValue {
      switch self {
      case .floats: [:]
      case .settings(let settings): .object(settings)
      }
    }
  }

  private var modules: [(id: ModuleID, rule: Rule)] = []

  mutating func add(_ module: ModuleID, _ rule: Rule) { modules.append((module, rule)) }

  /// The modules that one expression matches.
  private struct Group {
    var rule: Rule
    /// Nil: a module of its own, that of `names`.
    var stage: TensorRule.Stage?
    var layers: [Int]
    /// The module's name; of a stage the names inside a layer.
    var names: [String]
  }

  /// - Parameter index: of the model whose modules were added.
  /// - Returns: rules in the order in which modules were added; nil when there are none.
  func json(_ index: TensorIndex) -> JSONObject? {
    guard !modules.isEmpty else { return nil }
    let rules = Dictionary(modules.map { ($0.id, $0.rule) }, uniquingKeysWith: { a, _ in a })
    var groups: [Group] = []
    for (id, rule) in modules {
      guard let layer = id.layer,
        let (stage, kinds) = index.stages.first(where: { $0.modules.contains(id.kind) }),
        kinds.allSatisfy({ rules[ModuleID($0, layer: layer)] == rule })
      else {
        groups.append(Group(rule: rule, stage: nil, layers: [], names: [index.name(of: id)]))
        continue
      }
      if let place = groups.firstIndex(where: { $0.stage == stage && $0.rule == rule }) {
        // Other modules of the stage brought the layer already.
        if groups[place].layers.last != layer { groups[place].layers.append(layer) }
      } else {
        let names = kinds.map { index.nameInLayer($0) }
        groups.append(Group(rule: rule, stage: stage, layers: [layer], names: names))
      }
    }
    return JSONObject(
      groups.map { group in
        let isExclusion = group.rule == .floats
        let pattern = group.stage.map { expression(group, $0, index) } ?? ModuleRules.escaped(group.names[0])
        return (ModuleRules.key(forPattern: pattern, isExclusion: isExclusion), group.rule.value)
      })
  }

  private func expression(_ group: Group, _ stage: TensorRule.Stage, _ index: TensorIndex) -> String {
    func oneOf(_ parts: [String]) -> String {
      parts.count == 1 ? parts[0] : "(?:\(parts.joined(separator: "|")))"
    }
    // Projections of one stage belong to the same part of the layer.
    let parent = group.names[0].lastIndex(of: ".").map { String(group.names[0][...$0]) } ?? ""
    var names = group.names.map { String($0.dropFirst(parent.count)) }
    if let fused = stage.fusedName, !names.contains(fused) { names.append(fused) }
    return ModuleRules.escaped(index.layerPrefix) + oneOf(group.layers.map(String.init))
      + "\\." + ModuleRules.escaped(parent) + oneOf(names.map(ModuleRules.escaped))
  }
}

extension TensorIndex {
  /// The name of a projection after the number of its layer and a dot.
  fileprivate func nameInLayer(_ kind: ModuleKind) -> String {
    String(name(of: ModuleID(kind, layer: 0)).dropFirst("\(layerPrefix)0.".count))
  }
}
