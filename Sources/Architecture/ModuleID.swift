import Files

/// What a module does in a model: the paper's word for it, whatever a checkpoint calls it.
package enum ModuleKind: String, CaseIterable, Sendable {
  case embedding
  case inputNorm, fusedQKV, query, key, value, attentionOutput
  case postAttentionNorm, gate, up, down
  case finalNorm, head
  // Encoders.
  case positionEmbedding, typeEmbedding, embeddingNorm
  case attentionNorm, intermediate, output, outputNorm
  case pooler, classifier
}

/// One module of a model.
package struct ModuleID: Hashable, Sendable {
  /// Nil for modules outside the layers: embedding, final norm, head.
  package var layer: Int?
  package var kind: ModuleKind

  package init(_ kind: ModuleKind, layer: Int? = nil) {
    self.kind = kind
    self.layer = layer
  }

  package static let embedding = ModuleID(.embedding)
  package static let finalNorm = ModuleID(.finalNorm)
  package static let head = ModuleID(.head)
}

/// Which tensor of a module.
package enum TensorPart: String, CaseIterable, Sendable { case weight, bias }

/// One tensor of a model.
package struct TensorID: Hashable, Sendable {
  package var module: ModuleID
  package var part: TensorPart

  package init(_ module: ModuleID, _ part: TensorPart = .weight) {
    self.module = module
    self.part = part
  }

  package init(_ kind: ModuleKind, _ part: TensorPart = .weight, layer: Int? = nil) {
    self.init(ModuleID(kind, layer: layer), part)
  }
}

/// A tensor as a file brings it: one that the architecture's table has, or another, which is carried along by its name.
package enum TensorKey: Hashable, Sendable {
  case known(TensorID)
  case other(ByteText)

  package var id: TensorID? { if case .known(let id) = self { id } else { nil } }
}
