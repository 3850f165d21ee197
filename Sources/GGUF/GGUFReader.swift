import Files
import Tensors

/// Takes values off the front of a GGUF file's header. Nothing is allocated whose size the file merely claims.
struct GGUFCursor {
  let bytes: UnsafeRawBufferPointer
  var offset: Int
  let path: String

  /// Arrays of arrays may go this deep (F6).
  static let deepestArray = 4

  func bad(_ reason: GGUFError.Reason, tensor: String? = nil) -> GGUFError {
    GGUFError(reason, path: path, tensor: tensor)
  }

  var remaining: Int { bytes.count - offset }

  /// - Parameter what: what the message says was being read.
  mutating func integer<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type, _ what: String) throws -> T {
    let size = MemoryLayout<T>.size
    guard remaining >= size else {
      throw bad(.truncated(byteCount: bytes.count, what: what))
    }
    defer { offset += size }
    return T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
  }

  /// A count of things of which each takes at least `smallest` bytes of what is left (F3).
  mutating func count(_ what: String, smallest: Int) throws -> Int {
    let declared = try integer(UInt64.self, what)
    guard declared <= UInt64(remaining / smallest) else {
      throw bad(.countTooLarge(declared, what: what, remaining: remaining))
    }
    return Int(declared)
  }

  /// Length and UTF-8 bytes (F4).
  mutating func string(_ what: String) throws -> String {
    let count = try count("the bytes of \(what)", smallest: 1)
    let content = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
    guard let text = String(validating: content, as: UTF8.self) else {
      throw bad(.notUTF8(what: what))
    }
    offset += count
    return text
  }

  mutating func value(_ type: GGUFValueType, of key: String, depth: Int) throws -> GGUFValue {
    let what = "metadata \(key)"
    switch type {
    case .uint8: return .integer(Int(try integer(UInt8.self, what)))
    case .int8: return .integer(Int(try integer(Int8.self, what)))
    case .uint16: return .integer(Int(try integer(UInt16.self, what)))
    case .int16: return .integer(Int(try integer(Int16.self, what)))
    case .uint32: return .integer(Int(try integer(UInt32.self, what)))
    case .int32: return .integer(Int(try integer(Int32.self, what)))
    case .uint64: return .integer(Int(exactly: try integer(UInt64.self, what)))
    case .int64: return .integer(Int(try integer(Int64.self, what)))
    case .float32: return .float32(Float(bitPattern: try integer(UInt32.self, what)))
    case .float64: return .float64(Double(bitPattern: try integer(UInt64.self, what)))
    case .bool:
      let byte = try integer(UInt8.self, what)
      guard byte <= 1 else { throw bad(.badBool(byte, what: what)) }
      return .bool(byte == 1)
    case .string: return .string(try string(what))
    case .array: return .array(try array(of: key, depth: depth))
    }
  }

  mutating func type(of key: String) throws -> GGUFValueType {
    let number = try integer(UInt32.self, "the type of metadata \(key)")
    guard let type = GGUFValueType(rawValue: number) else {
      throw bad(.unknownValueType(number, key: key))
    }
    return type
  }

  /// Walks over the elements (F6) and leaves them where they are.
  private mutating func array(of key: String, depth: Int) throws -> GGUFArray {
    guard depth < GGUFCursor.deepestArray else {
      throw bad(.arrayTooDeep(key: key, limit: GGUFCursor.deepestArray))
    }
    let type = try type(of: key)
    let count = try count("the elements of metadata \(key)", smallest: type.smallestByteCount)
    let start = offset
    if type.isFixedSize && type != .bool {
      offset += count * type.smallestByteCount
    } else if type == .string {
      for _ in 0..<count {
        let length = try self.count("the bytes of a string of metadata \(key)", smallest: 1)
        offset += length
      }
    } else {
      for _ in 0..<count { _ = try value(type, of: key, depth: depth + 1) }
    }
    return GGUFArray(elementType: type, count: count, range: start..<offset)
  }
}

/// Reads a GGUF file's header and checks its rules.
struct GGUFReader {
  static let magic = Array("GGUF".utf8)
  /// The reference implementation's own limit on names of tensors.
  static let longestName = 255
  static let alignmentKey = "general.alignment"

  private(set) var version = 0
  private(set) var metadata: [(key: String, value: GGUFValue)] = []
  private(set) var tensors: [GGUFTensor] = []
  private var cursor: GGUFCursor
  private var alignment = 32

  init(bytes: UnsafeRawBufferPointer, path: String) {
    cursor = GGUFCursor(bytes: bytes, offset: 0, path: path)
  }

