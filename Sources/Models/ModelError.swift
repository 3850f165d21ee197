import Files
import Tensors

/// Why a model cannot be opened or run.
package struct ModelError: DiagnosedError, Equatable {
  /// One case per rule. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    // MARK: One tensor
    /// The model needs the tensor; nil: whatever its shape.
    case missing(expected: [Int]?)
    /// The tensor has another shape than the configuration needs.
    case wrongShape(found: [Int], expected: [Int])
    /// The tensor is not of a type that the kernels read.
    case wrongType(DType)
    /// The tensor is not of floats, or not of this shape.
    case notFloats(expected: [Int])
    /// No memory can hold a tensor of this shape.
    case impossibleShape([Int])
    /// The tensor has no elements.
    case empty
    /// Two tensors of the file stand for this one.
    case appearsTwice
    /// A vector in blocks of this GGUF type.
    case vectorInBlocks(type: String)
    /// An element that is NaN or infinite.
    case notFinite(index: Int, String)
    /// An element that is NaN, infinite or outside the range of the type that it is brought to.
    case outOfRange(index: Int, DType)
    /// The scale of a block is NaN or infinite.
    case scaleNotFinite
    /// A bias where the family has none changes the result unless it is zero.
    case unexpectedBias(index: Int, String, family: String)
    /// The family's table has no such tensor.
    case notADecoderTensor(family: String)
    /// Integer codes under a name that is not one of the family's matrices.
    case notAnIntegerMatrix(family: String)
    /// The integer matrix does not fit panels, in the layout's words.
    case notPanels(String)
    /// Tensors to be joined were quantized in different ways.
    case partsDiffer
    /// Tensors to be joined are of different types.
    case typesDiffer

    // MARK: The whole model
    /// A model of that family where only decoders, or only encoders, are of use.
    case isEncoder(String)
    case isDecoder(String)
    /// Integer matrices, and nothing that says how they were made.
    case quantizationUnknown(bits: Int)
    /// The file has fewer bytes than rows of queries that it declares.
    case tooSmall(heads: Int, headDim: Int)
    /// A look at every byte found this.
    case problem(ModelProblem)
    /// One safetensors file, without the folder that it belongs to.
    case singleSafetensorsFile
    /// The tokenizer has ids that the model has no rows for.
    case tokenizerTooLarge(tokens: Int, rows: Int)
    /// A self-check was asked for and the file has no record.
    case noSelfCheck
    /// The self-check gave other numbers, as the record says where.
    case selfCheckFailed(String)
    /// Codes of GPTQ, and no file that says how they were made.
    case codesWithoutSettings
    /// No head, and the configuration does not say that the embedding is the head.
    case noHead

    // MARK: GGUF
    /// A key of the metadata is missing.
    case metadataMissing(key: String)
    case unknownArchitecture(String, known: [String])
    case mixtureOfExperts
    /// The embedding, whose shape gives the vocabulary.
    case noEmbedding
    /// Keys and values of different lengths.
    case valueLengthDiffers
    case partialRotation(rotated: Int, headDim: Int)
    case unknownScaling(key: String, String)
    /// A setting of scaling that changes what linear scaling computes.
    case unknownScalingSetting(key: String, Double)
    /// Factors of rotary frequencies beside a linear scaling of positions.
    case twoScalings
    /// Factors of rotary frequencies that are not Llama 3's.
    case unknownFrequencies
    /// llama.cpp knows no pre-tokenizer that cuts text as this tokenizer does.
    case unknownPreTokenizer
    case tokensWithSameText
    /// No `tokenizer.json`.
    case noMerges
  }
  package var reason: Reason
  package var path: String
  package var tensor: String?

  package init(_ reason: Reason, path: String, tensor: String? = nil) {
    self.reason = reason
    self.path = path
    self.tensor = tensor
  }

  package var category: FailureCategory { .badInput }

  /// Whether a GGUF file without the tokenizer would have no such error.
  package var concernsTokenizer: Bool {
    switch reason {
    case .unknownPreTokenizer, .tokensWithSameText, .noMerges: true
    default: false
    }
  }

  package var description: String { "\(path): \(tensor.map { "\($0) " } ?? "")\(reason)" }
}

