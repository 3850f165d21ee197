import Tensors

/// How a tensor of a GGUF file is stored: floats, or blocks of 32 or 256 weights that share scales
/// (`Formats/gguf.md`, "Blocks"). Raw values are the file's.
// The names are ggml's, in which everybody looks for them.
// swift-format-ignore: AlwaysUseLowerCamelCase
package enum GGUFTensorType: UInt32, CaseIterable, Sendable {
  case f32 = 0
  case f16 = 1
  case q4_0 = 2
  case q4_1 = 3
  case q5_0 = 6
  case q5_1 = 7
  case q8_0 = 8
  case q4_K = 12
  case q5_K = 13
  case q6_K = 14
  case bf16 = 30

  package var name: String {
    switch self {
    case .f32: "F32"
    case .f16: "F16"
    case .bf16: "BF16"
    case .q4_0: "Q4_0"
    case .q4_1: "Q4_1"
    case .q5_0: "Q5_0"
    case .q5_1: "Q5_1"
    case .q8_0: "Q8_0"
    case .q4_K: "Q4_K"
    case .q5_K: "Q5_K"
    case .q6_K: "Q6_K"
    }
  }

  /// Weights of one block, all of the same row.
  package var blockSize: Int {
    switch self {
    case .f32, .f16, .bf16: 1
    case .q4_0, .q4_1, .q5_0, .q5_1, .q8_0: 32
    case .q4_K, .q5_K, .q6_K: 256
    }
  }

  /// Bytes of one block.
  package var blockByteCount: Int {
    switch self {
    case .f32: 4
    case .f16, .bf16: 2
    case .q4_0: 2 + 16
    case .q4_1: 4 + 16
    case .q5_0: 2 + 4 + 16
    case .q5_1: 4 + 4 + 16
    case .q8_0: 2 + 32
    case .q4_K: 4 + 12 + 128
    case .q5_K: 4 + 12 + 32 + 128
    case .q6_K: 128 + 64 + 16 + 2
    }
  }

  /// Bytes of `count` weights, a multiple of ``blockSize``.
  package func byteCount(of count: Int) -> Int { count / blockSize * blockByteCount }

  /// The type of the elements when they are floats.
  package var dtype: DType? {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    default: nil
    }
  }

  package init?(_ dtype: DType) {
    switch dtype {
    case .f32: self = .f32
    case .f16: self = .f16
    case .bf16: self = .bf16
    default: return nil
    }
  }

  /// A name for a number that is not read here.
  static func description(ofUnknown number: UInt32) -> String {
    let names: [UInt32: String] = [
      9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
      20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64",
      28: "F64",
      29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
    ]
    return names[number] ?? "number \(number)"
  }
}

/// Types of metadata values. Raw values are the file's.
package enum GGUFValueType: UInt32, CaseIterable, Sendable {
  case uint8, int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64, float64

  /// Bytes of a value; of strings and arrays the least there can be.
  var smallestByteCount: Int {
    switch self {
    case .uint8, .int8, .bool: 1
    case .uint16, .int16: 2
    case .uint32, .int32, .float32: 4
    case .uint64, .int64, .float64, .string: 8
    case .array: 12
    }
  }

  var isFixedSize: Bool { self != .string && self != .array }
}

/// A metadata value as it was read.
package enum GGUFValue: Equatable, Sendable {
  /// Any of the eight integer types; nil when a `uint64` does not fit an `Int`.
  case integer(Int?)
  case float32(Float)
  case float64(Double)
  case bool(Bool)
  case string(String)
  case array(GGUFArray)
}

/// An array left where it is in the file; its bytes are checked.
package struct GGUFArray: Equatable, Sendable {
  package var elementType: GGUFValueType
  package var count: Int
  /// Bytes of the file that hold the elements.
  package var range: Range<Int>
}

/// Where one tensor of a GGUF file lies.
package struct GGUFTensor: Equatable, Sendable {
  package var name: String
  package var type: GGUFTensorType
  /// Slowest dimension first, as safetensors has it: `[out, in]`. The file has them the other way round.
  package var shape: [Int]
  /// Bytes of the part of the model that holds it.
  package var range: Range<Int>
  /// Which part that is, from 0 on.
  package var part = 0
}
