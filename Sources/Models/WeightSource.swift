import Compute
import Files
import Tensors

/// Where a decoder's weights come from: named as Hugging Face names them, whatever the file.
package protocol WeightSource: Sendable {
  /// The matrix `MODULE.weight` `[out, in]`, as floats or as integer codes, in whatever order the file keeps it.
  /// - Throws: when it is missing or has another shape.
  func matrix(_ module: String, out: Int, in inFeatures: Int) throws -> WeightMatrix

  /// A vector of `count` floats, or nil when the file has none of that name.
  func vector(_ name: String, count: Int) throws -> AlignedBuffer<Float>?

  /// A head of its own that a model with tied embeddings may have besides: the embedding in fewer bits.
  func separateHead(out: Int, in inFeatures: Int) throws -> WeightMatrix?

  /// Gives resident pages of mapped files back to the system; they come again from its cache when touched.
  func releasePages()

  /// What to call the file in messages.
  var path: String { get }
}

extension WeightSource {
  package func separateHead(out: Int, in inFeatures: Int) throws -> WeightMatrix? { nil }

  /// A vector that must be there.
  func requiredVector(_ name: String, count: Int) throws -> AlignedBuffer<Float> {
    guard let vector = try vector(name, count: count) else {
      throw ModelError(path: path, tensor: name, detail: "is missing; the model cannot run without it")
    }
    return vector
  }
}

/// Why a model cannot be opened or run.
package struct ModelError: DiagnosedError, Equatable {
  package var path: String
  package var tensor: String?
  package var detail: String
  package var category: FailureCategory

  package init(path: String, tensor: String? = nil, detail: String, category: FailureCategory = .badInput) {
    self.path = path
    self.tensor = tensor
    self.detail = detail
    self.category = category
  }

  package var description: String { "\(path): \(tensor.map { "\($0) " } ?? "")\(detail)" }
}
