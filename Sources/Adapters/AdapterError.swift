import Files
import Tensors

/// Why an adapter cannot be read, or not be used with a model.
package struct AdapterError: DiagnosedError, Equatable {
  /// One case per rule. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    // MARK: Files
    /// No `adapter_config.json`.
    case noAdapterConfiguration
    /// No `adapter_config.json`, but folders that have one.
    case namedAdapters([String])
    /// No `adapter_model.safetensors`.
    case noAdapterWeights
    case emptyAdapter
    /// The tensor is not of a float type that the kernels read.
    case wrongType(DType)
    /// Not A, not B, not a whole weight.
    case unknownAdapterTensor
    /// A or B is missing, or they do not fit each other.
    case noPair
    /// A has another rank than the settings say.
    case rankDiffers(found: Int, expected: Int)
    /// Trained rows that `trainable_token_indices` does not place in the matrix.
    case rowsUnknown([Int])
    /// An element that is NaN or infinite.
    case notFinite(index: Int)

    // MARK: Settings
    /// A kind of adapter that a sum B·A does not describe.
    case notPlainLoRA(String)
    /// An adapter that acts only on what follows certain tokens.
    case activatedByTokens
    /// A setting that must be a positive number.
    case notAPositiveNumber(key: String)
    /// A setting that must be a number.
    case notANumber(key: String)
    /// A regular expression of the setting.
    case badPattern(key: String, NamePattern.Failure)
    /// `rank_pattern` gives a module a rank below 1.
    case badRank(module: String, Int)
    /// The settings leave out every module that the file has weights for; the first of them.
    case nothingTargeted(String)

    // MARK: The base model
    /// A weight that was trained as a whole has another shape than the base model's.
    case replacementDoesNotFit(shape: [Int], base: [Int])
    /// The base model has no such tensor of floats.
    case noTensorInBase(shape: [Int], base: String)
    /// The base model has no such module.
    case noModuleInBase(base: String)
    /// The base model's matrix has another shape.
    case updateDoesNotFit(update: [Int], matrix: String, shape: [Int])
    /// The model is no decoder; only those are used with an adapter beside them.
    case baseIsNoDecoder(String)

    // MARK: Use beside the model
    /// What only a merged model can have.
    case needsMerge(MergedOnly)
    /// Two adapters that are added up were trained with the same weight as a whole.
    case replacedTwice
    /// What stands after the colon of an argument is no number.
    case badFactor(String)
    /// Adapters are added up with a factor, which a weight that takes the place of another one does not have.
    case replacementWithFactor(Float)
  }

  /// Changes of a model that are not made while it runs.
  package enum MergedOnly: Equatable, Sendable {
    case embedding, tokenRows, vocabulary, tiedMatrices
  }

  package var reason: Reason
  package var path: String
  package var tensor: String?

  package init(_ reason: Reason, path: String, tensor: String? = nil) {
    self.reason = reason
    self.path = path
    self.tensor = tensor
  }

  package var category: FailureCategory {
    switch reason {
    case .noAdapterConfiguration, .namedAdapters, .noAdapterWeights: .cannotOpenInput
    case .badFactor: .usage
    default: .badInput
    }
  }

  package var description: String { "\(path): \(tensor.map { "\($0) " } ?? "")\(reason)" }
}

extension AdapterError.Reason: CustomStringConvertible {
  /// The end of a sentence whose subject is the tensor or the file.
  package var description: String {
    switch self {
    case .wrongType(let found): "is \(found.rawValue), expected BF16, F16 or F32"
    case .notFinite(let index): "element \(index) is NaN or infinite"
    case .noAdapterConfiguration: "has no adapter_config.json: it is not a PEFT adapter"
    case .namedAdapters(let names):
      "holds \(names.count == 1 ? "an adapter" : "adapters") in \(names.prefix(5).joined(separator: ", ")); name one of these folders"
    case .noAdapterWeights: "has no adapter_model.safetensors"
    case .emptyAdapter: "holds no tensors"
    case .unknownAdapterTensor:
      "is neither lora_A, lora_B nor a whole weight; merge it with PEFT's merge_and_unload"
    case .noPair: "has no lora_A [rank, in] and lora_B [out, rank] that fit"
    case .rankDiffers(let found, let expected): "has rank \(found), but adapter_config.json says \(expected)"
    case .notPlainLoRA(let what):
      "\(what), which is not a plain sum B·A; merge it with PEFT's merge_and_unload, then convert the result"
    case .notAPositiveNumber(let key): "\(key) is not a positive number"
    case .notANumber(let key): "\(key) is not a number"
    case .activatedByTokens:
      "alora_invocation_tokens is set: the adapter acts only on what follows these tokens, so it is neither merged into weights nor used beside them"
    case .badPattern(let key, let failure): "\(key): \(failure)"
    case .nothingTargeted(let module):
      "has weights for \(module), which target_modules and the settings beside it in adapter_config.json leave out; correct the settings"
    case .rowsUnknown(let shape):
      "has shape \(shape), which does not fit trainable_token_indices of adapter_config.json"
    case .replacementDoesNotFit(let shape, let base):
      "has shape \(shape), the base model's tensor has \(base): is it the adapter's base model?"
    case .badRank(let module, let rank): "rank_pattern gives \(module) the rank \(rank)"
    case .noTensorInBase(let shape, let base): "has shape \(shape); \(base) has no such tensor of floats"
    case .noModuleInBase(let base):
      "is updated by the adapter, but \(base) has no such module: is it the adapter's base model?"
    case .updateDoesNotFit(let update, let matrix, let shape):
      "updates a matrix \(update), \(matrix) is \(shape): is it the adapter's base model?"
    case .baseIsNoDecoder(let family):
      "is an adapter for a decoder, but the model is a \(family) model; only decoders are used with adapters"
    case .needsMerge(let what):
      "\(what), which is not done while the model runs; merge the adapter with zhinao-convert --merge-lora"
    case .replacedTwice:
      "was trained as a whole by two of the adapters, so that they do not add up; give one of them"
    case .badFactor(let text):
      "what follows the colon, \(text), is not a number; expected a factor such as 0.5"
    case .replacementWithFactor(let factor):
      "was trained as a whole, so that the adapter cannot be added with the factor \(factor); leave the factor out"
    }
  }
}

extension AdapterError.MergedOnly: CustomStringConvertible {
  package var description: String {
    switch self {
    case .embedding: "changes the embedding"
    case .tokenRows: "brings rows of its own for some tokens"
    case .vocabulary: "was trained with another number of tokens than the model has"
    case .tiedMatrices: "changes embedding and head together (ensure_weight_tying)"
    }
  }
}
