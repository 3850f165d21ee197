import AutoGPTQ
import Files
import JSON
import Tensors

/// Reads a preamble and header and checks every rule that a reader's safety depends on (P1 to P10 of
/// `Formats/packed-model.md`).
struct PackedHeaderReader {
  let path: String
  let bytes: UnsafeRawBufferPointer
  var checksChecksum = true

  private func broken(_ reason: PackedModelError.Reason) -> PackedModelError {
    PackedModelError(reason, path: path)
  }

  /// The header and the first byte after it.
  func read() throws -> (header: PackedHeader, dataStart: Int) {
    let dataStart = try checkPreamble()
    let json: JSONValue
    do throws(JSONError) {
      json = try JSONValue.parse(
        UnsafeRawBufferPointer(rebasing: bytes[PackedHeader.preambleByteCount..<dataStart]))
    } catch { throw broken(.headerNotJSON(error)) }
    guard json["format"]?.stringValue == "zhinao" else {
      throw broken(.noFormat)
    }
    var header = PackedHeader(
      generator: json["generator"]?.stringValue ?? "", files: [], tensors: [], quantization: nil,
      provenance: json["provenance"]?.objectValue ?? JSONObject())
    if let quantization = json["quantization"] {
      header.quantization = try QuantizeConfiguration(quantization, label: "\(path): quantization")
    }
    guard let files = json["files"]?.arrayValue, let tensors = json["tensors"]?.arrayValue else {
      throw broken(.noFilesOrTensors)
    }
    header.files = try files.map(readFile)
    header.tensors = try tensors.map(readTensor)
    try checkPlaces(header, dataStart: dataStart)
    return (header, dataStart)
  }

  private func checkPreamble() throws -> Int {
    let preamble = PackedHeader.preambleByteCount
    guard bytes.count >= 8, Array(bytes[0..<8]) == PackedHeader.magic else {
      if let content = ForeignContent(bytes) { throw broken(.foreign(content)) }
      let damaged = bytes.count >= 4 && bytes[1] == 0x5A && bytes[2] == 0x48 && bytes[3] == 0x4E
      throw broken(damaged ? .textModeDamage : .notPacked)
    }
    guard bytes.count >= preamble + 2 else { throw broken(.truncatedPreamble(byteCount: bytes.count)) }
    func get<T: FixedWidthInteger>(_ offset: Int, _: T.Type) -> T {
      T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }
    guard get(28, UInt32.self) == Checksum.crc32(UnsafeRawBufferPointer(rebasing: bytes[0..<28])) else {
      throw broken(.preambleChecksum)
    }
    guard !bytes[32..<preamble].contains(where: { $0 != 0 }) else {
      throw broken(.reservedBytes)
    }
    let (major, minor) = (get(8, UInt16.self), get(10, UInt16.self))
    guard major == PackedHeader.majorVersion else {
      throw broken(.unknownVersion(major: major, minor: minor, read: PackedHeader.majorVersion))
    }
    let length = get(16, UInt64.self)
    guard length == UInt64(bytes.count) else {
      throw broken(.lengthMismatch(found: bytes.count, declared: length))
    }
    let headerByteCount = Int(get(12, UInt32.self))
    let dataStart = preamble + headerByteCount
    guard headerByteCount >= 2, headerByteCount <= PackedHeader.maximumByteCount, dataStart <= bytes.count,
      dataStart % PackedHeader.pageByteCount == 0
    else { throw broken(.headerLength(headerByteCount)) }
    guard
      !checksChecksum
        || get(24, UInt32.self)
          == Checksum.crc32(UnsafeRawBufferPointer(rebasing: bytes[preamble..<dataStart]))
    else { throw broken(.headerChecksum) }
    return dataStart
  }

  private func place(_ value: JSONValue, of what: String) throws -> (offset: Int, bytes: Int, crc: UInt32) {
    guard let offset = value["offset"]?.intValue, offset >= 0, offset <= bytes.count,
      let count = value["bytes"]?.intValue, count >= 0, count <= bytes.count - offset,
      let text = value["crc32"]?.stringValue, text.utf8.count == 8, let crc = UInt32(text, radix: 16)
    else { throw broken(.badPlace(what: what)) }
    return (offset, count, crc)
  }

