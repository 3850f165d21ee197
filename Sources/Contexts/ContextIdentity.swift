import Adapters
import Architecture
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

  package init(
    modelName: String, fingerprint: String, adapters: [Adapter] = [], arithmetic: String, encoding: String
  ) {
    (self.modelName, self.fingerprint, self.adapters) = (modelName, fingerprint, adapters)
    (self.arithmetic, self.encoding) = (arithmetic, encoding)
  }

  /// Reads pieces of the model and all of the adapters.
  /// - Throws: ``SavedContextError/Reason/encodingIsNotSaved(_:)``; errors of files.
  package init(
    _ model: OpenedModel, adapters: [AppliedAdapter] = [], arithmetic: Int4Arithmetic, cacheType: KVCacheType
  ) throws {
    guard !cacheType.planes(model.decoderConfiguration).isEmpty else {
      throw SavedContextError(.encodingIsNotSaved(cacheType.rawValue), path: model.path)
    }
    self.init(
      modelName: PathParts(PathParts.withoutTrailingSlashes(model.path)).name,
      fingerprint: try ModelFingerprint.of(model),
      adapters: try adapters.map { try Adapter($0) }, arithmetic: arithmetic.rawValue,
      encoding: cacheType.rawValue)
  }

  package static func == (a: ContextIdentity, b: ContextIdentity) -> Bool {
    a.fingerprint == b.fingerprint && a.adapters == b.adapters && a.arithmetic == b.arithmetic
      && a.encoding == b.encoding
  }

  package func hash(into hasher: inout Hasher) {
    hasher.combine(fingerprint)
    hasher.combine(adapters)
    hasher.combine(arithmetic)
    hasher.combine(encoding)
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
