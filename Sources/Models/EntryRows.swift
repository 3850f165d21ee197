import Architecture
import Compute
import Files
import Tensors

extension ModelEntry {
  /// An integer matrix in GPTQ's terms; nil when the entry holds floats.
  package func quantizedMatrix(pool: WorkerPool = .shared) throws -> QuantizedMatrix? {
    switch form {
    case .quantized(_, let read): return try read()
    case .intPanels(let layout, let stored): return IntPanelTensor(layout, stored).unpacked(pool: pool)
    // Only the benchmark makes streams, and it writes them as packed files.
    case .stream: preconditionFailure("\(key) is written piece by piece; it cannot be read")
    case .rows, .panels, .made: return nil
    }
  }

  /// An integer matrix in the order that kernels read; nil when the entry holds floats.
  package func intPanelTensor(pool: WorkerPool = .shared) throws -> IntPanelTensor? {
    switch form {
    case .intPanels(let layout, let stored): return IntPanelTensor(layout, stored)
    case .quantized(_, let read): return IntPanelTensor(packing: try read(), pool: pool)
    // Only the benchmark makes streams, and it writes them as packed files.
    case .stream: preconditionFailure("\(key) is written piece by piece; it cannot be read")
    case .rows, .panels, .made: return nil
    }
  }

  /// Row-major bytes of a float tensor, whatever the order they are kept in.
  package func rowMajorBytes(pool: WorkerPool = .shared) throws -> UnsafeBytes {
    switch form {
    case .rows(_, let bytes): return bytes
    case .made(_, let make): return try make()
    case .panels(let stored, let bytes):
      let (out, inFeatures) = (shape[0], shape[1])
      let rows = AlignedBuffer<UInt8>(count: out * inFeatures * stored.byteCount)
      if let base = bytes.bytes.baseAddress {
        FloatPanels.unpack(
          base, dtype: stored, out: out, in: inFeatures, into: UnsafeMutableRawPointer(rows.pointer),
          pool: pool)
      }
      return UnsafeBytes(UnsafeRawBufferPointer(rows.buffer), owner: rows)
    // Every caller asks for the type of the floats first.
    case .intPanels, .quantized, .stream: preconditionFailure("\(key) holds integers")
    }
  }

  private var layout: IntPanelLayout? {
    switch form {
    case .intPanels(let layout, _), .quantized(let layout, _), .stream(let layout, _): layout
    case .rows, .panels, .made: nil
    }
  }

  /// The rows `ranges` of this tensor, in that order, as a tensor of its own; read when they are asked for. Rows are
  /// outputs: elements of a bias, columns of `qweight`.
  package func selectingRows(_ ranges: [Range<Int>], as key: TensorKey) -> ModelEntry {
    let entry = self
    let count = ranges.reduce(0) { $0 + $1.count }
    let shape = [count] + self.shape.dropFirst()
    if let layout {
      let selected = IntPanelLayout(
        bits: layout.bits, groupSize: layout.groupSize, outFeatures: count, inFeatures: layout.inFeatures,
        isSymmetric: layout.isSymmetric, isPermuted: layout.isPermuted)
      return ModelEntry(
        key: key, shape: shape,
        form: .quantized(selected) {
          guard let matrix = try entry.quantizedMatrix() else {
            // The forms with a layout are those with integers.
            preconditionFailure("\(entry.key) has a layout")
          }
          return matrix.selectingOutputs(ranges)
        })
    }
    // A form without a layout has a type.
    guard let dtype else { preconditionFailure("\(self.key) is neither floats nor integers") }
    let rowBytes = shape.dropFirst().reduce(dtype.byteCount, *)
    return ModelEntry(
      key: key, shape: shape,
      form: .made(dtype) {
        let source = try entry.rowMajorBytes()
        return withExtendedLifetime(source.owner) { gathered([source.bytes], ranges, rowBytes: rowBytes) }
      })
  }

  /// Tensors of the same inputs as one: the rows `ranges`, in that order, of all their rows one after the other.
  /// - Parameter names: what to call the parts in messages.
  /// - Throws: when they are of different types, or integers with different groups.
  package static func joiningRows(
    of parts: [ModelEntry], _ ranges: [Range<Int>], as key: TensorKey, names: String, path: String
  ) throws -> ModelEntry {
    let shape = [ranges.reduce(0) { $0 + $1.count }] + parts[0].shape.dropFirst()
    if let layout = parts[0].layout {
      let differ = ModelError(.partsDiffer, path: path, tensor: names)
      let layouts = parts.compactMap(\.layout)
      guard layouts.count == parts.count,
        layouts.allSatisfy({
          $0.isPermuted == layout.isPermuted && $0.bits == layout.bits && $0.groupSize == layout.groupSize
        })
      else { throw differ }
      let joined = IntPanelLayout(
        bits: layout.bits, groupSize: layout.groupSize, outFeatures: shape[0], inFeatures: layout.inFeatures,
        isSymmetric: layouts.allSatisfy(\.isSymmetric), isPermuted: layout.isPermuted)
      return ModelEntry(
        key: key, shape: shape,
        form: .quantized(joined) {
          guard let matrix = QuantizedMatrix.joiningOutputs(try parts.compactMap { try $0.quantizedMatrix() })
          else { throw differ }
          return matrix.selectingOutputs(ranges)
        })
    }
    guard let dtype = parts[0].dtype, parts.allSatisfy({ $0.dtype == dtype }) else {
      throw ModelError(.typesDiffer, path: path, tensor: names)
    }
    let rowBytes = shape.dropFirst().reduce(dtype.byteCount, *)
    return ModelEntry(
      key: key, shape: shape,
      form: .made(dtype) {
        let sources = try parts.map { try $0.rowMajorBytes() }
        return withExtendedLifetime(sources.map(\.owner)) {
          gathered(sources.map(\.bytes), ranges, rowBytes: rowBytes)
        }
      })
  }
}

/// Copies the rows `ranges` of the rows of `sources` one after the other.
private func gathered(_ sources: [UnsafeRawBufferPointer], _ ranges: [Range<Int>], rowBytes: Int)
  -> UnsafeBytes
{
  let result = AlignedBuffer<UInt8>(count: ranges.reduce(0) { $0 + $1.count } * rowBytes)
  var to = UnsafeMutableRawPointer(result.pointer)
  for range in ranges {
    var (start, source) = (range.lowerBound * rowBytes, 0)
    while start >= sources[source].count {
      start -= sources[source].count
      source += 1
    }
    let bytes = range.count * rowBytes
    // Ranges come from the configuration, and the rows of every source were checked against it.
    precondition(start + bytes <= sources[source].count, "a range of rows spans two tensors")
    if let base = sources[source].baseAddress { to.copyMemory(from: base + start, byteCount: bytes) }
    to += bytes
  }
  return UnsafeBytes(UnsafeRawBufferPointer(result.buffer), owner: result)
}
