import Architecture
import Compute
import Files
import GGUF
import Models
import Tensors

/// Turns a model's entries into the bytes of GGUF tensors; keeps what it read last, since q, k and v of a fused matrix are
/// written one after the other.
struct GGUFPartSource {
  let path: String
  let pool: WorkerPool
  private var matrix: (key: TensorKey, value: QuantizedMatrix)?
  private var rows: (key: TensorKey, value: UnsafeBytes)?

  init(path: String, pool: WorkerPool) {
    (self.path, self.pool) = (path, pool)
  }

  mutating func emit(_ part: GGUFExporter.Part, _ emit: (UnsafeRawBufferPointer) throws -> Void) throws {
    let entry = part.entry
    switch entry.form {
    case .intPanels, .quantized, .stream:
      let matrix = try quantized(entry)
      if part.plan.type == .q4_1, let largest = matrix.scales.map({ $0 & 0x7FFF }).max(),
        HalfPrecision.value(of: largest) * 15 > 65504
      {
        throw ConversionError(.minimaTooLarge, path: path, tensor: part.plan.name)
      }
      let blocks = GGUFCodes.blocks(
        matrix, rows: part.rows ?? Array(0..<matrix.outFeatures), type: part.plan.type, pool: pool)
      try emit(UnsafeRawBufferPointer(blocks.buffer))
    case .rows(let stored, let bytes): try emitFloats(part, stored, bytes, emit)
    case .made(let stored, let make): try emitFloats(part, stored, try made(entry.key, make), emit)
    case .panels(let stored, let bytes):
      guard part.rows == nil else {
        let (shape, pool) = (entry.shape, pool)
        let all = try made(entry.key) {
          GGUFPartSource.rowMajor(bytes, stored, shape, 0..<shape[0], pool: pool)
        }
        return try emitFloats(part, stored, all, emit)
      }
      // A few megabytes of panels at a time.
      let step = max(1, (8 << 20) / max(1, entry.shape[1] * stored.byteCount * panelWidth)) * panelWidth
      for first in stride(from: 0, to: entry.shape[0], by: step) {
        let block = GGUFPartSource.rowMajor(
          bytes, stored, entry.shape, first..<min(entry.shape[0], first + step), pool: pool)
        try cast(block, stored, part.plan, emit)
      }
    }
  }

  // MARK: Integers

  private mutating func quantized(_ entry: ModelEntry) throws -> QuantizedMatrix {
    if let matrix, matrix.key == entry.key { return matrix.value }
    let found: QuantizedMatrix
    switch entry.form {
    case .quantized(_, let read): found = try read()
    case .intPanels(let layout, let stored): found = IntPanelTensor(layout, stored).unpacked(pool: pool)
    // A stream is only made by the benchmark, for a packed file; the other forms are floats, which the caller told apart.
    default: preconditionFailure("\(entry.key) is not an integer matrix that can be read")
    }
    matrix = (entry.key, found)
    return found
  }

  // MARK: Floats

  private mutating func made(_ key: TensorKey, _ make: () throws -> UnsafeBytes) throws -> UnsafeBytes {
    if let rows, rows.key == key { return rows.value }
    let found = try make()
    rows = (key, found)
    return found
  }

  /// Rows `range`, which starts at a whole panel, of a matrix in panels.
  private static func rowMajor(
    _ panels: UnsafeBytes, _ dtype: DType, _ shape: [Int], _ range: Range<Int>, pool: WorkerPool
  ) -> UnsafeBytes {
    let rowBytes = shape[1] * dtype.byteCount
    let rows = AlignedBuffer<UInt8>(count: range.count * rowBytes)
    if let base = panels.bytes.baseAddress {
      FloatPanels.unpack(
        base + range.lowerBound * rowBytes, dtype: dtype, out: range.count, in: shape[1], into: rows.pointer,
        pool: pool)
    }
    return UnsafeBytes(UnsafeRawBufferPointer(rows.buffer), owner: rows)
  }

  private func emitFloats(
    _ part: GGUFExporter.Part, _ stored: DType, _ bytes: UnsafeBytes,
    _ emit: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    guard let order = part.rows else { return try cast(bytes, stored, part.plan, emit) }
    let width = part.entry.shape.dropFirst().reduce(stored.byteCount, *)
    let step = max(1, (8 << 20) / max(1, width))
    for first in stride(from: 0, to: order.count, by: step) {
      let members = order[first..<min(order.count, first + step)]
      let gathered = AlignedBuffer<UInt8>(count: members.count * width)
      if let base = bytes.bytes.baseAddress {
        for (i, row) in members.enumerated() {
          UnsafeMutableRawPointer(gathered.pointer + i * width)
            .copyMemory(from: base + row * width, byteCount: width)
        }
      }
      try cast(
        UnsafeBytes(UnsafeRawBufferPointer(gathered.buffer), owner: gathered), stored, part.plan, emit)
    }
  }

  /// Whole rows in the type of the plan.
  private func cast(
    _ bytes: UnsafeBytes, _ stored: DType, _ plan: GGUFTensorPlan,
    _ emit: (UnsafeRawBufferPointer) throws -> Void
  ) throws {
    try withExtendedLifetime(bytes.owner) {
      if let index = FiniteCheck.firstNotFinite(bytes.bytes, dtype: stored, pool: pool) {
        throw ConversionError(.notFinite(index: index), path: path, tensor: plan.name)
      }
      let cast = FloatCast(plan.name, path: path, pool: pool)
      if let target = plan.type.dtype {
        return try cast.forEachChunk(bytes.bytes, from: stored, to: target, emit)
      }
      try cast.forEachChunk(bytes.bytes, from: stored, to: .f32) { floats in
        let count = floats.count / 4
        let blocks = AlignedBuffer<UInt8>(count: plan.type.byteCount(of: count))
        guard let base = floats.baseAddress?.assumingMemoryBound(to: Float.self) else { return }
        guard GGUFCodes.quantizedQ8(base, count: count, into: blocks.pointer) else {
          throw ConversionError(.tooLargeForQ8, path: path, tensor: plan.name)
        }
        try emit(UnsafeRawBufferPointer(blocks.buffer))
      }
    }
  }
}
