import Adapters
import Architecture
import Compute
import Files
import Foundation
import Models
import Tensors
import Transformer

/// Everything that the keys and values of a text depend on beside its tokens. Contexts are exchanged only where it is the same.
package struct ContextIdentity: Equatable, Hashable, Sendable {
  /// An adapter beside the model's weights.
  package struct Adapter: Equatable, Hashable, Sendable {
    /// SHA-256 over its settings and its weights.
    package var digest: String
    package var factor: Float

    package init(digest: String, factor: Float) { (self.digest, self.factor) = (digest, factor) }
  }

  /// For messages; not compared.
  package var modelName: String
  /// ``ModelFingerprint``
  package var fingerprint: String
  package var adapters: [Adapter]
  package var arithmetic: String
  /// How keys and values are stored, by the name of its ``KVCacheType``.
  package var encoding: String
  /// ``ArithmeticRevision`` of the program.
  package var revision: Int

  package init(
    modelName: String, fingerprint: String, adapters: [Adapter] = [], arithmetic: String, encoding: String,
    revision: Int = ArithmeticRevision.current
  ) {
    (self.modelName, self.fingerprint, self.adapters) = (modelName, fingerprint, adapters)
    (self.arithmetic, self.encoding, self.revision) = (arithmetic, encoding, revision)
  }

  /// Reads pieces of the model and all of the adapters.
  /// - Throws: errors of files.
  package init(
    _ model: OpenedModel, adapters: [AppliedAdapter] = [], arithmetic: Int4Arithmetic, cacheType: KVCacheType
  ) throws {
    self.init(
      modelName: PathParts(PathParts.withoutTrailingSlashes(model.path)).name,
      fingerprint: try ModelFingerprint.of(model),
      adapters: try adapters.map { try Adapter($0) }, arithmetic: arithmetic.rawValue,
      encoding: cacheType.rawValue)
  }

  package static func == (a: ContextIdentity, b: ContextIdentity) -> Bool {
    a.fingerprint == b.fingerprint && a.adapters == b.adapters && a.arithmetic == b.arithmetic
      && a.encoding == b.encoding && a.revision == b.revision
  }

  package func hash(into hasher: inout Hasher) {
    hasher.combine(fingerprint)
    hasher.combine(adapters)
    hasher.combine(arithmetic)
    hasher.combine(encoding)
    hasher.combine(revision)
  }

  /// What keeps a context of this identity from being used where `other` is needed; nil: nothing.
  func obstacle(to other: ContextIdentity) -> SavedContextError.Reason? {
    if fingerprint != other.fingerprint {
      return .otherModel(saved: modelName, used: other.modelName)
    }
    if adapters != other.adapters {
      return .otherAdapters(saved: adapters.count, used: other.adapters.count)
    }
    if arithmetic != other.arithmetic { return .otherArithmetic(saved: arithmetic, used: other.arithmetic) }
    if encoding != other.encoding { return .otherEncoding(saved: encoding, used: other.encoding) }
    if revision != other.revision { return .otherRevision(saved: revision, used: other.revision) }
    return nil
  }
}

extension ContextIdentity.Adapter {
  init(_ applied: AppliedAdapter) throws {
    let folder = applied.adapter.path
    let parts = try ["adapter_config.json", "adapter_model.safetensors"].map {
      "\($0) \(try Checksum.sha256(ofFile: "\(folder)/\($0)"))\n"
    }
    self.init(
      digest: Array(parts.joined().utf8).withUnsafeBytes { Checksum.sha256($0) }, factor: applied.factor)
  }
}
