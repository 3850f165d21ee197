/// One row of an architecture's table: a tensor, its shape in the configuration's terms, what it is for, and what files call it.
package struct TensorRule: Sendable {
  /// A length that the configuration gives.
  package enum Dimension: Sendable {
    case vocabulary, hidden, intermediate
    /// All query heads, all key heads (as many as value heads), and the three together.
    case queries, keys, fusedQKV
    /// Positions that an encoder has vectors of, kinds of text that it tells apart, numbers that its classifier gives.
    case positions, textTypes, labels
  }

  package enum Role: Sendable { case embedding, norm, projection, head }

  /// Projections of one stage share their input; stages follow each other in a forward pass. GPTQ solves one stage at a time.
  package enum Stage: Int, CaseIterable, Comparable, Sendable {
    case attentionInput, attentionOutput, feedForwardInput, feedForwardOutput

    package static func < (a: Stage, b: Stage) -> Bool { a.rawValue < b.rawValue }

    /// The last part of the name that vLLM and SGLang give the one matrix they make of the stage's projections; nil: they leave
    /// them as they are.
    package var fusedName: String? {
      switch self {
      case .attentionInput: "qkv_proj"
      case .feedForwardInput: "gate_up_proj"
      case .attentionOutput, .feedForwardOutput: nil
      }
    }
  }

  /// When a model has the tensor. AutoGPTQ writes biases of zeros for modules that have none: they are accepted where the
  /// condition does not hold; any other value there would change the result and is refused.
  package enum Condition: Sendable {
    case always
    /// The settings of ``ModelConfiguration`` of the same names.
    case qkvBias, outputBias, mlpBias
    /// The head is not the embedding.
    case untiedHead
    /// A head that reads the pooled first token.
    case classifies
    /// There or not: what has no use for it does not need it.
    case optional
  }

  package let kind: ModuleKind
  package let part: TensorPart
  /// `[out, in]` of a matrix, `[count]` of a vector.
  package let shape: [Dimension]
  package let role: Role
  package let stage: Stage?
  package let condition: Condition
  /// The module's name in a Hugging Face checkpoint, inside its layer if it has one.
  package let name: String
  /// Other names under which checkpoints of this family bring the module; only read, never written.
  package let otherNames: [String]
  /// The module's name in GGUF, inside its block if it has one; nil: GGUF has no such tensor.
  package let gguf: String?
  /// Whether checkpoints of classes with a head put the name of the body before it (``ModelFamily/bodyPrefix``).
  package let isOfBody: Bool

  private init(
    _ kind: ModuleKind, _ part: TensorPart, _ shape: [Dimension], _ role: Role, stage: Stage? = nil,
    condition: Condition, name: String, otherNames: [String] = [], gguf: String?, isOfBody: Bool = true
  ) {
    self.isOfBody = isOfBody
    self.kind = kind
    self.part = part
    self.shape = shape
    self.role = role
    self.stage = stage
    self.condition = condition
    self.name = name
    self.otherNames = otherNames
    self.gguf = gguf
  }

  package static func embedding(_ name: String, otherNames: [String] = [], gguf: String?) -> TensorRule {
    TensorRule(
      .embedding, .weight, [.vocabulary, .hidden], .embedding, condition: .always, name: name,
      otherNames: otherNames, gguf: gguf)
  }

  package static func norm(_ kind: ModuleKind, _ name: String, otherNames: [String] = [], gguf: String?)
    -> TensorRule
  {
    TensorRule(
      kind, .weight, [.hidden], .norm, condition: .always, name: name, otherNames: otherNames, gguf: gguf)
  }

  package static func projection(
    _ kind: ModuleKind, _ shape: [Dimension], _ stage: Stage, _ name: String, otherNames: [String] = [],
    gguf: String?
  ) -> TensorRule {
    TensorRule(
      kind, .weight, shape, .projection, stage: stage, condition: .always, name: name,
      otherNames: otherNames, gguf: gguf)
  }

  package static func bias(
    _ kind: ModuleKind, _ count: Dimension, when condition: Condition, _ name: String,
    otherNames: [String] = [], gguf: String?
  ) -> TensorRule {
    TensorRule(
      kind, .bias, [count], .projection, condition: condition, name: name, otherNames: otherNames, gguf: gguf)
  }

  package static func head(_ name: String, otherNames: [String] = [], gguf: String?) -> TensorRule {
    TensorRule(
      .head, .weight, [.vocabulary, .hidden], .head, condition: .untiedHead, name: name,
      otherNames: otherNames, gguf: gguf)
  }

  // MARK: Encoders

  /// A table of vectors that are looked up.
  package static func lookup(_ kind: ModuleKind, _ count: Dimension, _ name: String) -> TensorRule {
    TensorRule(kind, .weight, [count, .hidden], .embedding, condition: .always, name: name, gguf: nil)
  }

  /// Weight and bias of a layer norm.
  package static func layerNorm(_ kind: ModuleKind, _ name: String) -> [TensorRule] {
    [TensorPart.weight, .bias].map {
      TensorRule(kind, $0, [.hidden], .norm, condition: .always, name: name, gguf: nil)
    }
  }

  /// Weight and bias of a projection.
  package static func biasedProjection(
    _ kind: ModuleKind, _ shape: [Dimension], _ stage: Stage? = nil, when condition: Condition = .always,
    _ name: String, isOfBody: Bool = true
  ) -> [TensorRule] {
    [
      TensorRule(
        kind, .weight, shape, .projection, stage: stage, condition: condition, name: name, gguf: nil,
        isOfBody: isOfBody),
      TensorRule(
        kind, .bias, [shape[0]], .projection, condition: condition, name: name, gguf: nil, isOfBody: isOfBody),
    ]
  }
}
