import Architecture
import AutoGPTQ
import Files
import Tensors

/// One tensor of a model in the form its file has it.
package struct ModelEntry: Sendable {
  package enum Form: Sendable {
    /// Row-major bytes, as safetensors has them.
    case rows(DType, UnsafeBytes)
    /// A float matrix in panels.
    case panels(DType, UnsafeBytes)
    /// An integer matrix in panels.
    case intPanels(IntPanelLayout, UnsafeBytes)
    /// An integer matrix still to be read, its layout known.
    case quantized(IntPanelLayout, @Sendable () throws -> QuantizedMatrix)
    /// Row-major bytes of a tensor that is computed when it is asked for.
    case made(DType, @Sendable () throws -> UnsafeBytes)
    /// An integer matrix too large to be held, made piece by piece in the packed order.
    case stream(IntPanelLayout, @Sendable (_ emit: (UnsafeRawBufferPointer) throws -> Void) throws -> Void)
  }
  package var key: TensorKey
  package var shape: [Int]
  package var form: Form

  package init(key: TensorKey, shape: [Int], form: Form) {
    self.key = key
    self.shape = shape
    self.form = form
  }

  package var dtype: DType? {
    switch form {
    case .rows(let dtype, _), .panels(let dtype, _), .made(let dtype, _): dtype
    default: nil
    }
  }
}

/// All tensors of a model in the order a forward pass needs them, whatever file they come from.
package struct ModelContents: Sendable {
  package var entries: [ModelEntry]
  package var quantization: QuantizeConfiguration?
  package var files: any ModelFiles
  package var configuration: ModelConfiguration
  /// What to call the source in messages.
  package var path: String
  /// Where it all comes from; nil when it was made up.
  package var sources: SourceFiles?
  /// What the tensors are read from.
  private let store: any ModelStore
  /// Gives resident pages of matrices from other files back to the system.
  private var releaseReplacements: @Sendable () -> Void = {}

  /// - Throws: when a tensor the decoder needs is missing or has another shape.
  package init(_ model: OpenedModel) throws {
    files = model.files
    configuration = model.configuration
    quantization = model.quantization
    path = model.path
    store = model.store
    sources = SourceFiles(model)
    entries = try model.store.tensors()
    try order()
  }

  /// The architecture's table for this model.
  package var index: TensorIndex { TensorIndex(configuration) }

  /// Brings the entries into the order of a forward pass, and checks that all that it needs are there.
  /// - Throws: when a tensor is missing, has another shape, or is there twice.
  package mutating func order() throws {
    let index = index
    entries = entries.map { (index.rank($0.key), index.name(of: $0.key), $0) }
      .sorted { ($0.0, $0.1) < ($1.0, $1.1) }.map(\.2)
    var shapes: [TensorKey: [Int]] = [:]
    for entry in entries {
      // The widest element has eight bytes: no count of bytes overflows after this, not even before a dimension of zero.
      guard elementCount(of: [8] + entry.shape) != nil else {
        throw ModelError(.impossibleShape(entry.shape), path: path, tensor: index.name(of: entry.key))
      }
      guard shapes.updateValue(entry.shape, forKey: entry.key) == nil else {
        throw ModelError(.appearsTwice, path: path, tensor: index.name(of: entry.key))
      }
    }
    for tensor in index.required {
      guard let found = shapes[.known(tensor.id)] else {
        // A decoder refuses to be built without its biases; a change of layout needs only those that there are.
        if tensor.id.part == .bias, configuration.family.kind == .decoder { continue }
        throw ModelError(.missing(expected: tensor.shape), path: path, tensor: index.name(of: tensor.id))
      }
      guard found == tensor.shape else {
        throw ModelError(
          .wrongShape(found: found, expected: tensor.shape), path: path, tensor: index.name(of: tensor.id))
      }
    }
  }

  /// Gives resident pages of the mapped files back to the system.
  package func releasePages() {
    store.releasePages()
    releaseReplacements()
  }

  /// Replaces matrices by quantized ones.
  /// - Parameter releasePages: gives resident pages of the matrices' files back to the system.
  package mutating func quantize(
    _ modules: [ModuleID: IntPanelTensor], as configuration: QuantizeConfiguration,
    releasePages: @escaping @Sendable () -> Void = {}
  ) {
    quantization = configuration
    releaseReplacements = releasePages
    for i in entries.indices {
      guard let id = entries[i].key.id, id.part == .weight, let tensor = modules[id.module] else { continue }
      entries[i].form = .intPanels(tensor.layout, tensor.storage)
    }
  }
}
