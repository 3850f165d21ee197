import Files
import Foundation
import Tensors

/// A tensor of a checkpoint and the file that holds it.
package struct StoredTensor: Sendable {
  package let info: TensorInfo
  package let file: SafetensorsFile

  package var name: String { info.name }
  package var dtype: DType { info.dtype }
  package var shape: [Int] { info.shape }
  package var bytes: UnsafeRawBufferPointer { file.bytes(of: info) }
}

/// All tensors of a checkpoint, whether one safetensors file or shards with an index.
package final class TensorTable: Sendable {
  /// What messages call the checkpoint.
  package let path: String
  package let files: [SafetensorsFile]
  package let names: [String]
  private let table: [ByteText: StoredTensor]

  /// - Parameter path: a folder as Hugging Face serves it, or one `.safetensors` file.
  package init(path: String) throws {
    self.path = path
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw FileError(.cannotOpen, path: path, detail: "no such file or folder")
    }
    let shards: [ByteText: [String]?]
    if isFolder.boolValue {
      shards = try TensorTable.shards(inFolder: path)
    } else {
      shards = [path.bytes: nil]
    }
    var table: [ByteText: StoredTensor] = [:]
    var files: [SafetensorsFile] = []
    for (shard, listed) in shards.sorted(by: { $0.key < $1.key }) {
      let file = try SafetensorsFile(path: shard.text)
      files.append(file)
      for name in listed ?? file.tensors.map(\.name) {
        guard let info = file.tensor(name) else {
          throw CheckpointError(
            path: shard.text, tensor: name, detail: "is missing, though the index says it is in this shard")
        }
        table[name] = StoredTensor(info: info, file: file)
      }
    }
    self.table = table
    self.files = files
    names = table.keys.sorted().map(\.text)
  }

  package subscript(name: String) -> StoredTensor? { table[name] }

  /// Tensors in the order of the files and, within one, of their data.
  package var inFileOrder: [StoredTensor] {
    files.flatMap { file in file.tensors.compactMap { table[$0.name] }.filter { $0.file === file } }
  }

  package var byteCount: Int { table.values.reduce(0) { $0 + $1.info.byteCount } }

  /// The tensor, checked to have the shape.
  package func required(_ name: String, shape: [Int]) throws -> StoredTensor {
    guard let tensor = self[name] else {
      throw CheckpointError(path: path, tensor: name, detail: "is missing; expected shape \(shape)")
    }
    guard tensor.shape == shape else {
      throw CheckpointError(
        path: tensor.file.path, tensor: name,
        detail: "has shape \(tensor.shape), the configuration needs \(shape)")
    }
    return tensor
  }

  // MARK: Which files

  /// Paths of the shards with the tensors an index lists for each; nil: all the file has.
  private static func shards(inFolder folder: String) throws -> [ByteText: [String]?] {
    let names =
      (try? FileManager.default.contentsOfDirectory(atPath: folder))?.sorted { $0.bytes < $1.bytes } ?? []
    let files = FolderFiles(folder)
    var bases = ["model"]
    let configuration = try files.json(named: "quantize_config.json")
    if let base = configuration?["model_file_base_name"]?.stringValue, !base.bytes.contains("/") {
      bases.insert(base, at: 0)
    }
    if let quantized = names.first(where: {
      $0.bytes.hasPrefix("gptq_model-") && $0.bytes.hasSuffix(".safetensors")
    }) {
      bases.append(quantized.bytes.dropping(suffix: ".safetensors") ?? quantized)
    }
    for base in bases {
      let index = "\(base).safetensors.index.json"
      if names.contains(index) { return try shards(index: index, files: files) }
      if names.contains("\(base).safetensors") { return ["\(folder)/\(base).safetensors".bytes: nil] }
    }
    let single = names.filter { $0.bytes.hasSuffix(".safetensors") }
    switch single.count {
    case 1: return ["\(folder)/\(single[0])".bytes: nil]
    case 0:
      throw ForeignWeights.refusal(ofFolder: folder)
        ?? CheckpointError(
          path: folder, detail: "has no model.safetensors.index.json and no *.safetensors file",
          category: .cannotOpenInput)
    default:
      throw CheckpointError(
        path: folder,
        detail:
          "has \(single.count) safetensors files but no model.safetensors.index.json to say what is in which")
    }
  }

  private static func shards(index: String, files: FolderFiles) throws -> [ByteText: [String]?] {
    let path = files.label(of: index)
    guard let map = try files.json(named: index)?["weight_map"]?.objectValue else {
      throw CheckpointError(path: path, detail: "has no weight_map object")
    }
    var shards: [ByteText: [String]] = [:]
    for (tensor, value) in map.members {
      guard let name = value.stringValue, !name.isEmpty, !name.bytes.contains("/"), name != "..",
        !name.bytes.contains("\0")
      else {
        throw CheckpointError(
          path: path, tensor: tensor, detail: "is not mapped to a file name of this folder")
      }
      shards["\(files.location)/\(name)", default: []].append(tensor)
    }
    for shard in shards.keys.sorted() where !FileManager.default.fileExists(atPath: shard.text) {
      throw CheckpointError(
        path: shard.text,
        detail: "shard is missing; \(index) puts \(shards[shard]?.count ?? 0) tensors in it",
        category: .cannotOpenInput)
    }
    return shards.mapValues { $0 }
  }
}
