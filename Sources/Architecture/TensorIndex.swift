import Files

/// An architecture's table for one configuration: shapes in numbers, names both ways, the order of a forward pass.
package struct TensorIndex: Sendable {
  /// One tensor of the model.
  package struct Tensor: Equatable, Sendable {
    package var id: TensorID
    package var shape: [Int]
    package var role: TensorRule.Role
    /// Whether a model of this configuration has it. Others may be there only as zeros.
    package var isRequired: Bool
  }

  package let configuration: ModelConfiguration
  private var family: ModelFamily { configuration.family }
  private let before: [TensorRule]
  private let layer: [TensorRule]
  private let after: [TensorRule]
  private let layerNames: [ByteText: TensorID]
  private let otherNames: [ByteText: TensorID]
  /// What stands before the number of a layer in this checkpoint's names: `model.layers.`, `bert.encoder.layer.`.
  package let layerPrefix: String
  private var naming: TensorNaming { configuration.naming }

  package init(_ configuration: ModelConfiguration) {
    self.configuration = configuration
    let rules = configuration.family.tensors
    let family = configuration.family
    let naming = configuration.naming
    let bodyPrefix = naming.hasBodyPrefix ? family.bodyPrefix : ""
    layerPrefix = bodyPrefix + family.layerPrefix
    let first = rules.firstIndex { $0.kind.isInLayer } ?? rules.endIndex
    let end = rules.lastIndex { $0.kind.isInLayer }.map { $0 + 1 } ?? rules.endIndex
    before = Array(rules[..<first])
    layer = Array(rules[first..<end])
    after = Array(rules[end...])
    func names(_ rules: [TensorRule]) -> [ByteText: TensorID] {
      let pairs = rules.flatMap { rule in
        ([rule.name] + rule.otherNames).map {
          let prefix = rule.isOfBody && !rule.kind.isInLayer ? bodyPrefix : ""
          return ("\(prefix)\($0).\(family.name(of: rule, naming))".bytes, TensorID(rule.kind, rule.part))
        }
      }
      return Dictionary(pairs, uniquingKeysWith: { a, _ in a })
    }
    layerNames = names(layer)
    otherNames = names(before + after)
  }

  // MARK: Order

  /// Every tensor of the table, those included that only other configurations require, in the order of a forward pass.
  package var all: [Tensor] {
    before.map { tensor($0, layer: nil) }
      + (0..<configuration.hiddenLayers).flatMap { index in layer.map { tensor($0, layer: index) } }
      + after.map { tensor($0, layer: nil) }
  }

  /// The tensors that a model of this configuration has.
  package var required: [Tensor] { all.filter(\.isRequired) }

  /// Place in the order of a forward pass; tensors that the table does not have come last.
  package func rank(_ key: TensorKey) -> Int {
    guard case .known(let id) = key else { return .max }
    func place(_ rules: [TensorRule]) -> Int? {
      rules.firstIndex { $0.kind == id.module.kind && $0.part == id.part }
    }
    if let index = id.module.layer {
      return place(layer).map { before.count + index * layer.count + $0 } ?? .max
    }
    if let place = place(before) { return place }
    return place(after).map { before.count + configuration.hiddenLayers * layer.count + $0 } ?? .max
  }

  /// The projections of a layer, those that share an input together, in the order of a forward pass.
  package var stages: [(stage: TensorRule.Stage, modules: [ModuleKind])] {
    TensorRule.Stage.allCases.compactMap { stage in
      let modules = modules(of: stage)
      return modules.isEmpty ? nil : (stage, modules)
    }
  }

  /// The projections of a stage, in the order of a forward pass.
  package func modules(of stage: TensorRule.Stage) -> [ModuleKind] {
    layer.filter { $0.stage == stage }.map(\.kind)
  }

  /// Width of the input that the projections of a stage share; 0 when there are none.
  package func inputWidth(of stage: TensorRule.Stage) -> Int {
    modules(of: stage).first.map { shape(of: ModuleID($0, layer: 0)).in } ?? 0
  }

  /// The projections of every layer, layer by layer, in the order of a forward pass.
  package var projections: [ModuleID] {
    let kinds = stages.flatMap(\.modules)
    return (0..<configuration.hiddenLayers).flatMap { index in kinds.map { ModuleID($0, layer: index) } }
  }

  // MARK: Shapes

  private func tensor(_ rule: TensorRule, layer: Int?) -> Tensor {
    Tensor(
      id: TensorID(rule.kind, rule.part, layer: layer), shape: rule.shape.map(length), role: rule.role,
      isRequired: holds(rule.condition))
  }

  private func rule(_ id: TensorID) -> TensorRule? {
    family.tensors.first { $0.kind == id.module.kind && $0.part == id.part }
  }

  /// The tensor of that name in the table; nil: the architecture has none.
  package func tensor(_ id: TensorID) -> Tensor? { rule(id).map { tensor($0, layer: id.module.layer) } }

  /// `[out, in]` of a matrix that the table has.
  package func shape(of module: ModuleID) -> (out: Int, in: Int) {
    guard let rule = rule(TensorID(module)), rule.shape.count == 2 else {
      preconditionFailure("\(family.name) models have no matrix \(module.kind.rawValue)")
    }
    return (length(rule.shape[0]), length(rule.shape[1]))
  }

  /// Whether the matrix is multiplied with, so that it is best kept in panels: all but an embedding that is only looked up.
  package func isMultiplied(_ id: TensorID) -> Bool {
    guard id.part == .weight, let rule = rule(id) else { return false }
    guard holds(rule.condition) || rule.condition == .optional else { return false }
    switch rule.role {
    case .norm: return false
    case .projection, .head: return true
    case .embedding: return configuration.tieWordEmbeddings
    }
  }

  private func length(_ dimension: TensorRule.Dimension) -> Int {
    let c = configuration
    return switch dimension {
    case .vocabulary: c.vocabularySize
    case .hidden: c.hiddenSize
    case .intermediate: c.intermediateSize
    case .queries: c.attentionHeads * c.headDim
    case .keys: c.kvHeads * c.headDim
    case .fusedQKV: (c.attentionHeads + 2 * c.kvHeads) * c.headDim
    case .positions: c.maxPositionEmbeddings
    case .textTypes: c.encoderSettings?.textTypeCount ?? 0
    case .labels: c.encoderSettings?.labelCount ?? 0
    }
  }

  private func holds(_ condition: TensorRule.Condition) -> Bool {
    switch condition {
    case .always: true
    case .qkvBias: configuration.qkvBias
    case .outputBias: configuration.outputBias
    case .mlpBias: configuration.mlpBias
    case .untiedHead: !configuration.tieWordEmbeddings
    case .classifies: configuration.encoderSettings?.labelCount != nil
    case .optional: false
    }
  }

  // MARK: Names in checkpoints

  /// What a name of a Hugging Face checkpoint stands for.
  package func key(named name: String) -> TensorKey {
    id(named: name).map { .known($0) } ?? .other(name.bytes)
  }

  private func id(named name: String) -> TensorID? {
    if let id = otherNames[name.bytes] { return id }
    guard let (layer, rest) = name.layerAndRest(after: layerPrefix),
      layer < configuration.hiddenLayers, var id = layerNames[rest.bytes]
    else { return nil }
    id.module.layer = layer
    return id
  }

  /// The module of that name; nil: the architecture has none.
  package func module(named name: String) -> ModuleID? {
    if let module = id(named: name + ".weight")?.module { return module }
    guard naming.hasLegacyNorms, let legacy = family.legacyNormParts else { return nil }
    return id(named: "\(name).\(legacy.weight)")?.module
  }

  package func name(of module: ModuleID) -> String {
    guard let rule = rule(TensorID(module)) else {
      return [module.layer.map { "\(layerPrefix)\($0)" }, module.kind.rawValue].compactMap { $0 }
        .joined(separator: ".")
    }
    if let layer = module.layer { return "\(layerPrefix)\(layer).\(rule.name)" }
    return rule.isOfBody && naming.hasBodyPrefix ? family.bodyPrefix + rule.name : rule.name
  }

  package func name(of id: TensorID) -> String {
    let part = rule(id).map { family.name(of: $0, naming) } ?? id.part.rawValue
    return "\(name(of: id.module)).\(part)"
  }

  package func name(of key: TensorKey) -> String {
    switch key {
    case .known(let id): name(of: id)
    case .other(let name): name.text
    }
  }

  // MARK: Names in GGUF

  /// The tensor's name in GGUF; nil for what GGUF has no name for.
  package func ggufName(of id: TensorID) -> String? {
    guard let name = rule(id)?.gguf else { return nil }
    let module = id.module.layer.map { "\(family.ggufLayerPrefix)\($0).\(name)" } ?? name
    return "\(module).\(id.part.rawValue)"
  }

  /// The inverse of ``ggufName(of:)``.
  package func id(ggufName: String) -> TensorID? {
    let (number, rest): (Int?, String)
    if let (layer, inner) = ggufName.layerAndRest(after: family.ggufLayerPrefix) {
      guard layer < configuration.hiddenLayers else { return nil }
      (number, rest) = (layer, inner)
    } else {
      (number, rest) = (nil, ggufName)
    }
    let rule = family.tensors.first { rule in
      rule.kind.isInLayer == (number != nil) && rule.gguf.map { "\($0).\(rule.part.rawValue)" } == rest
    }
    return rule.map { TensorID($0.kind, $0.part, layer: number) }
  }
}