  mutating func read() throws {
    guard cursor.bytes.count >= 24, cursor.bytes.starts(with: GGUFReader.magic) else {
      throw cursor.bad(ForeignContent(cursor.bytes).map { .foreign($0) } ?? .notGGUF)
    }
    cursor.offset = 4
    let found = try cursor.integer(UInt32.self, "the version")
    guard found == 2 || found == 3 else { throw cursor.bad(.unknownVersion(found)) }
    version = Int(found)
    // A tensor's description takes at least 8 + 1 + 4 + 8 + 4 + 8 bytes, a metadata entry 8 + 1 + 4 + 1.
    let tensorCount = try cursor.count("its tensors", smallest: 33)
    let valueCount = try cursor.count("its metadata", smallest: 14)
    try readMetadata(valueCount)
    try readTensors(tensorCount)
  }

  private mutating func readMetadata(_ count: Int) throws {
    var keys: Set<ByteText> = []
    for index in 0..<count {
      let key = try cursor.string("key \(index) of the metadata")
      guard !key.isEmpty, key.utf8.count < 65536, keys.insert(key.bytes).inserted else {
        throw cursor.bad(.badKey(key, index: index))
      }
      let type = try cursor.type(of: key)
      metadata.append((key, try cursor.value(type, of: key, depth: 0)))
    }
    guard let entry = metadata.first(where: { $0.key == GGUFReader.alignmentKey }) else { return }
    guard case .integer(let value?) = entry.value, value >= 8, value <= 1 << 20, value & (value - 1) == 0
    else {
      throw cursor.bad(.badAlignment(key: GGUFReader.alignmentKey))
    }
    alignment = value
  }

  private mutating func readTensors(_ count: Int) throws {
    var names: Set<ByteText> = []
    var found: [(tensor: GGUFTensor, offset: UInt64)] = []
    for index in 0..<count {
      let name = try cursor.string("the name of tensor \(index)")
      guard !name.isEmpty, name.utf8.count <= GGUFReader.longestName, names.insert(name.bytes).inserted else {
        throw cursor.bad(.badTensorName(index: index))
      }
      found.append(try description(name))
    }
    let dataStart = aligned(cursor.offset)
    var end = 0
    // Equal offsets: the empty tensor first.
    for (tensor, offset) in found.sorted(by: {
      ($0.offset, $0.tensor.range.count) < ($1.offset, $1.tensor.range.count)
    }) {
      guard offset == UInt64(aligned(end)) else {
        throw cursor.bad(
          .notContiguous(start: offset, expected: aligned(end), alignment: alignment), tensor: tensor.name)
      }
      let start = dataStart + Int(offset)
      guard start <= cursor.bytes.count, tensor.range.count <= cursor.bytes.count - start else {
        throw cursor.bad(
          .endsOutside(byteCount: tensor.range.count, start: start, available: cursor.bytes.count),
          tensor: tensor.name)
      }
      var placed = tensor
      placed.range = start..<start + tensor.range.count
      tensors.append(placed)
      end = Int(offset) + tensor.range.count
    }
    let excess = cursor.bytes.count - min(cursor.bytes.count, tensors.isEmpty ? dataStart : dataStart + end)
    let rest = UnsafeRawBufferPointer(rebasing: cursor.bytes[(cursor.bytes.count - excess)...])
    let padding = min(excess, aligned(cursor.bytes.count - excess) - (cursor.bytes.count - excess))
    if rest.starts(with: GGUFReader.magic) || rest.dropFirst(padding).starts(with: GGUFReader.magic) {
      throw cursor.bad(.joined)
    }
    guard excess < alignment else {
      throw cursor.bad(.excess(byteCount: excess, alignment: alignment))
    }
  }

  /// One entry of the table of tensors; its range counts bytes only, the place follows.
  private mutating func description(_ name: String) throws -> (GGUFTensor, UInt64) {
    let rank = try cursor.integer(UInt32.self, "the rank of tensor \(name)")
    guard (1...4).contains(rank) else {
      throw cursor.bad(.badRank(rank), tensor: name)
    }
    var shape: [Int] = []
    for _ in 0..<rank {
      let dimension = try cursor.integer(UInt64.self, "the shape of tensor \(name)")
      guard let dimension = Int(exactly: dimension) else {
        throw cursor.bad(.dimensionTooLarge(dimension), tensor: name)
      }
      shape.insert(dimension, at: 0)
    }
    let number = try cursor.integer(UInt32.self, "the type of tensor \(name)")
    guard let type = GGUFTensorType(rawValue: number) else {
      throw cursor.bad(.unknownTensorType(number), tensor: name)
    }
    let offset = try cursor.integer(UInt64.self, "the place of tensor \(name)")
    guard let count = elementCount(of: shape), (shape.last ?? 0) % type.blockSize == 0 else {
      throw cursor.bad(.badShape(shape, blockSize: type.blockSize), tensor: name)
    }
    let (byteCount, overflow) = (count / type.blockSize).multipliedReportingOverflow(by: type.blockByteCount)
    guard !overflow else { throw cursor.bad(.shapeTooLarge(shape), tensor: name) }
    return (GGUFTensor(name: name, type: type, shape: shape, range: 0..<byteCount), offset)
  }

  private func aligned(_ offset: Int) -> Int { (offset + alignment - 1) / alignment * alignment }
}