extension ModelError.Reason: CustomStringConvertible {
  /// The end of a sentence whose subject is the tensor or the file.
  package var description: String {
    switch self {
    case .missing(let expected?): "is missing; expected shape \(expected)"
    case .missing(nil): "is missing; the model cannot run without it"
    case .wrongShape(let found, let expected):
      "has shape \(found), but the model's configuration needs \(expected)"
    case .wrongType(let found): "is \(found.rawValue), expected BF16, F16 or F32"
    case .notFloats(let expected): "is not a tensor of BF16, F16 or F32 with the shape \(expected)"
    case .impossibleShape(let shape): "has shape \(shape), which no memory can hold"
    case .empty: "is empty"
    case .appearsTwice:
      "appears twice, for example as weight and as qweight; remove the one that does not belong to the model"
    case .vectorInBlocks(let type): "is a vector in \(type); vectors must be floats"
    case .notFinite(let index, let value): "element \(index) is \(value), expected a finite number"
    case .outOfRange(let index, let type):
      "element \(index) is NaN, infinite, or more than \(type.rawValue) can hold"
    case .scaleNotFinite: "has a scale that is not finite"
    case .unexpectedBias(let index, let value, let family):
      "is not zero (element \(index) is \(value)), but \(family) models with this configuration have no bias there"
    case .notADecoderTensor(let family): "belongs to no \(family) decoder"
    case .notAnIntegerMatrix(let family):
      "is an integer matrix, but no \(family) model has a matrix of that name"
    case .notPanels(let obstacle): "cannot be used: \(obstacle)"
    case .partsDiffer:
      "were quantized with different bits, groups or orders of their inputs, so they cannot be one matrix"
    case .typesDiffer: "have different types and cannot be combined into one tensor"
    case .isEncoder(let family):
      "is an encoder (\(family)), which generates no text; zhinao-search makes vectors and scores with it"
    case .isDecoder(let family): "is a decoder (\(family)); this needs an encoder such as a BERT model"
    case .quantizationUnknown(let bits): "holds \(bits)-bit matrices but does not say how they were quantized"
    case .tooSmall(let heads, let headDim): "is too small for \(heads) heads of \(headDim)"
    case .problem(let problem): problem.description
    case .singleSafetensorsFile:
      "is a single safetensors file; give the folder that also holds config.json"
    case .tokenizerTooLarge(let tokens, let rows):
      "the tokenizer has \(tokens) ids, but the model has only \(rows) rows: they do not belong together"
    case .noSelfCheck: "holds no self-check record; write it again with zhinao-convert to get one"
    case .selfCheckFailed(let failure):
      "self-check failed: \(failure); do not trust this machine's results"
    case .codesWithoutSettings:
      "holds integer codes, but there is no quantize_config.json and no quantization_config in config.json"
    case .noHead:
      "is missing; if the embedding is also the head, set tie_word_embeddings to true in config.json"
    case .metadataMissing(let key): "metadata \(key) is missing"
    case .unknownArchitecture(let name, let known):
      "holds a model of architecture \"\(name)\"; the supported architectures are \(known.joined(separator: ", "))"
    case .mixtureOfExperts: "holds a mixture of experts, which is not supported"
    case .noEmbedding: "is missing or not a matrix"
    case .valueLengthDiffers:
      "keys and values have different lengths, which is not supported"
    case .partialRotation(let rotated, let headDim):
      "rotates \(rotated) of \(headDim) elements of a head, which is not supported"
    case .unknownScaling(let key, let name):
      "metadata \(key) is \"\(name)\"; the supported values are none and linear"
    case .unknownScalingSetting(let key, let value): "metadata \(key) is \(value), which is not supported"
    case .twoScalings: "scales frequencies, and the metadata scales positions besides, which is not supported"
    case .unknownFrequencies:
      "scales frequencies in another way than Llama 3.1 and 3.2 do, which config.json cannot say"
    case .unknownPreTokenizer:
      "llama.cpp has no name for the way its tokenizer cuts text"
    case .tokensWithSameText: "two of its tokens have the same text, which llama.cpp refuses"
    case .noMerges: "has no tokenizer.json to take the merges from"
    }
  }
}