extension ModelFamily {
  /// What a checkpoint calls the part of a module that a rule is about.
  fileprivate func name(of rule: TensorRule, _ naming: TensorNaming) -> String {
    guard naming.hasLegacyNorms, rule.role == .norm, let legacy = legacyNormParts else {
      return rule.part.rawValue
    }
    return rule.part == .weight ? legacy.weight : legacy.bias
  }
}

extension ModuleKind {
  /// Whether every layer has one.
  package var isInLayer: Bool {
    switch self {
    case .embedding, .finalNorm, .head: false
    case .positionEmbedding, .typeEmbedding, .embeddingNorm, .pooler, .classifier: false
    default: true
    }
  }
}

extension String {
  /// `model.layers.3.mlp.up_proj.weight` → `(3, "mlp.up_proj.weight")`; nil unless the number is written as a number is.
  fileprivate func layerAndRest(after prefix: String) -> (layer: Int, rest: String)? {
    guard utf8.starts(with: prefix.utf8) else { return nil }
    let rest = utf8.dropFirst(prefix.utf8.count)
    guard let dot = rest.firstIndex(of: UInt8(ascii: ".")) else { return nil }
    let digits = String(decoding: rest[..<dot], as: UTF8.self)
    guard let layer = Int(digits), layer >= 0, String(layer) == digits else { return nil }
    return (layer, String(decoding: rest[rest.index(after: dot)...], as: UTF8.self))
  }
}