  private func readFile(_ value: JSONValue) throws -> PackedFile {
    guard let name = value["name"]?.stringValue, PackedHeaderReader.isSafe(name) else {
      throw broken(.badFileName(value["name"]?.serialized() ?? "none"))
    }
    let place = try place(value, of: "file \(name)")
    var file = PackedFile(name: name, byteCount: place.bytes)
    (file.offset, file.crc32) = (place.offset, place.crc)
    return file
  }

  /// Relative, no way out of the folder it is unpacked into, no control characters.
  static func isSafe(_ name: String) -> Bool {
    !name.isEmpty && name.utf8.count <= 255 && !name.unicodeScalars.contains { $0.value < 32 || $0 == "\\" }
      && name.bytes.split(separator: "/").allSatisfy { !["", ".", ".."].contains($0) }
  }

  private func readTensor(_ value: JSONValue) throws -> PackedTensor {
    guard let name = value["name"]?.stringValue, !name.isEmpty else {
      throw broken(.noTensorName)
    }
    let what = "tensor \(name)"
    let shape = (value["shape"]?.arrayValue ?? []).map(\.intValue)
    let dimensions = shape.compactMap { $0 }
    guard value["shape"] != nil, dimensions.count == shape.count, dimensions.count <= 8,
      let elements = elementCount(of: dimensions), elements <= 1 << 48
    else { throw broken(.badShape(what: what)) }
    let encoding = try encoding(value, shape: dimensions, what: what)
    var tensor = PackedTensor(name, shape: dimensions, encoding: encoding)
    let place = try place(value, of: what)
    (tensor.offset, tensor.crc32) = (place.offset, place.crc)
    guard tensor.byteCount == place.bytes else {
      throw broken(.byteCountMismatch(what: what, found: place.bytes, expected: tensor.byteCount))
    }
    guard tensor.offset % tensor.alignment == 0 else {
      throw broken(.misaligned(what: what, start: tensor.offset, alignment: tensor.alignment))
    }
    return tensor
  }

  private func encoding(_ value: JSONValue, shape: [Int], what: String) throws -> PackedTensor.Encoding {
    func dtype() throws -> DType {
      guard let name = value["dtype"]?.stringValue, let dtype = DType(rawValue: name) else {
        throw broken(.unknownDType(what: what))
      }
      return dtype
    }
    switch value["encoding"]?.stringValue {
    case "rows": return .rows(try dtype())
    case "panels":
      let dtype = try dtype()
      guard shape.count == 2, [.f32, .f16, .bf16].contains(dtype) else {
        throw broken(.notPanels(what: what, dtype, shape: shape))
      }
      return .panels(dtype)
    case "int-panels":
      guard shape.count == 2, shape[0] > 0, shape[1] > 0, let bits = value["bits"]?.intValue,
        [2, 3, 4, 8].contains(bits), let groupSize = value["group_size"]?.intValue, groupSize > 0,
        groupSize <= shape[1] || groupSize <= 1 << 20, let symmetric = value["symmetric"]?.boolValue,
        let permuted = value["permuted"]?.boolValue,
        IntPanelLayout.obstacle(bits: bits, groupSize: groupSize, in: shape[1]) == nil
      else { throw broken(.badIntegers(what: what)) }
      return .intPanels(
        IntPanelLayout(
          bits: bits, groupSize: groupSize, outFeatures: shape[0], inFeatures: shape[1],
          isSymmetric: symmetric,
          isPermuted: permuted))
    default:
      throw broken(.unknownEncoding(what: what, value["encoding"]?.serialized() ?? "none"))
    }
  }

  private func checkPlaces(_ header: PackedHeader, dataStart: Int) throws {
    var names: Set<ByteText> = []
    for name in header.files.map(\.name) where !names.insert(name.bytes).inserted {
      throw broken(.appearsTwice(what: "file \(name)"))
    }
    names = []
    for name in header.tensors.map(\.name) where !names.insert(name.bytes).inserted {
      throw broken(.appearsTwice(what: "tensor \(name)"))
    }
    var end = dataStart
    let ranges =
      header.files.map { ("file \($0.name)", $0.range) }
      + header.tensors.map { ("tensor \($0.name)", $0.range) }
    for (what, range) in ranges.sorted(by: {
      ($0.1.lowerBound, $0.1.upperBound) < ($1.1.lowerBound, $1.1.upperBound)
    }) {
      guard range.lowerBound >= end else {
        throw broken(.overlap(what: what, start: range.lowerBound))
      }
      end = range.upperBound
    }
  }
}
