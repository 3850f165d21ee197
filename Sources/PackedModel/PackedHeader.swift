import AutoGPTQ
import Files
import JSON

/// The JSON header of a `.zhinao` file.
package struct PackedHeader: Equatable, Sendable {
  package static let majorVersion: UInt16 = 1
  package static let minorVersion: UInt16 = 0
  package static let preambleByteCount = 64
  /// The PNG idea: a byte above 127, line ends and an end-of-file mark show what text-mode transfers do to a file.
  package static let magic: [UInt8] = [0x89, 0x5A, 0x48, 0x4E, 0x0D, 0x0A, 0x1A, 0x0A]
  package static let maximumByteCount = 1 << 28
  package static let pageByteCount = 4096

  package var generator: String
  package var files: [PackedFile]
  package var tensors: [PackedTensor]
  package var quantization: QuantizeConfiguration?
  /// As the writer knew it: sources and their digests, recipe, calibration set. Readers show it, nothing depends on it.
  package var provenance: JSONObject

  package init(
    generator: String, files: [PackedFile], tensors: [PackedTensor], quantization: QuantizeConfiguration?,
    provenance: JSONObject
  ) {
    self.generator = generator
    self.files = files
    self.tensors = tensors
    self.quantization = quantization
    self.provenance = provenance
  }

  package var json: JSONValue {
    var fields: [(String, JSONValue)] = [
      ("format", "zhinao"), ("generator", .string(generator)),
      ("provenance", .object(provenance)),
    ]
    if let quantization { fields.append(("quantization", quantization.json(toolVersion: generator))) }
    fields += [("files", .array(files.map(\.json))), ("tensors", .array(tensors.map(\.json)))]
    return .object(JSONObject(fields))
  }

  /// Gives every file and tensor its place behind a header of `dataStart` bytes (preamble included).
  /// - Returns: the file's length.
  mutating func place(from dataStart: Int) -> Int {
    var end = dataStart
    for i in files.indices {
      files[i].offset = (end + 63) / 64 * 64
      end = files[i].range.upperBound
    }
    for i in tensors.indices {
      let alignment = tensors[i].alignment
      tensors[i].offset = (end + alignment - 1) / alignment * alignment
      end = tensors[i].range.upperBound
    }
    return (end + 63) / 64 * 64
  }

  /// Preamble and header as they stand at the start of a file of `fileByteCount` bytes whose data begin at `dataStart`.
  func serialized(dataStart: Int, fileByteCount: Int) -> [UInt8] {
    var text = Array(json.serialized().utf8)
    let headerByteCount = dataStart - PackedHeader.preambleByteCount
    precondition(text.count < headerByteCount)
    text += [UInt8](repeating: 32, count: headerByteCount - text.count - 1)
    text.append(10)
    var preamble = PackedHeader.magic
    func put<T: FixedWidthInteger>(_ value: T) { withUnsafeBytes(of: value.littleEndian) { preamble += $0 } }
    put(PackedHeader.majorVersion)
    put(PackedHeader.minorVersion)
    put(UInt32(headerByteCount))
    put(UInt64(fileByteCount))
    put(text.withUnsafeBytes { Checksum.crc32($0) })
    put(preamble.withUnsafeBytes { Checksum.crc32($0) })
    preamble += [UInt8](repeating: 0, count: PackedHeader.preambleByteCount - preamble.count)
    return preamble + text
  }
}
