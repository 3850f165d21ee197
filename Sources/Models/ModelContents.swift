import Architecture
import AutoGPTQ
import Files
import Safetensors
import Tensors
import Transformer

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
  package var name: String
  package var shape: [Int]
  package var form: Form

  package init(name: String, shape: [Int], form: Form) {
    self.name = name
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

/// Bytes that an object keeps alive.
package struct UnsafeBytes: @unchecked Sendable {
  package let bytes: UnsafeRawBufferPointer
  package let owner: AnyObject
  package init(_ bytes: UnsafeRawBufferPointer, owner: AnyObject) {
    self.bytes = bytes
    self.owner = owner
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
  private let weights: any WeightSource

  /// - Throws: when a tensor the decoder needs is missing or has another shape.
  package init(_ model: OpenedModel) throws {
    files = model.files
    configuration = model.configuration
    quantization = model.quantization
    path = model.path
    weights = model.weights
    sources = SourceFiles(model)
    let order = DecoderTensorOrder(configuration)
    if let packed = model.weights as? PackedWeights {
      entries = packed.file.header.tensors.map { tensor in
        let bytes = UnsafeBytes(packed.file.bytes(of: tensor), owner: packed.file)
        let form: ModelEntry.Form =
          switch tensor.encoding {
          case .rows(let dtype): .rows(dtype, bytes)
          case .panels(let dtype): .panels(dtype, bytes)
          case .intPanels(let layout): .intPanels(layout, bytes)
          }
        return ModelEntry(name: tensor.name, shape: tensor.shape, form: form)
      }
      for case .intPanels(let layout) in packed.file.header.tensors.map(\.encoding) where quantization == nil
      {
        throw ModelError(
          path: path, detail: "holds \(layout.bits)-bit matrices but does not say how they were quantized")
      }
    } else if let folder = model.weights as? FolderWeights {
      entries = try ModelContents.entries(folder, order: order)
    } else if let gguf = model.weights as? GGUFWeights {
      entries = gguf.entries()
    } else {
      entries = []
    }
    entries.sort { (order.rank($0.name), $0.name.bytes) < (order.rank($1.name), $1.name.bytes) }
    try order.check(entries, tied: configuration.tieWordEmbeddings, path: path)
  }

  private static func entries(_ folder: FolderWeights, order: DecoderTensorOrder) throws -> [ModelEntry] {
    var entries: [ModelEntry] = []
    var taken: Set<ByteText> = []
    if let c = folder.quantization {
      for (name, shape) in order.matrices where folder.table[name.module + ".qweight"] != nil {
        let module = name.module
        let (out, inFeatures) = (shape[0], shape[1])
        let p = try AutoGPTQModule.parameters(
          module, from: folder.table, configuration: c, out: out, in: inFeatures)
        if let obstacle = IntPanelLayout.obstacle(bits: c.bits, groupSize: p.groupSize, in: inFeatures) {
          throw CheckpointError(path: folder.path, tensor: module, detail: "cannot be stored: \(obstacle)")
        }
        let layout = IntPanelLayout(
          bits: c.bits, groupSize: p.groupSize, outFeatures: out, inFeatures: inFeatures,
          isSymmetric: p.zeros.allSatisfy { $0 == UInt8(1 << (c.bits - 1)) },
          isPermuted: p.groupIndex.enumerated().contains { Int($0.element) != $0.offset / p.groupSize })
        entries.append(
          ModelEntry(
            name: name, shape: shape,
            form: .quantized(layout) { try folder.quantized(module, c, out: out, in: inFeatures) }))
        taken.formUnion(AutoGPTQModule.suffixes.map { "\(module).\($0)".bytes })
      }
    }
    for name in folder.table.names where !taken.contains(name) {
      guard let tensor = folder.table[name] else { continue }
      entries.append(
        ModelEntry(
          name: name, shape: tensor.shape,
          form: .rows(tensor.dtype, UnsafeBytes(tensor.bytes, owner: tensor.file))))
    }
    return entries
  }

  /// Gives resident pages of the mapped source back to the system.
  package func releasePages() { weights.releasePages() }

  /// Replaces matrices by quantized ones.
  package mutating func quantize(
    _ modules: [String: IntPanelLayout], as configuration: QuantizeConfiguration,
    matrix: @escaping @Sendable (String) throws -> QuantizedMatrix
  ) {
    quantization = configuration
    for i in entries.indices {
      let module = entries[i].name.module
      guard entries[i].name.hasSuffix(".weight"), let layout = modules[module] else { continue }
      entries[i].form = .quantized(layout) { try matrix(module) }
    }
  }
}

extension String {
  /// A tensor's name without its last part: the module.
  package var module: String {
    lastIndex(of: ".").map { String(self[..<$0]) } ?? self
  }
}

/// The tensors a decoder needs, in the order a forward pass meets them.
package struct DecoderTensorOrder: Sendable {
  /// Matrices with their shapes `[out, in]`.
  package let matrices: [(name: String, shape: [Int])]
  private let vectors: [(name: String, count: Int)]
  private let ranks: [String: Int]
  private let isTied: Bool
  private let matrixNames: Set<String>

  package init(_ model: ModelConfiguration) {
    let c = DecoderConfiguration(model)
    isTied = model.tieWordEmbeddings
    var matrices: [(String, [Int])] = [
      (DecoderNames.embedding + ".weight", [c.vocabularySize, c.hiddenSize])
    ]
    var vectors: [(String, Int)] = []
    var order = [matrices[0].0]
    for layer in 0..<c.layerCount {
      let prefix = DecoderNames.layer(layer)
      func norm(_ name: String) {
        vectors.append(("\(prefix).\(name).weight", c.hiddenSize))
        order.append("\(prefix).\(name).weight")
      }
      norm("input_layernorm")
      for (index, stage) in DecoderNames.stages(c.qkvLayout).enumerated() {
        if index == 2 { norm("post_attention_layernorm") }
        for module in stage {
          let shape = DecoderNames.shape(of: module, c)
          matrices.append(("\(prefix).\(module).weight", [shape.out, shape.in]))
          order += ["\(prefix).\(module).weight", "\(prefix).\(module).bias"]
        }
      }
    }
    vectors.append((DecoderNames.finalNorm, c.hiddenSize))
    order.append(DecoderNames.finalNorm)
    if !model.tieWordEmbeddings {
      matrices.append((DecoderNames.head + ".weight", [c.vocabularySize, c.hiddenSize]))
      order.append(DecoderNames.head + ".weight")
    }
    self.matrices = matrices
    matrixNames = Set(matrices.map(\.0))
    self.vectors = vectors
    ranks = Dictionary(uniqueKeysWithValues: order.enumerated().map { ($0.element, $0.offset) })
  }

  /// Place in the order; tensors the decoder does not know come last.
  package func rank(_ name: String) -> Int {
    ranks[name] ?? (name == DecoderNames.head + ".weight" ? Int.max - 1 : Int.max)
  }

  /// The layer a tensor belongs to; nil: none.
  package func layer(of name: String) -> Int? {
    guard ranks[name] != nil, name.hasPrefix("model.layers.") else { return nil }
    return Int(name.dropFirst(13).prefix { $0 != "." })
  }

  /// Whether the matrix is best kept in panels: all that are multiplied with; an embedding that is only looked up stays in
  /// rows.
  package func isMultiplied(_ name: String) -> Bool {
    matrixNames.contains(name) && (isTied || name != matrices[0].name)
  }

  /// Whether a generated token reads all of the tensor: everything but an embedding of which it reads one row.
  package func isRead(_ name: String) -> Bool { isMultiplied(name) }

  /// Every tensor with its shape, in order, biases that the architecture has included.
  package var all: [(name: String, shape: [Int])] {
    let biases = matrices.filter { $0.name.contains("qkv_proj") }.map {
      ("\($0.name.module).bias", [$0.shape[0]])
    }
    return (matrices + vectors.map { ($0.name, [$0.count]) } + biases).sorted { rank($0.0) < rank($1.0) }
  }

  package func check(_ entries: [ModelEntry], tied: Bool, path: String) throws {
    let shapes = Dictionary(entries.map { ($0.name, $0.shape) }, uniquingKeysWith: { a, _ in a })
    for (name, shape) in matrices + vectors.map({ ($0.name, [$0.count]) }) {
      guard let found = shapes[name] else {
        throw ModelError(path: path, tensor: name, detail: "is missing; expected shape \(shape)")
      }
      guard found == shape else {
        throw ModelError(
          path: path, tensor: name, detail: "has shape \(found), the configuration needs \(shape)")
      }
    }
  }
}
