import JSON
import Tensors

/// A tensor of a `.zhinao` file: what it holds and in which order.
package struct PackedTensor: Equatable, Sendable {
  package enum Encoding: Equatable, Sendable {
    /// Row-major, as safetensors stores it.
    case rows(DType)
    /// A float matrix `[out, in]` in panels of 16 outputs.
    case panels(DType)
    /// An integer matrix in panels of 16 outputs, with its scales, zero points and permutation.
    case intPanels(IntPanelLayout)
  }
  package var name: String
  /// As Hugging Face has it: `[out, in]` for matrices.
  package var shape: [Int]
  package var encoding: Encoding
  /// First byte in the file; a multiple of ``alignment``.
  package var offset = 0
  package var crc32: UInt32 = 0

  package init(_ name: String, shape: [Int], encoding: Encoding) {
    self.name = name
    self.shape = shape
    self.encoding = encoding
  }

  /// Bytes in the file.
  package var byteCount: Int {
    switch encoding {
    case .rows(let dtype): shape.reduce(dtype.byteCount, *)
    case .panels(let dtype):
      PanelMatrix.byteCount(outFeatures: shape[0], inFeatures: shape[1], dtype: dtype)
    case .intPanels(let layout): layout.byteCount
    }
  }

  /// Whether it is a quantized matrix.
  package var holdsIntegers: Bool {
    if case .intPanels = encoding { true } else { false }
  }

  /// Matrices start on a page, vectors on a cache line.
  package var alignment: Int { shape.count == 2 ? 4096 : 64 }
  package var range: Range<Int> { offset..<offset + byteCount }

  /// Bytes as safetensors would store the tensor: fewer than ``byteCount`` when panels are filled up.
  package var plainByteCount: Int {
    switch encoding {
    case .rows(let dtype), .panels(let dtype): shape.reduce(dtype.byteCount, *)
    case .intPanels(let layout): layout.outFeatures * layout.inFeatures * layout.bits / 8
    }
  }

  package var json: JSONValue {
    var fields: [(String, JSONValue)] = [
      ("name", .string(name)), ("shape", .array(shape.map { .init($0) })),
    ]
    switch encoding {
    case .rows(let dtype): fields += [("encoding", "rows"), ("dtype", .string(dtype.rawValue))]
    case .panels(let dtype): fields += [("encoding", "panels"), ("dtype", .string(dtype.rawValue))]
    case .intPanels(let layout):
      fields += [
        ("encoding", "int-panels"), ("bits", .init(layout.bits)), ("group_size", .init(layout.groupSize)),
        ("symmetric", .bool(layout.isSymmetric)), ("permuted", .bool(layout.isPermuted)),
      ]
    }
    fields += [
      ("offset", .init(offset)), ("bytes", .init(byteCount)), ("crc32", .string(hexadecimal(crc32))),
    ]
    return .object(JSONObject(fields))
  }
}

/// A file of the model kept inside: configuration, tokenizer, chat template.
package struct PackedFile: Equatable, Sendable {
  package var name: String
  package var byteCount: Int
  package var offset = 0
  package var crc32: UInt32 = 0

  package init(name: String, byteCount: Int) {
    self.name = name
    self.byteCount = byteCount
  }

  package var range: Range<Int> { offset..<offset + byteCount }

  package var json: JSONValue {
    [
      "name": .string(name), "offset": .init(offset), "bytes": .init(byteCount),
      "crc32": .string(hexadecimal(crc32)),
    ]
  }
}

/// Eight lower-case hexadecimal digits: the header's length must not depend on the checksums in it.
func hexadecimal(_ value: UInt32) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 8 - digits.count) + digits
}
