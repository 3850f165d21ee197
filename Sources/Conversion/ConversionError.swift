import Files
import Tensors

/// Why a model cannot be brought into another form, or an adapter not be merged into it.
package struct ConversionError: DiagnosedError, Equatable {
  /// One case per rule. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    // MARK: Values and types
    /// An element that is NaN or infinite.
    case notFinite(index: Int)
    /// A value outside the range of the type that it is brought to; as text, since NaN equals nothing.
    case outOfRange(String, DType)
    /// The tensor is not of a float type that the kernels read.
    case wrongType(DType)
    /// Only BF16, F16 and F32 are brought to one another.
    case cannotCast(from: DType, to: DType)
    /// A second reading of the matrix gave another order or other zero points than the first.
    case changedWhileRead

    // MARK: Outputs
    /// The finished output does not open, for this reason.
    case outputUnreadable(String)
    /// The finished output lacks something that its source has.
    case outputIncomplete(String)

    // MARK: Stock layout
    /// Only one family's models can become Zhinao models.
    case notAZhinaoDecoder(family: String, expected: String)
    /// The fused projection has another number of rows.
    case fusedRows(found: [Int], expected: Int)
    /// A part of the fused projection is missing or has another shape.
    case partMissing(expected: [Int])
    case notInQwen2(Qwen2Obstacle)
    /// No `tokenizer.json` to make a vocabulary of.
    case noTokenizerJSON

    // MARK: GGUF
    case notInGGUF(GGUFObstacle)
    /// A bias that the architecture does not have and that is not zero.
    case unexpectedBias
    /// GGUF has no type for the matrix's codes, in the words of `GGUFCodes`.
    case noCarrier(String)
    /// The rows do not fill whole blocks of a GGUF type.
    case rowsNotWhole(width: Int, type: String, blockSize: Int)
    /// Minima of Q4_1 outside of half precision.
    case minimaTooLarge
    /// Values outside of what Q8_0 can hold.
    case tooLargeForQ8

    // MARK: Folder
    /// A folder keeps the head in floats.
    case headInIntegers(bits: Int)
    /// The matrix does not fill whole words of AutoGPTQ's tensors, in the words of `AutoGPTQModule`.
    case notAutoGPTQ(String)
    /// Two tensors of the folder would have this name.
    case nameAppearsTwice

    // MARK: LoRA
    /// Embedding and head would have different numbers of rows.
    case vocabulariesDiffer(embedding: Int, head: Int)
    /// An adapter is merged into floats.
    case baseInIntegers
    /// An element of the sum is NaN or infinite.
    case mergedNotFinite(index: Int)
  }

  /// What a Zhinao model may have and a Qwen2 model cannot.
  package enum Qwen2Obstacle: Equatable, Sendable {
    case outputBias, mlpBias
    case logitScale(Double)
    case partialRotaryFactor(Double)
  }

  /// What llama.cpp does not compute.
  package enum GGUFObstacle: Equatable, Sendable {
    case family(String)
    case partialRotation, logitScale, otherBiases, llama3Frequencies
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
    case .noTokenizerJSON: .cannotOpenInput
    default: .badInput
    }
  }

  package var description: String { "\(path): \(tensor.map { "\($0) " } ?? "")\(reason)" }
}

extension ConversionError.Reason: CustomStringConvertible {
  /// The end of a sentence whose subject is the tensor or the file.
  package var description: String {
    switch self {
    case .notFinite(let index): "element \(index) is NaN or infinite"
    case .outOfRange(let value, let type): "has the value \(value), which \(type.rawValue) cannot hold"
    case .wrongType(let found): "is \(found.rawValue), expected BF16, F16 or F32"
    case .cannotCast(let from, let to):
      "is \(from.rawValue) and cannot become \(to.rawValue); only BF16, F16 and F32 become one another"
    case .changedWhileRead:
      "changed while it was read; run the same command again when nothing writes the model"
    case .outputUnreadable(let why): "was not kept: the finished output cannot be opened (\(why))"
    case .outputIncomplete(let what): "was not kept: the finished output lacks \(what), which the source has"
    case .notAZhinaoDecoder(let family, let expected):
      "is a \(family) model, whose decoder differs from 360Zhinao's; only a \(expected) model can become a Zhinao model"
    case .fusedRows(let found, let expected): "has shape \(found), expected \(expected) rows"
    case .partMissing(let expected): "is missing or has another shape than \(expected)"
    case .notInQwen2(let obstacle): "has \(obstacle), which Qwen2ForCausalLM cannot have"
    case .noTokenizerJSON: "has no tokenizer.json, from which vocab/360.tiktoken is made"
    case .notInGGUF(let obstacle): "\(obstacle), which llama.cpp does not compute"
    case .unexpectedBias: "is a bias that this architecture does not have"
    case .noCarrier(let obstacle): obstacle
    case .rowsNotWhole(let width, let type, let blockSize):
      "has rows of \(width); \(type) needs rows that are a multiple of \(blockSize)"
    case .minimaTooLarge: "has minima that half precision cannot hold"
    case .tooLargeForQ8: "has values too large for Q8_0"
    case .headInIntegers(let bits):
      "has \(bits) bits, but a folder stores the head as floats; quantize again with --head-bits 16"
    case .notAutoGPTQ(let obstacle): obstacle
    case .nameAppearsTwice: "would be in the folder twice; the model has two tensors that need this name"
    case .vocabulariesDiffer(let embedding, let head):
      "gives the embedding \(embedding) rows, while the head has \(head); save both with modules_to_save, or train with ensure_weight_tying"
    case .baseInIntegers:
      "is quantized; merge the adapter into the float model and quantize the result, or pass --dequantize"
    case .mergedNotFinite(let index): "element \(index) is not finite after the adapter is merged"
    }
  }
}

extension ConversionError.Qwen2Obstacle: CustomStringConvertible {
  package var description: String {
    switch self {
    case .outputBias: "a bias behind its attention (attention_bias)"
    case .mlpBias: "biases in its feed-forward part (mlp_bias)"
    case .logitScale(let scale): "a logit_scale of \(scale)"
    case .partialRotaryFactor(let factor): "a partial_rotary_factor of \(factor)"
    }
  }
}

extension ConversionError.GGUFObstacle: CustomStringConvertible {
  package var description: String {
    switch self {
    case .family(let name): "is a \(name) model"
    case .partialRotation: "rotates only a part of each head"
    case .logitScale: "scales its logits"
    case .otherBiases: "has biases outside of q, k and v"
    case .llama3Frequencies: "scales rotary frequencies by Llama 3's rule"
    }
  }
}
