import Architecture
import Compute
import Conversion
import Files
import JSON
import Models
import PackedModel
import Tensors

/// Whether a `.zhinao` file was made from a checkpoint: by the digests it records, and by making its tensors again.
package struct ProvenanceCheck: Sendable {
  package struct File: Equatable, Sendable {
    package enum State: String, Sendable { case same, differs, missing, unrecorded }
    package var name: String
    package var state: State
  }
  package private(set) var files: [File] = []
  /// Tensors made again from the source and compared; those a quantization replaced cannot be.
  package private(set) var tensorsCompared = 0
  package private(set) var tensorsOfOtherForm = 0
  package private(set) var problems: [Problem] = []

  /// Why the file is not proven to come from the source.
  package enum Problem: Equatable, Sendable, CustomStringConvertible {
    case recordsNoSources(path: String)
    case sourceMissing(name: String, source: String)
    case sourceDiffers(name: String)
    case weightsUnrecorded(name: String)
    /// The source has no tensor of this shape.
    case tensorAbsent(name: String)
    /// Made again from the source, the tensor has other bytes.
    case tensorDiffers(name: String)

    package var description: String {
      switch self {
      case .recordsNoSources(let path):
        "\(path) records no source files: it was written by an older version, or its provenance was removed"
      case .sourceMissing(let name, let source): "\(name) is recorded, but it is not in \(source)"
      case .sourceDiffers(let name):
        "\(name) is not the file that this model was made from: its SHA-256 differs"
      case .weightsUnrecorded(let name): "\(name) holds weights, but the model was made without it"
      case .tensorAbsent(let name): "tensor \(name): the source has no tensor of this shape"
      case .tensorDiffers(let name): "tensor \(name): the source gives other bytes"
      }
    }
  }

  /// Tensors that came out of the source byte for byte.
  package var tensorsEqual: Int {
    tensorsCompared
      - problems.count { if case .tensorDiffers = $0 { true } else { false } }
  }

  /// - Throws: when either cannot be opened.
  package init(path: String, source: String, pool: WorkerPool = .shared) throws {
    let packed = try PackedModelFile(path: path)
    // The blocks of a GGUF file become what the packed file's floats are.
    let embedding = try packedEmbeddingType(packed)
    let origin = try OpenedModel(path: source, dequantizedType: embedding ?? .bf16, accepting: .all)
    compareFiles(packed, SourceFiles(origin), source: source)
    try compareTensors(packed, ModelContents(origin), pool: pool)
  }

  package var json: JSONValue {
    [
      "proven": .bool(problems.isEmpty),
      "files": .array(files.map { ["name": .string($0.name), "state": .string($0.state.rawValue)] }),
      "tensors_equal_to_source": .init(tensorsEqual),
      "tensors_of_another_form": .init(tensorsOfOtherForm),
      "problems": .array(problems.map { .string($0.description) }),
    ]
  }

  private mutating func compareFiles(_ packed: PackedModelFile, _ sources: SourceFiles, source: String) {
    guard let recorded = packed.header.provenance["sources"]?.arrayValue, !recorded.isEmpty else {
      problems.append(.recordsNoSources(path: packed.path))
      return
    }
    var left = Dictionary(uniqueKeysWithValues: sources.entries.map { ($0.name.bytes, $0) })
    for entry in recorded {
      guard let name = entry["name"]?.stringValue, let digest = entry["sha256"]?.stringValue else { continue }
      guard let found = left.removeValue(forKey: name.bytes) else {
        files.append(File(name: name, state: .missing))
        problems.append(.sourceMissing(name: name, source: source))
        continue
      }
      if found.byteCount == entry["bytes"]?.intValue, (try? Checksum.sha256(ofFile: found.path)) == digest {
        files.append(File(name: name, state: .same))
      } else {
        files.append(File(name: name, state: .differs))
        problems.append(.sourceDiffers(name: name))
      }
    }
    for name in left.keys.sorted().map(\.text) {
      files.append(File(name: name, state: .unrecorded))
      if name.bytes.hasSuffix(".safetensors") {
        problems.append(.weightsUnrecorded(name: name))
      }
    }
  }

  private mutating func compareTensors(
    _ packed: PackedModelFile, _ contents: ModelContents, pool: WorkerPool
  ) throws {
    let index = contents.index
    let entries = Dictionary(
      uniqueKeysWithValues: contents.entries.map { (index.name(of: $0.key).bytes, $0) })
    for tensor in packed.header.tensors {
      guard let entry = entries[tensor.name], entry.shape == tensor.shape else {
        problems.append(.tensorAbsent(name: tensor.name))
        continue
      }
      let packer = ModelPacker(contents, dtype: tensor.encoding.dtype, recordsSelfCheck: false, pool: pool)
      guard packer.encoding(of: entry) == tensor.encoding else {
        tensorsOfOtherForm += 1
        continue
      }
      tensorsCompared += 1
      var crc: UInt32 = 0
      try packer.emit(entry, as: tensor) { crc = ParallelChecksum.crc32($0, continuing: crc, pool: pool) }
      if crc != tensor.crc32 { problems.append(.tensorDiffers(name: tensor.name)) }
    }
  }
}

/// The type in which a packed file keeps its embedding; nil: as integers.
private func packedEmbeddingType(_ packed: PackedModelFile) throws -> DType? {
  let index = TensorIndex(
    try packed.files.modelConfiguration(tensorNames: packed.header.tensors.map(\.name)))
  return packed.tensor(index.name(of: TensorID(.embedding)))?.encoding.dtype
}

extension PackedTensor.Encoding {
  fileprivate var dtype: DType? {
    switch self {
    case .rows(let dtype), .panels(let dtype): dtype
    case .intPanels: nil
    }
  }
}
