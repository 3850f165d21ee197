import Architecture
import Compute
import Files
import Foundation
import Models
import Tensors

/// Why an adapter cannot be trained on a model.
package struct TrainingTargetError: DiagnosedError, Equatable {
  package enum Reason: Equatable, Sendable {
    /// An end of a name that no projection has.
    case unknownTarget(String, known: [String])
    /// Something that is trained as a whole and is no norm.
    case unknownSavedModule(String, known: [String])
    /// The fused matrix and a part of it.
    case overlappingTargets(String)
    case nothingTrained
  }
  package var reason: Reason
  /// The model.
  package var path: String

  package init(_ reason: Reason, path: String) {
    self.reason = reason
    self.path = path
  }

  package var category: FailureCategory { .badInput }
  package var description: String { "\(path): \(reason)" }
}

extension TrainingTargetError.Reason: CustomStringConvertible {
  package var description: String {
    switch self {
    case .unknownTarget(let name, let known):
      "no projection is called \(name); LoRA can have the targets \(known.joined(separator: ", "))"
    case .unknownSavedModule(let name, let known):
      "\(name) cannot be trained as a whole; these norms can: \(known.joined(separator: ", ")). "
        + "Embeddings and heads can be trained with PEFT on the folder that zhinao-convert --to stock writes"
    case .overlappingTargets(let name):
      "the targets name both the fused matrix of queries, keys and values and a part of it (\(name)); name one or the other"
    case .nothingTrained: "nothing is trained: there is neither a target nor a norm"
    }
  }
}

