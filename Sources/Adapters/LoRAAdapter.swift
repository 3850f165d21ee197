import Files
import Foundation
import JSON
import Safetensors

/// A PEFT adapter of type LoRA: for some modules two thin matrices A `[rank, in]` and B `[out, rank]`, weights that were trained as a
/// whole (`modules_to_save`), and single rows of an embedding (`trainable_token_indices`).
package struct LoRAAdapter: Sendable {
  /// What one module's weight gains: `scale · B · A`, for an embedding the transpose of it.
  package struct Update: Sendable {
    package let a: StoredTensor
    package let b: StoredTensor
    package let scale: Float
    /// A is `[rank, rows]` and B is `[columns, rank]` of the embedding.
    package let isOfEmbedding: Bool

    package var rank: Int { a.shape[0] }
    /// The shape of the weight.
    package var shape: [Int] { isOfEmbedding ? [a.shape[1], b.shape[0]] : [b.shape[0], a.shape[1]] }
  }

  /// Rows that take the place of an embedding's.
  package struct Rows: Sendable {
    package let values: StoredTensor
    package let places: [Int]
  }

  package let path: String
  /// By the module's name in the base model, for example `model.layers.0.self_attn.q_proj`.
  package let updates: [ByteText: Update]
  /// Tensors that were trained in place of the base model's, by name.
  package let replacements: [ByteText: StoredTensor]
  /// Tensors of the base model as it was trained on, by name: an embedding that was enlarged before.
  package let originals: [ByteText: StoredTensor]
  /// By the module's name.
  package let rows: [ByteText: Rows]
  /// Tied matrices stay tied (`ensure_weight_tying`).
  package let keepsTies: Bool
  /// Modules with weights in the file that the settings leave out, as PEFT does.
  package let untargeted: [String]
  /// The files beside the weights, a tokenizer among them.
  package let files: FolderFiles

  /// - Parameter path: a folder with `adapter_config.json` and `adapter_model.safetensors`.
  /// - Throws: when it holds anything but plain LoRA weights, which a merge would get wrong.
  package init(path: String) throws {
    self.path = path
    guard FileManager.default.fileExists(atPath: path) else {
      throw FileError(.cannotOpen, path: path, detail: "no such folder")
    }
    files = FolderFiles(path)
    guard let object = try files.json(named: "adapter_config.json")?.objectValue else {
      let inner = LoRAAdapter.innerFolders(path)
      throw AdapterError(inner.isEmpty ? .noAdapterConfiguration : .namedAdapters(inner), path: path)
    }
    let settings = try LoRASettings(object, label: files.label(of: "adapter_config.json"))
    keepsTies = settings.keepsTies
    guard FileManager.default.fileExists(atPath: "\(path)/adapter_model.safetensors") else {
      throw ForeignWeights.refusal(ofFolder: path)
        ?? AdapterError(.noAdapterWeights, path: path)
    }
    let table = try TensorTable(path: "\(path)/adapter_model.safetensors")
    func bad(_ reason: AdapterError.Reason, _ tensor: String) -> AdapterError {
      AdapterError(reason, path: table.path, tensor: tensor)
    }
    var pairs: [ByteText: Pair] = [:]
    var replacements: [ByteText: StoredTensor] = [:]
    var originals: [ByteText: StoredTensor] = [:]
    var rows: [ByteText: Rows] = [:]
    for tensor in table.inFileOrder {
      guard [.f32, .f16, .bf16].contains(tensor.dtype) else {
        throw bad(.wrongType(tensor.dtype), tensor.name)
      }
      let (name, part) = LoRAAdapter.parsed(tensor.name)
      switch part {
      case .a(let isOfEmbedding): pairs[name, default: Pair(isOfEmbedding)].a = tensor
      case .b(let isOfEmbedding): pairs[name, default: Pair(isOfEmbedding)].b = tensor
      case .whole:
        let module = name.bytes.dropping(suffix: ".weight") ?? name
        if settings.isSaved(module) { replacements[name] = tensor } else { originals[name] = tensor }
      case .original: originals[name] = tensor
      case .rows:
        guard let places = settings.tokenRows(of: name), tensor.shape.count == 2,
          places.count == tensor.shape[0]
        else { throw bad(.rowsUnknown(tensor.shape), tensor.name) }
        rows[name] = Rows(values: tensor, places: places)
      case nil: throw bad(.unknownAdapterTensor, tensor.name)
      }
    }
    var updates: [ByteText: Update] = [:]
    var untargeted: [String] = []
    for (key, pair) in pairs.sorted(by: { $0.key < $1.key }) {
      let name = key.text
      guard let a = pair.a, let b = pair.b, a.shape.count == 2, b.shape.count == 2, a.shape[0] == b.shape[1]
      else { throw bad(.noPair, name) }
      guard try settings.isTarget(name) else {
        untargeted.append(name)
        continue
      }
      let rank = try settings.rank(of: name)
      guard a.shape[0] == rank else { throw bad(.rankDiffers(found: a.shape[0], expected: rank), a.name) }
      updates[key] = Update(
        a: a, b: b, scale: try settings.scale(of: name), isOfEmbedding: pair.isOfEmbedding)
    }
    self.updates = updates
    self.untargeted = untargeted
    self.replacements = replacements
    self.originals = originals
    self.rows = rows
    if updates.isEmpty && replacements.isEmpty && originals.isEmpty && rows.isEmpty {
      throw AdapterError(
        untargeted.isEmpty ? .emptyAdapter : .nothingTargeted(untargeted[0]), path: table.path)
    }
  }

  /// SHA-256 that tells the adapter from others: of the digests of its settings and its weights.
  package func digest() throws -> String {
    let digests = try ["adapter_config.json", "adapter_model.safetensors"].map {
      try Checksum.sha256(ofFile: "\(path)/\($0)")
    }
    return Array(digests.joined().utf8).withUnsafeBytes { Checksum.sha256($0) }
  }

  /// Folders of adapters with a name of their own, which PEFT puts into one folder.
  private static func innerFolders(_ path: String) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return names.filter { FileManager.default.fileExists(atPath: "\(path)/\($0)/adapter_config.json") }
      .sorted()
  }

  private struct Pair {
    var a: StoredTensor?
    var b: StoredTensor?
    let isOfEmbedding: Bool
    init(_ isOfEmbedding: Bool) { self.isOfEmbedding = isOfEmbedding }
  }

  private enum Part {
    case a(isOfEmbedding: Bool)
    case b(isOfEmbedding: Bool)
    case whole, original, rows
  }

  /// The base model's name for a tensor of an adapter, of the module for A, B and rows. PEFT wraps the model in
  /// `base_model.model.`, and older files keep the adapter's own name (`lora_A.default.weight`).
  private static func parsed(_ name: String) -> (String, Part?) {
    var name = name
    while let inner = name.bytes.dropping(prefix: "base_model.model.") { name = inner }
    let marks: [(String, Part)] = [
      (".lora_A.", .a(isOfEmbedding: false)), (".lora_B.", .b(isOfEmbedding: false)),
      (".lora_embedding_A", .a(isOfEmbedding: true)), (".lora_embedding_B", .b(isOfEmbedding: true)),
      (".token_adapter.trainable_tokens_delta", .rows),
    ]
    for (mark, part) in marks {
      guard let range = name.bytes.range(of: mark) else { continue }
      // Of Linear layers `weight` or `default.weight`, of the others nothing or `.default`.
      let rest = name[range.upperBound...].bytes.split(separator: ".").filter { !$0.isEmpty }
      let isOfLinear = mark.bytes.hasSuffix(".")
      guard isOfLinear ? rest.last == "weight" && rest.count <= 2 : rest.count <= 1 else {
        return (name, nil)
      }
      return (String(name[..<range.lowerBound]), part)
    }
    if name.bytes.contains("lora_") || name.bytes.contains(".token_adapter.") { return (name, nil) }
    for wrapper in [".base_layer.", ".original_module."] where name.bytes.contains(wrapper) {
      return (name.bytes.replacing(wrapper, with: "."), .original)
    }
    if let range = name.bytes.range(of: ".modules_to_save.") {
      // The adapter's name, if it is there, and the part of the module.
      let part = name[range.upperBound...].bytes.split(separator: ".").last ?? ""
      return ("\(name[..<range.lowerBound]).\(part)", .whole)
    }
    return (name, .whole)
  }
}
