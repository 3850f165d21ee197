import Files
import JSON
import Tensors

/// A tensor that is going to be written.
package struct TensorPlan: Equatable, Sendable {
  package var name: String
  package var dtype: DType
  package var shape: [Int]

  package init(_ name: String, _ dtype: DType, _ shape: [Int]) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
  }

  package var byteCount: Int { shape.reduce(dtype.byteCount, *) }
}

/// Writes safetensors files that the reference implementation reads, tensor by tensor, never holding more than one.
package enum SafetensorsWriter {
  /// Gives the bytes of a tensor to `emit`, in pieces if it likes; `plan.byteCount` in all.
  package typealias Body = (_ plan: TensorPlan, _ emit: (UnsafeRawBufferPointer) throws -> Void) throws ->
    Void

  /// The order of the reference writer: wide elements first, then by name.
  package static func ordered(_ tensors: [TensorPlan]) -> [TensorPlan] {
    tensors.sorted { ($1.dtype.byteCount, $0.name.bytes) < ($0.dtype.byteCount, $1.name.bytes) }
  }

  /// Length field and JSON header, padded with spaces so that both together are a multiple of `alignment`, itself one of 8.
  static func header(_ tensors: [TensorPlan], metadata: [(String, String)], alignment: Int = 8) -> [UInt8] {
    var object = JSONObject()
    if !metadata.isEmpty {
      object["__metadata__"] = .object(JSONObject(metadata.map { ($0.0, .string($0.1)) }))
    }
    var offset = 0
    for tensor in tensors {
      object[tensor.name] = .object(
        JSONObject([
          ("dtype", .string(tensor.dtype.rawValue)),
          ("shape", .array(tensor.shape.map { .init($0) })),
          ("data_offsets", .array([.init(offset), .init(offset + tensor.byteCount)])),
        ]))
      offset += tensor.byteCount
    }
    var text = Array(JSONValue.object(object).serialized().utf8)
    while (text.count + 8) % alignment != 0 { text.append(UInt8(ascii: " ")) }
    return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text
  }

  /// Writes one file.
  /// - Parameter alignment: of the first tensor's data in the file, a multiple of 8.
  package static func write(
    to path: String, tensors: [TensorPlan], metadata: [(String, String)] = [("format", "pt")], alignment: Int = 8,
    body: Body
  ) throws {
    precondition(alignment > 0 && alignment % 8 == 0)
    let tensors = ordered(tensors)
    let header = header(tensors, metadata: metadata, alignment: alignment)
    let file = try AtomicFile(
      path: path, expectedByteCount: tensors.reduce(header.count) { $0 + $1.byteCount })
    try file.write(header)
    for tensor in tensors {
      let start = file.byteCount
      try body(tensor) { try file.write($0) }
      precondition(file.byteCount - start == tensor.byteCount, "body of \(tensor.name) has the wrong length")
    }
    try file.commit()
  }

  /// Splits tensors, in the given order, into shards of at most `limit` bytes of data (one larger tensor is a shard of
  /// its own).
  package static func shards(_ tensors: [TensorPlan], limit: Int) -> [[TensorPlan]] {
    var shards: [[TensorPlan]] = []
    var size = 0
    for tensor in tensors {
      if shards.isEmpty || (size + tensor.byteCount > limit && size > 0) {
        shards.append([])
        size = 0
      }
      shards[shards.count - 1].append(tensor)
      size += tensor.byteCount
    }
    return shards.isEmpty ? [[]] : shards
  }

  /// The name of shard `index` of `count`, as Hugging Face names it.
  package static func shardName(_ index: Int, of count: Int) -> String {
    guard count > 1 else { return "model.safetensors" }
    func five(_ n: Int) -> String { String(repeating: "0", count: max(0, 5 - String(n).count)) + String(n) }
    return "model-\(five(index + 1))-of-\(five(count)).safetensors"
  }

  package static let indexName = "model.safetensors.index.json"

  /// Writes `model.safetensors`, or shards and their index, into `folder`. Shards follow the order given, so that a
  /// streaming `body` meets the tensors shard by shard.
  package static func writeSharded(
    intoFolder folder: String, tensors: [TensorPlan], shardByteLimit: Int,
    metadata: [(String, String)] = [("format", "pt")], body: Body
  ) throws {
    let shards = shards(tensors, limit: shardByteLimit)
    var map: [(String, String)] = []
    for (index, shard) in shards.enumerated() {
      let name = shardName(index, of: shards.count)
      try write(to: "\(folder)/\(name)", tensors: shard, metadata: metadata, body: body)
      map += shard.map { ($0.name, name) }
    }
    guard shards.count > 1 else { return }
    let index: JSONValue = [
      "metadata": ["total_size": .init(tensors.reduce(0) { $0 + $1.byteCount })],
      "weight_map": .object(JSONObject(map.sorted { $0.0.bytes < $1.0.bytes }.map { ($0.0, .string($0.1)) })),
    ]
    try AtomicFile.write(index.serialized(indent: 2) + "\n", to: "\(folder)/\(indexName)")
  }
}
