import Files

/// A metadata value to be written.
package enum GGUFField: Equatable, Sendable {
  case uint32(UInt32)
  case float32(Float)
  case bool(Bool)
  case string(String)
  case strings([String])
  case int32s([Int32])
  case float32s([Float])
}

/// A tensor that is going to be written. `shape` has the slowest dimension first.
package struct GGUFTensorPlan: Equatable, Sendable {
  package var name: String
  package var type: GGUFTensorType
  package var shape: [Int]

  package init(_ name: String, _ type: GGUFTensorType, _ shape: [Int]) {
    self.name = name
    self.type = type
    self.shape = shape
  }

  package var byteCount: Int { type.byteCount(of: shape.reduce(1, *)) }
}

/// Writes GGUF files of version 3, tensor by tensor, never holding more than one.
package enum GGUFWriter {
  package static let alignment = 32

  /// Gives the bytes of a tensor to `emit`, in pieces if it likes; `plan.byteCount` in all.
  package typealias Body = (_ plan: GGUFTensorPlan, _ emit: (UnsafeRawBufferPointer) throws -> Void) throws ->
    Void

  /// Bytes of the whole file.
  package static func byteCount(fields: [(String, GGUFField)], tensors: [GGUFTensorPlan]) -> Int {
    tensors.reduce(aligned(header(fields: fields, tensors: tensors).count)) { $0 + aligned($1.byteCount) }
  }

  /// - Parameter check: called with the path of the finished file before it gets its name; when it throws, it is not kept.
  package static func write(
    to path: String, fields: [(String, GGUFField)], tensors: [GGUFTensorPlan],
    check: (_ path: String) throws -> Void = { _ in }, body: Body
  ) throws {
    let file = try AtomicFile(path: path, expectedByteCount: byteCount(fields: fields, tensors: tensors))
    try file.write(header(fields: fields, tensors: tensors))
    try file.pad(toMultipleOf: alignment)
    for tensor in tensors {
      let start = file.byteCount
      try body(tensor) { try file.write($0) }
      precondition(file.byteCount - start == tensor.byteCount, "body of \(tensor.name) has the wrong length")
      try file.pad(toMultipleOf: alignment)
    }
    try file.commit(checking: check)
  }

  private static func aligned(_ count: Int) -> Int { (count + alignment - 1) / alignment * alignment }

  private static func header(fields: [(String, GGUFField)], tensors: [GGUFTensorPlan]) -> [UInt8] {
    var out = GGUFBytes()
    out.content += GGUFReader.magic
    out.put(UInt32(3))
    out.put(UInt64(tensors.count))
    out.put(UInt64(fields.count))
    for (key, field) in fields {
      out.put(key)
      out.put(field)
    }
    var offset = 0
    for tensor in tensors {
      out.put(tensor.name)
      out.put(UInt32(tensor.shape.count))
      for dimension in tensor.shape.reversed() { out.put(UInt64(dimension)) }
      out.put(tensor.type.rawValue)
      out.put(UInt64(offset))
      offset += aligned(tensor.byteCount)
    }
    return out.content
  }
}

/// Little-endian bytes in the making.
private struct GGUFBytes {
  var content: [UInt8] = []

  mutating func put<T: FixedWidthInteger>(_ value: T) {
    withUnsafeBytes(of: value.littleEndian) { content.append(contentsOf: $0) }
  }

  mutating func put(_ text: String) {
    put(UInt64(text.utf8.count))
    content.append(contentsOf: text.utf8)
  }

  private mutating func put(_ type: GGUFValueType) { put(type.rawValue) }

  mutating func put(_ field: GGUFField) {
    func array(_ type: GGUFValueType, _ count: Int) {
      put(.array)
      put(type)
      put(UInt64(count))
    }
    switch field {
    case .uint32(let value):
      put(.uint32)
      put(value)
    case .float32(let value):
      put(.float32)
      put(value.bitPattern)
    case .bool(let value):
      put(.bool)
      put(UInt8(value ? 1 : 0))
    case .string(let value):
      put(.string)
      put(value)
    case .strings(let values):
      array(.string, values.count)
      for value in values { put(value) }
    case .int32s(let values):
      array(.int32, values.count)
      for value in values { put(value) }
    case .float32s(let values):
      array(.float32, values.count)
      for value in values { put(value.bitPattern) }
    }
  }
}
