import Architecture
import AutoGPTQ
import Compute
import Files
import Tensors

/// Where a decoder's weights come from, whatever the file.
package protocol WeightSource: Sendable {
  /// What to call the source in messages.
  var path: String { get }

  /// The weight of a module, `[out, in]`, as floats or as integer codes, in whatever order the file keeps it.
  /// - Throws: when it is missing or has another shape.
  func matrix(_ module: ModuleID, out: Int, in inFeatures: Int) throws -> WeightMatrix

  /// A vector of `count` floats, or nil when the file has none of that name.
  func vector(_ id: TensorID, count: Int) throws -> AlignedBuffer<Float>?

  /// A head of its own that a model with tied embeddings may have besides: the embedding in fewer bits.
  func separateHead(out: Int, in inFeatures: Int) throws -> WeightMatrix?

  /// What the source calls a tensor, for messages.
  func label(of id: TensorID) -> String

  /// Gives resident pages of mapped files back to the system; they come again from its cache when touched.
  func releasePages()
}

extension WeightSource {
  package func separateHead(out: Int, in inFeatures: Int) throws -> WeightMatrix? { nil }

  /// A vector that must be there.
  package func requiredVector(_ id: TensorID, count: Int) throws -> AlignedBuffer<Float> {
    guard let vector = try vector(id, count: count) else {
      throw ModelError(.missing(expected: nil), path: path, tensor: label(of: id))
    }
    return vector
  }
}

/// A model as it is stored: a Hugging Face or AutoGPTQ folder, a `.zhinao` file, or a GGUF file. Nothing outside the three
/// implementations asks which of them it is.
package protocol ModelStore: WeightSource {
  var kind: ModelKind { get }
  /// Configuration, tokenizer, templates.
  var files: any ModelFiles { get }
  var configuration: ModelConfiguration { get }
  /// How integer weights were quantized; nil: all weights are floats.
  var quantization: QuantizeConfiguration? { get }

  /// All tensors, in any order.
  /// - Throws: when the stored tensors contradict the configuration.
  func tensors() throws -> [ModelEntry]

  /// The files that hold the weights, for provenance and for recognizing the same input after a crash.
  var weightFiles: [String] { get }

  /// The number of tensors, and the bytes that ``problems(progress:)`` looks at.
  var extent: (tensors: Int, byteCount: Int) { get }

  /// Bytes that stay mapped or in memory while the model runs.
  var residentBytes: Int { get }

  /// Looks at every byte of the weights.
  /// - Parameter progress: called with the bytes looked at so far.
  func problems(progress: (_ byteCount: Int) -> Void) -> [ModelProblem]

  /// Where two sources say different things about the model, and which counts.
  var discrepancies: [Discrepancy] { get }

  /// What reading met so far that contradicts the configuration without making the model unusable.
  var warnings: [String] { get }

  /// The mapped memory of all weights where they lie in one piece, for measuring how fast it can be read.
  var mappedWeights: UnsafeBytes? { get }
}

extension ModelStore {
  package var warnings: [String] { [] }
}

/// The forms a stored model has.
package enum ModelKind: String, Sendable {
  case checkpoint = "Hugging Face checkpoint"
  case autoGPTQ = "AutoGPTQ checkpoint"
  case packed = ".zhinao file"
  case gguf = "GGUF file"
}

/// Something wrong with the bytes of a stored model.
package struct ModelProblem: Equatable, Sendable, CustomStringConvertible {
  package enum Kind: Equatable, Sendable {
    /// A tensor holds NaN, infinity, or values that its type in memory cannot hold.
    case values
    /// Bytes that differ from their checksum, or lie where there must be zeros.
    case damage
  }
  package var kind: Kind
  package var description: String

  package init(_ kind: Kind, _ description: String) {
    self.kind = kind
    self.description = description
  }
}
