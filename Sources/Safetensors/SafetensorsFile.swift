import Files
import JSON
import Tensors

/// Where one tensor of a safetensors file lies.
package struct TensorInfo: Equatable, Sendable {
  package var name: String
  package var dtype: DType
  package var shape: [Int]
  /// Bytes of the file.
  package var range: Range<Int>

  package var byteCount: Int { range.count }
}

/// A safetensors file, mapped into memory; every rule of the format is checked when it is opened
/// (`Formats/safetensors.md`), so that no later access can leave the file.
package final class SafetensorsFile: Sendable {
  package let file: MappedFile
  /// In the order of their data.
  package let tensors: [TensorInfo]
  /// `__metadata__`, in the file's order.
  package let metadata: [(key: String, value: String)]
  private let index: [ByteText: Int]

  /// The reference implementation's own limit.
  package static let maximumHeaderByteCount = 100_000_000

  package var path: String { file.path }

  /// - Throws: ``FileError`` when the file cannot be opened, ``CheckpointError`` when it breaks a rule (S1 to S9).
  package init(path: String) throws {
    let file = try MappedFile(path: path)
    (tensors, metadata) = try withExtendedLifetime(file) {
      try SafetensorsFile.parse(file.bytes, path: path)
    }
    self.file = file
    index = Dictionary(uniqueKeysWithValues: tensors.enumerated().map { ($0.element.name.bytes, $0.offset) })
  }

  package func tensor(_ name: String) -> TensorInfo? { index[name].map { tensors[$0] } }

  /// The tensor's bytes; valid while this object lives.
  package func bytes(of tensor: TensorInfo) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: file.bytes[tensor.range])
  }

  // MARK: The rules

  private static func parse(_ bytes: UnsafeRawBufferPointer, path: String) throws -> (
    [TensorInfo], [(key: String, value: String)]
  ) {
    func bad(_ detail: String, tensor: String? = nil) -> CheckpointError {
      CheckpointError(path: path, tensor: tensor, detail: detail)
    }
    guard bytes.count >= 8 else {
      throw bad("is not a safetensors file: \(bytes.count) bytes, shorter than the 8-byte header length (S1)")
    }
    let declared = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    guard declared <= UInt64(maximumHeaderByteCount) else {
      throw bad(
        "is not a safetensors file: its header claims \(declared) bytes, the format allows \(maximumHeaderByteCount) (S2)"
      )
    }
    let headerCount = Int(declared)
    guard headerCount <= bytes.count - 8 else {
      throw bad(
        "is truncated: the header needs \(headerCount) bytes, the file has \(bytes.count - 8) after its length field (S1)"
      )
    }
    guard headerCount >= 2, bytes[8] == UInt8(ascii: "{") else {
      throw bad("header does not start with { (S3)")
    }
    let header: JSONObject
    do {
      let text = UnsafeRawBufferPointer(rebasing: bytes[8..<8 + headerCount])
      guard let object = try JSONValue.parse(text).objectValue else {
        throw bad("header is not a JSON object (S3)")
      }
      header = object
    } catch let error as JSONError { throw bad("header is \(error.description) (S3)") }

    let dataStart = 8 + headerCount
    let dataCount = bytes.count - dataStart
    var tensors: [TensorInfo] = []
    var metadata: [(key: String, value: String)] = []
    for (name, value) in header.members {
      if name == "__metadata__" {
        guard let object = value.objectValue else { throw bad("__metadata__ is not an object (S4)") }
        for (key, entry) in object.members {
          guard let text = entry.stringValue else { throw bad("__metadata__.\(key) is not a string (S4)") }
          metadata.append((key, text))
        }
        continue
      }
      tensors.append(try entry(name, value, dataStart: dataStart, dataCount: dataCount, bad))
    }
    tensors.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
    var end = dataStart
    for tensor in tensors {
      let start = tensor.range.lowerBound
      guard start == end else {
        let what = start < end ? "overlaps the tensor before it" : "leaves a hole before it"
        throw bad(
          "\(what): its data starts at byte \(start - dataStart), \(end - dataStart) expected (S8)",
          tensor: tensor.name)
      }
      end = tensor.range.upperBound
    }
    guard end == bytes.count else {
      throw bad("has \(bytes.count - end) bytes after the last tensor (S9)")
    }
    return (tensors, metadata)
  }

  private static func entry(
    _ name: String, _ value: JSONValue, dataStart: Int, dataCount: Int,
    _ bad: (String, String?) -> CheckpointError
  ) throws -> TensorInfo {
    guard let fields = value.objectValue else { throw bad("has no description object (S5)", name) }
    guard let typeName = fields["dtype"]?.stringValue else { throw bad("has no dtype (S5)", name) }
    guard let dtype = DType(rawValue: typeName) else {
      throw bad(
        "has dtype \(typeName); known are \(DType.allCases.map(\.rawValue).joined(separator: " ")) (S5)", name
      )
    }
    guard let shape = fields["shape"]?.arrayValue?.map(\.intValue), !shape.contains(nil) else {
      throw bad("has no shape of whole numbers (S5)", name)
    }
    let dimensions = shape.compactMap { $0 }
    guard let offsets = fields["data_offsets"]?.arrayValue, offsets.count == 2,
      let begin = offsets[0].intValue,
      let end = offsets[1].intValue, begin >= 0, begin <= end
    else { throw bad("has no data_offsets [begin, end] with 0 <= begin <= end (S6)", name) }
    guard end <= dataCount else {
      throw bad("ends at data byte \(end), the file has \(dataCount): it is truncated (S6)", name)
    }
    let size = elementCount(of: dimensions)?.multipliedReportingOverflow(by: dtype.byteCount)
    guard let size, !size.overflow, size.partialValue == end - begin else {
      let expected =
        size.map { $0.overflow ? "more than any file" : String($0.partialValue) } ?? "no valid number of"
      throw bad("has \(end - begin) bytes, \(typeName) \(dimensions) takes \(expected) bytes (S7)", name)
    }
    return TensorInfo(
      name: name, dtype: dtype, shape: dimensions, range: dataStart + begin..<dataStart + end)
  }
}
