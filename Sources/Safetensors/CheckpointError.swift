import Files
import JSON
import Tensors

/// Why a checkpoint was refused: which rule it breaks, in which file, at which tensor.
package struct CheckpointError: DiagnosedError, Equatable {
  /// One case per rule. S1 to S9 are those of `Formats/safetensors.md`. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    // MARK: One file
    /// Something else stands where the file should be.
    case foreign(ForeignContent)
    /// S1: the file is shorter than its length field.
    case noHeaderLength(found: Int)
    /// S1: the length field promises more header than the file holds. Sizes in bytes.
    case headerTruncated(declared: Int, available: Int)
    /// S2: the header is longer than the format allows.
    case headerTooLong(declared: UInt64, limit: Int)
    /// S3: the header does not start with `{`.
    case headerNotAnObject
    /// S3: the header is no JSON.
    case headerNotJSON(JSONError)
    /// S4
    case metadataNotAnObject
    /// S4: a value of the metadata is not a string.
    case metadataNotText(key: String)
    /// S5: the tensor's entry is not an object.
    case noDescription
    /// S5
    case noDType
    /// S5
    case unknownDType(String)
    /// S5
    case noShape
    /// S6
    case noOffsets
    /// S6: the tensor ends outside the file. Bytes of the data.
    case endsOutside(end: Int, available: Int)
    /// S7: shape and type disagree with the offsets. Sizes in bytes; nil: the product overflows or a dimension is negative.
    case byteCountMismatch(found: Int, dtype: DType, shape: [Int], expected: Int?)
    /// S8: the tensor overlaps the one before it, or leaves a hole. Bytes of the data.
    case notContiguous(start: Int, expected: Int)
    /// S9
    case excess(byteCount: Int)

    // MARK: A folder
    /// The index says that the tensor is in this shard.
    case missingFromShard
    /// The configuration needs the tensor.
    case missing(shape: [Int])
    /// The tensor has another shape than the configuration needs.
    case shapeMismatch(found: [Int], expected: [Int])
    /// No safetensors file and no index.
    case noWeights
    /// Several files, and no index to say what is in which.
    case noIndex(fileCount: Int)
    /// The index has no `weight_map`.
    case noWeightMap
    /// The index names a file outside of its folder.
    case notAFileName
    /// A shard that the index names is not there; `unnamed` is a file that it does not name.
    case shardMissing(index: String, tensorCount: Int, unnamed: String?)

    // MARK: Weights in other forms
    /// An adapter, where a model is expected.
    case adapter
    /// A DeepSpeed ZeRO checkpoint.
    case zero
    /// Weights in a file of this name that has to become another first.
    case foreignFile(String, ForeignContent)
    /// Pickled weights in the file of this name.
    case pickle(String)
    /// A pickled adapter in the file of this name.
    case pickledAdapter(String)

    /// A rule of the caller's own, as the end of a sentence whose subject is the tensor or the file.
    case refused(String, FailureCategory)
  }
  package var reason: Reason
  package var path: String
  package var tensor: String?

  package init(_ reason: Reason, path: String, tensor: String? = nil) {
    self.reason = reason
    self.path = path
    self.tensor = tensor
  }

  /// A rule of the caller's own.
  package init(path: String, tensor: String? = nil, detail: String, category: FailureCategory = .badInput) {
    self.init(.refused(detail, category), path: path, tensor: tensor)
  }

  package var category: FailureCategory {
    switch reason {
    case .noWeights, .shardMissing: .cannotOpenInput
    case .refused(_, let category): category
    default: .badInput
    }
  }

  package var description: String {
    "\(path): \(tensor.map { "tensor \($0) " } ?? "")\(reason.text(path: path))"
  }
}

