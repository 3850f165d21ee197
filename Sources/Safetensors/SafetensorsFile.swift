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
  package convenience init(path: String) throws { try self.init(MappedFile(path: path)) }

  /// - Throws: ``CheckpointError`` when the content breaks a rule (S1 to S9).
  package init(_ file: MappedFile) throws {
    let path = file.path
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
    func bad(_ reason: CheckpointError.Reason, tensor: String? = nil) -> CheckpointError {
      CheckpointError(reason, path: path, tensor: tensor)
    }
    /// Not even the beginning of a safetensors file: perhaps something else.
    func alien(_ reason: CheckpointError.Reason) -> CheckpointError {
      bad(ForeignContent(bytes).map { .foreign($0) } ?? reason)
    }
    guard bytes.count >= 8 else { throw alien(.noHeaderLength(found: bytes.count)) }
    let declared = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    guard declared <= UInt64(maximumHeaderByteCount) else {
      throw alien(.headerTooLong(declared: declared, limit: maximumHeaderByteCount))
    }
    let headerCount = Int(declared)
    guard headerCount <= bytes.count - 8 else {
      throw alien(.headerTruncated(declared: headerCount, available: bytes.count - 8))
    }
    guard headerCount >= 2, bytes[8] == UInt8(ascii: "{") else { throw alien(.headerNotAnObject) }
    let header: JSONObject
    do {
      let text = UnsafeRawBufferPointer(rebasing: bytes[8..<8 + headerCount])
      guard let object = try JSONValue.parse(text).objectValue else { throw bad(.headerNotAnObject) }
      header = object
    } catch let error as JSONError { throw bad(.headerNotJSON(error)) }

    let dataStart = 8 + headerCount
    let dataCount = bytes.count - dataStart
    var tensors: [TensorInfo] = []
    var metadata: [(key: String, value: String)] = []
    for (name, value) in header.members {
      if name == "__metadata__" {
        guard let object = value.objectValue else { throw bad(.metadataNotAnObject) }
        for (key, entry) in object.members {
          guard let text = entry.stringValue else { throw bad(.metadataNotText(key: key)) }
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
        throw bad(.notContiguous(start: start - dataStart, expected: end - dataStart), tensor: tensor.name)
      }
      end = tensor.range.upperBound
    }
    guard end == bytes.count else { throw bad(.excess(byteCount: bytes.count - end)) }
    return (tensors, metadata)
  }

  private static func entry(
    _ name: String, _ value: JSONValue, dataStart: Int, dataCount: Int,
    _ bad: (CheckpointError.Reason, String?) -> CheckpointError
  ) throws -> TensorInfo {
    guard let fields = value.objectValue else { throw bad(.noDescription, name) }
    guard let typeName = fields["dtype"]?.stringValue else { throw bad(.noDType, name) }
    guard let dtype = DType(rawValue: typeName) else { throw bad(.unknownDType(typeName), name) }
    guard let shape = fields["shape"]?.arrayValue?.map(\.intValue), !shape.contains(nil) else {
      throw bad(.noShape, name)
    }
    let dimensions = shape.compactMap { $0 }
    guard let offsets = fields["data_offsets"]?.arrayValue, offsets.count == 2,
      let begin = offsets[0].intValue,
      let end = offsets[1].intValue, begin >= 0, begin <= end
    else { throw bad(.noOffsets, name) }
    guard end <= dataCount else { throw bad(.endsOutside(end: end, available: dataCount), name) }
    let size = elementCount(of: dimensions)?.multipliedReportingOverflow(by: dtype.byteCount)
    let expected = size.flatMap { $0.overflow ? nil : $0.partialValue }
    guard expected == end - begin else {
      throw bad(
        .byteCountMismatch(found: end - begin, dtype: dtype, shape: dimensions, expected: expected), name)
    }
    return TensorInfo(
      name: name, dtype: dtype, shape: dimensions, range: dataStart + begin..<dataStart + end)
  }
}
