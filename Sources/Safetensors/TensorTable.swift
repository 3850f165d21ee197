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

  /// Whether both have the same elements in the same type and shape.
  package func isSame(as other: StoredTensor) -> Bool {
    guard dtype == other.dtype, shape == other.shape else { return false }
    let (a, b) = (bytes, other.bytes)
    guard let x = a.baseAddress, let y = b.baseAddress else { return a.isEmpty && b.isEmpty }
    return memcmp(x, y, a.count) == 0
  }
}

/// All tensors of a checkpoint, whether one safetensors file or shards with an index.
package final class TensorTable: Sendable {
  /// What messages call the checkpoint.
  package let path: String
  package let files: [SafetensorsFile]
  package let names: [String]
  private let table: [ByteText: StoredTensor]
  /// What the files say otherwise than their index, and which counts.
  package let discrepancies: [Discrepancy]

  /// - Parameter path: a folder as Hugging Face serves it, or one `.safetensors` file.
  package init(path: String) throws {
    self.path = path
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw FileError(.cannotOpen, path: path, detail: "no such file or folder")
    }
    let shards = isFolder.boolValue ? try ShardList(folder: path) : ShardList(file: path)
    files = try shards.paths.map { try SafetensorsFile(path: $0) }
    var table: [ByteText: StoredTensor] = [:]
    var doubled: [String] = []
    for file in files {
      for info in file.tensors {
        if table[info.name] != nil { doubled.append(info.name) }
        // Of two, the one that the index names, or the first.
        if table[info.name] == nil || shards.listed?[info.name]?.hasSameBytes(as: file.path) == true {
          table[info.name] = StoredTensor(info: info, file: file)
        }
      }
    }
    discrepancies = try shards.discrepancies + TensorTable.discrepancies(table, doubled: doubled, shards)
    self.table = table
    names = table.keys.sorted().map(\.text)
  }

  private init(_ other: TensorTable, renaming name: String, to newName: String) {
    path = other.path
    files = other.files
    discrepancies = other.discrepancies
    var table = other.table
    if let tensor = table.removeValue(forKey: name.bytes) { table[newName] = tensor }
    self.table = table
    names = table.keys.sorted().map(\.text)
  }

  /// The same tensors, one of them under another name.
  package func renaming(_ name: String, to newName: String) -> TensorTable {
    TensorTable(self, renaming: name, to: newName)
  }

  /// What the files say otherwise than their index.
  /// - Throws: when the index lists a tensor that no file has.
  private static func discrepancies(
    _ table: [ByteText: StoredTensor], doubled: [String], _ shards: ShardList
  ) throws -> [Discrepancy] {
    guard let index = shards.index, let listed = shards.listed else { return [] }
    func found(_ name: String) -> String { table[name].map { PathParts($0.file.path).name } ?? "" }
    var sentences: [String] = []
    if let name = doubled.first {
      sentences.append("two files hold \(name)\(more(doubled)); the one in \(found(name)) is used")
    }
    var moved: [String] = []
    for (name, shard) in listed.sorted(by: { $0.key < $1.key }) {
      guard let tensor = table[name.text] else {
        throw CheckpointError(.missingFromShard, path: shard, tensor: name.text)
      }
      if !tensor.file.path.hasSameBytes(as: shard) { moved.append(name.text) }
    }
    if let name = moved.first, let shard = listed[name] {
      sentences.append(
        "puts \(name)\(more(moved)) in \(PathParts(shard).name), but it is in \(found(name)), which is used")
    }
    let unlisted = table.keys.filter { listed[$0] == nil }.sorted().map(\.text)
    if let name = unlisted.first {
      sentences.append(
        "does not list \(name)\(more(unlisted)) of its shards, which are read, as in transformers")
    }
    let path = "\(PathParts(shards.paths.first ?? "").folder)/\(index)"
    return sentences.map { Discrepancy(.shards, path: path, $0) }
  }

  private static func more(_ names: [String]) -> String {
    names.count > 1 ? " and \(names.count - 1) other tensors" : ""
  }

  package subscript(name: String) -> StoredTensor? { table[name] }

  /// Tensors in the order of the files and, within one, of their data.
  package var inFileOrder: [StoredTensor] {
    files.flatMap { file in
      table.values.filter { $0.file === file }.sorted { a, b in
        let (x, y) = (a.info.range, b.info.range)
        return (x.lowerBound, x.upperBound) < (y.lowerBound, y.upperBound)
      }
    }
  }

  package var byteCount: Int { table.values.reduce(0) { $0 + $1.info.byteCount } }

  /// The tensor, checked to have the shape.
  package func required(_ name: String, shape: [Int]) throws -> StoredTensor {
    guard let tensor = self[name] else {
      throw CheckpointError(.missing(shape: shape), path: path, tensor: name)
    }
    guard tensor.shape == shape else {
      throw CheckpointError(
        .shapeMismatch(found: tensor.shape, expected: shape), path: tensor.file.path, tensor: name)
    }
    return tensor
  }
}
