import Files
import Foundation
import JSON
import Retrieval

/// A file of vectors that grows row by row and appears whole or not at all. Its name decides its format.
final class VectorFile {
  enum Format {
    /// NumPy's array of little-endian floats, `[n, d]`.
    case npy
    /// One tensor, `embeddings` `[n, d]`.
    case safetensors
    /// An object with `index` and `embedding` on each line.
    case jsonLines

    init?(path: String) {
      let name = path.bytes
      if name.hasSuffix(".npy") {
        self = .npy
      } else if name.hasSuffix(".safetensors") {
        self = .safetensors
      } else if name.hasSuffix(".jsonl") {
        self = .jsonLines
      } else {
        return nil
      }
    }
  }

  private let file: AtomicFile
  private let format: Format
  private let dimensions: Int
  private var count = 0

  /// Bytes of the header, which is written again when the number of rows is known.
  private static let headerByteCount = 256

  init(path: String, format: Format, dimensions: Int) throws {
    file = try AtomicFile(path: path)
    self.format = format
    self.dimensions = dimensions
    if format != .jsonLines { try file.write(header()) }
  }

  private func header() -> [UInt8] {
    switch format {
    case .jsonLines: return []
    case .npy:
      let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(count), \(dimensions)), }"
      let length = VectorFile.headerByteCount - 10
      let padding = [UInt8](repeating: 32, count: length - text.utf8.count - 1)
      return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(length & 0xFF), UInt8(length >> 8)] + Array(text.utf8)
        + padding + [10]
    case .safetensors:
      let text: JSONValue = [
        "embeddings": [
          "dtype": "F32", "shape": [.init(count), .init(dimensions)],
          "data_offsets": [0, .init(count * dimensions * 4)],
        ]
      ]
      let length = VectorFile.headerByteCount - 8
      let bytes = Array(text.serialized().utf8)
      return withUnsafeBytes(of: UInt64(length).littleEndian) { Array($0) } + bytes
        + [UInt8](repeating: 32, count: length - bytes.count)
    }
  }

  /// Appends `rows` vectors.
  func append(_ vectors: UnsafePointer<Float>, rows: Int) throws {
    switch format {
    case .npy, .safetensors:
      try file.write(UnsafeRawBufferPointer(start: vectors, count: rows * dimensions * 4))
    case .jsonLines:
      var text = ""
      for row in 0..<rows {
        text += "{\"index\":\(count + row),\"embedding\":["
        for i in 0..<dimensions {
          if i > 0 { text += "," }
          text += "\(vectors[row * dimensions + i])"
        }
        text += "]}\n"
      }
      try file.write(text)
    }
    count += rows
  }

  func commit() throws {
    if format != .jsonLines { try file.overwrite(at: 0, with: header()) }
    try file.commit()
  }
}
