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

  func broken(_ rule: Int, _ detail: String) -> PackedModelError {
    PackedModelError(path: path, rule: rule, detail: detail)
  }

  /// The header and the first byte after it.
  func read() throws -> (header: PackedHeader, dataStart: Int) {
    let dataStart = try checkPreamble()
    let json: JSONValue
    do {
      json = try JSONValue.parse(
        UnsafeRawBufferPointer(rebasing: bytes[PackedHeader.preambleByteCount..<dataStart]))
    } catch { throw broken(6, "the header is \(error.description)") }
    guard json["format"]?.stringValue == "zhinao" else {
      throw broken(6, "the header has no format \"zhinao\"")
    }
    var header = PackedHeader(
      generator: json["generator"]?.stringValue ?? "", files: [], tensors: [], quantization: nil,
      provenance: json["provenance"]?.objectValue ?? JSONObject())
    if let quantization = json["quantization"] {
      header.quantization = try QuantizeConfiguration(quantization, label: "\(path): quantization")
    }
    guard let files = json["files"]?.arrayValue, let tensors = json["tensors"]?.arrayValue else {
      throw broken(6, "the header has no files and tensors")
    }
    header.files = try files.map(readFile)
    header.tensors = try tensors.map(readTensor)
    try checkPlaces(header, dataStart: dataStart)
    return (header, dataStart)
  }

  private func checkPreamble() throws -> Int {
    let preamble = PackedHeader.preambleByteCount
    guard bytes.count >= 8, Array(bytes[0..<8]) == PackedHeader.magic else {
      let damaged = bytes.count >= 4 && bytes[1] == 0x5A && bytes[2] == 0x48 && bytes[3] == 0x4E
      throw broken(
        1, damaged ? "was damaged by a text-mode transfer; copy it again as binary" : "is not a .zhinao file")
    }
    guard bytes.count >= preamble + 2 else { throw broken(1, "is truncated: \(bytes.count) bytes") }
    func get<T: FixedWidthInteger>(_ offset: Int, _: T.Type) -> T {
      T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }
    guard get(28, UInt32.self) == Checksum.crc32(UnsafeRawBufferPointer(rebasing: bytes[0..<28])) else {
      throw broken(2, "the preamble's checksum does not match: its first bytes are damaged")
    }
    guard !bytes[32..<preamble].contains(where: { $0 != 0 }) else {
      throw broken(2, "the preamble's reserved bytes are not zero")
    }
    let (major, minor) = (get(8, UInt16.self), get(10, UInt16.self))
    guard major == PackedHeader.majorVersion else {
      throw broken(
        3,
        "has format version \(major).\(minor); this tool reads \(PackedHeader.majorVersion).x: use a newer one"
      )
    }
    let length = get(16, UInt64.self)
    guard length == UInt64(bytes.count) else {
      throw broken(
        4,
        length > UInt64(bytes.count)
          ? "is truncated: \(bytes.count) of \(length) bytes"
          : "has \(UInt64(bytes.count) - length) bytes too many")
    }
    let headerByteCount = Int(get(12, UInt32.self))
    let dataStart = preamble + headerByteCount
    guard headerByteCount >= 2, headerByteCount <= PackedHeader.maximumByteCount, dataStart <= bytes.count,
      dataStart % PackedHeader.pageByteCount == 0
    else { throw broken(5, "the header's length, \(headerByteCount), is not possible") }
    guard
      !checksChecksum
        || get(24, UInt32.self)
          == Checksum.crc32(UnsafeRawBufferPointer(rebasing: bytes[preamble..<dataStart]))
    else { throw broken(5, "the header's checksum does not match: it is damaged") }
    return dataStart
  }

  private func place(_ value: JSONValue, of what: String) throws -> (offset: Int, bytes: Int, crc: UInt32) {
    guard let offset = value["offset"]?.intValue, offset >= 0, offset <= bytes.count,
      let count = value["bytes"]?.intValue, count >= 0, count <= bytes.count - offset,
      let text = value["crc32"]?.stringValue, text.utf8.count == 8, let crc = UInt32(text, radix: 16)
    else { throw broken(7, "\(what) has no offset, bytes and crc32 inside the file") }
    return (offset, count, crc)
  }

  private func readFile(_ value: JSONValue) throws -> PackedFile {
    guard let name = value["name"]?.stringValue, PackedHeaderReader.isSafe(name) else {
      throw broken(8, "a file inside has no usable name: \(value["name"]?.serialized() ?? "none")")
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
      throw broken(8, "a tensor has no name")
    }
    let what = "tensor \(name)"
    let shape = (value["shape"]?.arrayValue ?? []).map(\.intValue)
    let dimensions = shape.compactMap { $0 }
    guard value["shape"] != nil, dimensions.count == shape.count, dimensions.count <= 8,
      let elements = elementCount(of: dimensions), elements <= 1 << 48
    else { throw broken(9, "\(what) has no shape") }
    let encoding = try encoding(value, shape: dimensions, what: what)
    var tensor = PackedTensor(name, shape: dimensions, encoding: encoding)
    let place = try place(value, of: what)
    (tensor.offset, tensor.crc32) = (place.offset, place.crc)
    guard tensor.byteCount == place.bytes else {
      throw broken(9, "\(what) has \(place.bytes) bytes, its shape and encoding need \(tensor.byteCount)")
    }
    guard tensor.offset % tensor.alignment == 0 else {
      throw broken(10, "\(what) starts at byte \(tensor.offset), not a multiple of \(tensor.alignment)")
    }
    return tensor
  }

  private func encoding(_ value: JSONValue, shape: [Int], what: String) throws -> PackedTensor.Encoding {
    func dtype() throws -> DType {
      guard let name = value["dtype"]?.stringValue, let dtype = DType(rawValue: name) else {
        throw broken(9, "\(what) has no known dtype")
      }
      return dtype
    }
    switch value["encoding"]?.stringValue {
    case "rows": return .rows(try dtype())
    case "panels":
      let dtype = try dtype()
      guard shape.count == 2, [.f32, .f16, .bf16].contains(dtype) else {
        throw broken(9, "\(what) cannot be in panels: it is \(dtype.rawValue) \(shape)")
      }
      return .panels(dtype)
    case "int-panels":
      guard shape.count == 2, shape[0] > 0, shape[1] > 0, let bits = value["bits"]?.intValue,
        [2, 3, 4, 8].contains(bits), let groupSize = value["group_size"]?.intValue, groupSize > 0,
        groupSize <= shape[1] || groupSize <= 1 << 20, let symmetric = value["symmetric"]?.boolValue,
        let permuted = value["permuted"]?.boolValue,
        IntPanelLayout.obstacle(bits: bits, groupSize: groupSize, in: shape[1]) == nil
      else { throw broken(9, "\(what) has no valid bits, group_size, symmetric and permuted") }
      return .intPanels(
        IntPanelLayout(
          bits: bits, groupSize: groupSize, outFeatures: shape[0], inFeatures: shape[1],
          isSymmetric: symmetric,
          isPermuted: permuted))
    default:
      throw broken(9, "\(what) has encoding \(value["encoding"]?.serialized() ?? "none"), which is not known")
    }
  }

  private func checkPlaces(_ header: PackedHeader, dataStart: Int) throws {
    var names: Set<ByteText> = []
    for name in header.files.map(\.name) where !names.insert(name.bytes).inserted {
      throw broken(8, "file \(name) appears twice")
    }
    names = []
    for name in header.tensors.map(\.name) where !names.insert(name.bytes).inserted {
      throw broken(8, "tensor \(name) appears twice")
    }
    var end = dataStart
    let ranges =
      header.files.map { ("file \($0.name)", $0.range) }
      + header.tensors.map { ("tensor \($0.name)", $0.range) }
    for (what, range) in ranges.sorted(by: {
      ($0.1.lowerBound, $0.1.upperBound) < ($1.1.lowerBound, $1.1.upperBound)
    }) {
      guard range.lowerBound >= end else {
        throw broken(10, "\(what) starts at byte \(range.lowerBound), inside what comes before it")
      }
      end = range.upperBound
    }
  }
}