extension CheckpointError.Reason {
  /// The end of a sentence whose subject is the tensor or the file, with the number of the rule.
  func text(path: String) -> String {
    switch self {
    case .foreign(let content): content.description
    case .noHeaderLength(let found):
      "is not a safetensors file: \(found) bytes, shorter than the 8-byte header length (S1)"
    case .headerTruncated(let declared, let available):
      "is truncated: the header needs \(declared) bytes, the file has \(available) after its length field (S1)"
    case .headerTooLong(let declared, let limit):
      "is not a safetensors file: its header claims \(declared) bytes, the format allows \(limit) (S2)"
    case .headerNotAnObject: "header does not start with { (S3)"
    case .headerNotJSON(let error): "header is \(error.description) (S3)"
    case .metadataNotAnObject: "__metadata__ is not an object (S4)"
    case .metadataNotText(let key): "__metadata__.\(key) is not a string (S4)"
    case .noDescription: "has no description object (S5)"
    case .noDType: "has no dtype (S5)"
    case .unknownDType(let name):
      "has dtype \(name); known are \(DType.allCases.map(\.rawValue).joined(separator: " ")) (S5)"
    case .noShape: "has no shape of whole numbers (S5)"
    case .noOffsets: "has no data_offsets [begin, end] with 0 <= begin <= end (S6)"
    case .endsOutside(let end, let available):
      "ends at data byte \(end), the file has \(available): it is truncated (S6)"
    case .byteCountMismatch(let found, let dtype, let shape, let expected):
      "has \(found) bytes, \(dtype.rawValue) \(shape) takes "
        + "\(expected.map(String.init) ?? "an impossible number of") bytes (S7)"
    case .notContiguous(let start, let expected):
      "\(start < expected ? "overlaps the tensor before it" : "leaves a hole before it"): its data starts at byte "
        + "\(start), \(expected) expected (S8)"
    case .excess(let byteCount): "has \(byteCount) bytes after the last tensor (S9)"
    case .missingFromShard: "is missing, though the index says it is in this shard"
    case .missing(let shape): "is missing; expected shape \(shape)"
    case .shapeMismatch(let found, let expected): "has shape \(found), the configuration needs \(expected)"
    case .noWeights: "has no model.safetensors.index.json and no *.safetensors file"
    case .noIndex(let count):
      "has \(count) safetensors files but no model.safetensors.index.json to say what is in which"
    case .noWeightMap: "has no weight_map object"
    case .notAFileName: "is not mapped to a file name of this folder"
    case .shardMissing(let index, let count, let unnamed):
      "shard is missing; \(index) puts \(count) tensors in it"
        + (unnamed.map { ", and does not name \($0): it is the index of another download" } ?? "")
    case .adapter:
      "is an adapter, not a model; merge it into its base: zhinao-convert BASE --merge-lora \(path) -o OUTPUT"
    case .zero:
      "is a DeepSpeed ZeRO checkpoint: its weights lie in pieces among optimizer states. Make safetensors of it with "
        + "the script DeepSpeed put there, python zero_to_fp32.py . OUTPUT --safe_serialization, and copy config.json "
        + "and the tokenizer's files to OUTPUT"
    case .foreignFile(let name, let content): "has no safetensors file; \(name) \(content)"
    case .pickle(let name):
      "holds pickled weights (\(name)); a pickle can execute code when it is read, so they are not read here. Make "
        + "safetensors of them in their folder: python -c \"import glob, torch; from safetensors.torch import save_file; "
        + "d = {}; [d.update(torch.load(f, map_location='cpu', weights_only=True)) for f in "
        + "sorted(glob.glob('*.bin')) if f != 'training_args.bin']; save_file({k: v.clone() for k, v in d.items()}, "
        + "'model.safetensors', {'format': 'pt'})\""
    case .pickledAdapter(let name):
      "holds a pickled adapter (\(name)); a pickle can execute code when it is read, so it is not read here. Make "
        + "safetensors of it there: python -c \"import torch; from safetensors.torch import save_file; "
        + "save_file(torch.load('\(name)', map_location='cpu', weights_only=True), 'adapter_model.safetensors')\""
    case .refused(let detail, _): detail
    }
  }
}
