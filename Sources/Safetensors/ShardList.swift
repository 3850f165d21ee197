import Files
import Foundation
import JSON

/// Which safetensors files of a folder hold its weights. Chosen as transformers does: `model.safetensors` before an index,
/// and an index before files of other names.
struct ShardList {
  /// Sorted.
  let paths: [String]
  /// The index that chose them, and the file in which it puts each tensor; nil: there is none.
  let index: String?
  let listed: [ByteText: String]?
  private(set) var discrepancies: [Discrepancy] = []

  init(file path: String) {
    paths = [path]
    index = nil
    listed = nil
  }

  /// - Throws: ``CheckpointError`` when it is not clear which files they are, or one of them is missing.
  init(folder: String) throws {
    let files = FolderFiles(folder)
    let names =
      (try? FileManager.default.contentsOfDirectory(atPath: folder))?.sorted { $0.bytes < $1.bytes } ?? []
    for base in try ShardList.bases(files, names: names) {
      let (whole, index) = ("\(base).safetensors", "\(base).safetensors.index.json")
      if names.contains(whole) {
        self.init(file: "\(folder)/\(whole)")
        if names.contains(index) {
          discrepancies.append(
            Discrepancy(
              .shards, path: folder,
              "holds \(whole) and \(index); the weights are read from \(whole), as transformers does. "
                + "Remove the one that is out of date"))
        }
        return
      }
      if names.contains(index) {
        try self.init(index: index, files: files, base: base, names: names)
        return
      }
    }
    let single = names.filter { $0.bytes.hasSuffix(".safetensors") }
    switch single.count {
    case 1: self.init(file: "\(folder)/\(single[0])")
    case 0: throw ForeignWeights.refusal(ofFolder: folder) ?? CheckpointError(.noWeights, path: folder)
    default: throw CheckpointError(.noIndex(fileCount: single.count), path: folder)
    }
  }

  /// What the files may be called, without their ending.
  private static func bases(_ files: FolderFiles, names: [String]) throws -> [String] {
    var bases = ["model"]
    let configuration = try files.json(named: "quantize_config.json")
    if let base = configuration?["model_file_base_name"]?.stringValue, !base.bytes.contains("/") {
      bases.append(base)
    }
    if let quantized = names.first(where: {
      $0.bytes.hasPrefix("gptq_model-") && $0.bytes.hasSuffix(".safetensors")
    }) {
      bases.append(quantized.bytes.dropping(suffix: ".safetensors") ?? quantized)
    }
    return bases
  }

  private init(index: String, files: FolderFiles, base: String, names: [String]) throws {
    let path = files.label(of: index)
    guard let map = try files.json(named: index)?["weight_map"]?.objectValue else {
      throw CheckpointError(.noWeightMap, path: path)
    }
    var listed: [ByteText: String] = [:]
    var counts: [ByteText: Int] = [:]
    for (tensor, value) in map.members {
      guard let name = value.stringValue, !name.isEmpty, !name.bytes.contains("/"), name != "..",
        !name.bytes.contains("\0")
      else {
        throw CheckpointError(.notAFileName, path: path, tensor: tensor)
      }
      let shard = "\(files.location)/\(name)"
      listed[tensor] = shard
      counts[shard, default: 0] += 1
    }
    let others = names.filter {
      $0.bytes.hasPrefix("\(base)-") && $0.bytes.hasSuffix(".safetensors")
        && counts["\(files.location)/\($0)"] == nil
    }
    let shards = counts.keys.sorted().map(\.text)
    for shard in shards where !FileManager.default.fileExists(atPath: shard) {
      throw CheckpointError(
        .shardMissing(index: index, tensorCount: counts[shard] ?? 0, unnamed: others.first), path: shard)
    }
    paths = shards
    self.index = index
    self.listed = listed
    if let first = others.first {
      let more = others.count > 1 ? " and \(others.count - 1) other files" : ""
      discrepancies.append(
        Discrepancy(.shards, path: files.location, "\(index) does not name \(first)\(more): not read"))
    }
  }
}