/// The parameters of a LoRA adapter on a model: A and B of the targeted projections, and norms that are trained as a whole.
package struct TrainedAdapter: Sendable {
  /// y += scale · B · (A · x) of one projection.
  package struct Update: Sendable {
    package let a: Parameter
    package let b: Parameter
    package let layer: Int
    package let stage: TensorRule.Stage
    /// The module that the model has: for a part of a fused matrix, the fused matrix.
    package let kind: ModuleKind
    /// For each row of B the output of `kind` that it adds to; nil: row by row.
    let rows: [Int]?
    /// Tells its dropout from that of the others.
    let number: UInt64
  }

  /// A norm's weight.
  struct SavedNorm: Sendable {
    let parameter: Parameter
    /// Nil: the final norm.
    let layer: Int?
    let kind: ModuleKind
  }

  package let options: LoRAOptions
  /// In the order of a forward pass; of an update A, then B.
  package let parameters: [Parameter]
  package let updates: [Update]
  let norms: [SavedNorm]

  /// A of a uniform distribution between ±1/√inputs, drawn from the seed; B zero; norms as in the model. So PEFT begins.
  /// - Throws: ``TrainingTargetError`` when a target or a norm is not in the model.
  package init(builder: DecoderBuilder, options: LoRAOptions) throws {
    self.options = options
    let path = builder.weights.path
    let candidates = TrainedAdapter.candidates(builder)
    func matches(_ name: String, _ end: String) -> Bool {
      name.bytes.hasSuffix("." + end) || name.hasSameBytes(as: end)
    }
    for target in options.targets where !candidates.contains(where: { matches($0.name, target) }) {
      var known: [String] = []
      for candidate in candidates {
        let end = String(candidate.name.bytes.split(separator: ".").last ?? "")
        if !known.contains(end) { known.append(end) }
      }
      throw TrainingTargetError(.unknownTarget(target, known: known), path: path)
    }
    let chosen = candidates.filter { candidate in
      options.targets.isEmpty
        ? candidate.rows == nil : options.targets.contains { matches(candidate.name, $0) }
    }
    for part in chosen where part.rows != nil {
      if chosen.contains(where: { $0.layer == part.layer && $0.kind == part.kind && $0.rows == nil }) {
        throw TrainingTargetError(.overlappingTargets(part.name), path: path)
      }
    }
    var generator = SplitMix64Sequence(seed: options.seed)
    var parameters: [Parameter] = []
    var updates: [Update] = []
    var norms: [SavedNorm] = []
    let savedNorms = try TrainedAdapter.savedNorms(builder, options)
    func addNorms(ofLayer layer: Int?) throws {
      for norm in savedNorms where norm.layer == layer {
        let parameter = Parameter(
          name: TrainedAdapter.fileName(builder.index.name(of: TensorID(norm))),
          shape: [builder.configuration.hiddenSize])
        let values =
          try norm.kind == .finalNorm
          ? builder.finalNorm()
          : builder.weights.requiredVector(TensorID(norm), count: builder.configuration.hiddenSize)
        parameter.values.pointer.update(from: values.pointer, count: values.count)
        parameters.append(parameter)
        norms.append(SavedNorm(parameter: parameter, layer: norm.layer, kind: norm.kind))
      }
    }
    for layer in 0..<builder.configuration.layerCount {
      for candidate in chosen where candidate.layer == layer {
        let name = TrainedAdapter.fileName(candidate.name)
        let a = Parameter(name: name + ".lora_A.weight", shape: [options.rank, candidate.inputs])
        let b = Parameter(name: name + ".lora_B.weight", shape: [candidate.outputs, options.rank])
        let bound = 1 / Double(candidate.inputs).squareRoot()
        for index in 0..<a.count { a.values[index] = Float((2 * generator.nextUnit() - 1) * bound) }
        parameters += [a, b]
        updates.append(
          Update(
            a: a, b: b, layer: layer, stage: candidate.stage, kind: candidate.kind, rows: candidate.rows,
            number: UInt64(updates.count)))
      }
      try addNorms(ofLayer: layer)
    }
    try addNorms(ofLayer: nil)
    guard !parameters.isEmpty else { throw TrainingTargetError(.nothingTrained, path: path) }
    self.parameters = parameters
    self.updates = updates
    self.norms = norms
  }

  private static func fileName(_ module: String) -> String { "base_model.model.\(module)" }

  // MARK: What a model has

  private struct Candidate {
    let name: String
    let layer: Int
    let stage: TensorRule.Stage
    let kind: ModuleKind
    let rows: [Int]?
    let inputs: Int
    let outputs: Int
  }

  private static func candidates(_ builder: DecoderBuilder) -> [Candidate] {
    let index = builder.index
    var separate = index.configuration
    separate.family = .qwen2
    let split = TensorIndex(separate)
    return (0..<builder.configuration.layerCount).flatMap { layer in
      index.stages.flatMap { stage, kinds in
        kinds.flatMap { kind -> [Candidate] in
          let module = ModuleID(kind, layer: layer)
          let shape = index.shape(of: module)
          let whole = Candidate(
            name: index.name(of: module), layer: layer, stage: stage, kind: kind, rows: nil, inputs: shape.in,
            outputs: shape.out)
          guard kind == .fusedQKV else { return [whole] }
          return [whole]
            + QKVRows(builder.configuration).parts.map { part in
              let rows = part.ranges.flatMap { $0 }
              return Candidate(
                name: split.name(of: ModuleID(part.kind, layer: layer)), layer: layer, stage: stage,
                kind: kind, rows: rows, inputs: shape.in, outputs: rows.count)
            }
        }
      }
    }
  }

  private static func savedNorms(_ builder: DecoderBuilder, _ options: LoRAOptions) throws -> [ModuleID] {
    let index = builder.index
    let all =
      (0..<builder.configuration.layerCount).flatMap { layer in
        [ModuleKind.inputNorm, .postAttentionNorm].map { ModuleID($0, layer: layer) }
      } + [.finalNorm]
    for name in options.savedModules
    where !all.contains(where: { index.name(of: $0).bytes.hasSuffix(name) }) {
      var known: [String] = []
      for norm in all {
        let end = String(index.name(of: norm).bytes.split(separator: ".").last ?? "")
        if !known.contains(end) { known.append(end) }
      }
      throw TrainingTargetError(.unknownSavedModule(name, known: known), path: builder.weights.path)
    }
    // PEFT compares ends of names without regard to dots: `norm` stands for every norm.
    return all.filter { norm in options.savedModules.contains { index.name(of: norm).bytes.hasSuffix($0) } }
  }
}
