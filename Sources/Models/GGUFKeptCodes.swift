import AutoGPTQ
import GGUF
import Tensors

/// Which blocks of a GGUF file can stay integer codes, and in what groups: the way back of ``GGUFCodes``.
///
/// Q4_0 is 4 bits symmetric, Q8_0 8 bits symmetric, both in groups of 32 at least: blocks that share a scale all through
/// the file are one group again. Q4_1 is 4 bits asymmetric when every minimum is `scale · zero` of a whole zero point, as
/// it is when the codes came from GPTQ. Scales may be negative, as llama.cpp's own quantizer makes them.
struct GGUFKeptCodes: Equatable, Sendable {
  let type: GGUFTensorType
  let groupSize: Int
  var bits: Int { type == .q8_0 ? 8 : 4 }
  var isSymmetric: Bool { type != .q4_1 }

  var quantization: QuantizeConfiguration {
    QuantizeConfiguration(bits: bits, groupSize: groupSize, isSymmetric: isSymmetric)
  }

  /// - Parameter matrices: the matrices of all layers.
  /// - Returns: nil when none of them holds codes that can be kept.
  init?(_ file: GGUFFile, matrices: [GGUFTensor]) {
    guard
      let type = [GGUFTensorType.q4_0, .q4_1, .q8_0].first(where: { type in
        matrices.contains { $0.type == type }
      })
    else { return nil }
    self.type = type
    let members = matrices.filter { $0.type == type }
    if type == .q4_1 {
      for tensor in members {
        let blocks = GGUFBlockReader(file, tensor)
        guard (0..<blocks.count).allSatisfy({ blocks.zero($0) != nil }) else { return nil }
      }
    }
    let sizes = [128, 64].filter { size in
      members.allSatisfy { GGUFBlockReader(file, $0).isGrouped(size) }
    }
    groupSize = sizes.first ?? 32
  }

  func layout(_ tensor: GGUFTensor) -> IntPanelLayout {
    IntPanelLayout(
      bits: bits, groupSize: groupSize, outFeatures: tensor.shape[0], inFeatures: tensor.shape[1],
      isSymmetric: isSymmetric, isPermuted: false)
  }

  /// The matrix in GPTQ's terms; row n is row `rows[n]` of the file's.
  func matrix(_ file: GGUFFile, _ tensor: GGUFTensor, rows: [Int]?) -> QuantizedMatrix {
    let (out, inputs) = (tensor.shape[0], tensor.shape[1])
    let blocks = GGUFBlockReader(file, tensor)
    let perRow = inputs / 32
    let groups = (inputs + groupSize - 1) / groupSize
    var result = QuantizedMatrix(
      bits: bits, groupSize: groupSize, inFeatures: inputs, outFeatures: out,
      codes: [UInt8](repeating: 0, count: inputs * out), scales: [UInt16](repeating: 0, count: groups * out),
      zeros: [UInt8](repeating: UInt8(1 << (bits - 1)), count: groups * out),
      groupIndex: (0..<inputs).map { Int32($0 / groupSize) })
    for n in 0..<out {
      let first = (rows?[n] ?? n) * perRow
      for b in 0..<perRow {
        let at = b * 32 / groupSize * out + n
        result.scales[at] = blocks.scale(first + b)
        if type == .q4_1 { result.zeros[at] = blocks.zero(first + b) ?? 0 }
        for i in 0..<32 { result.codes[(b * 32 + i) * out + n] = blocks.code(first + b, i) }
      }
    }
    return result
  }
}

/// Single blocks of a tensor.
private struct GGUFBlockReader {
  private let bytes: UnsafeRawBufferPointer
  private let tensor: GGUFTensor
  private let file: GGUFFile

  init(_ file: GGUFFile, _ tensor: GGUFTensor) {
    (self.file, self.tensor) = (file, tensor)
    bytes = file.bytes(of: tensor)
  }

  var count: Int { bytes.count / tensor.type.blockByteCount }
  private func half(_ offset: Int) -> UInt16 {
    UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
  }

  func scale(_ block: Int) -> UInt16 { half(block * tensor.type.blockByteCount) }

  func code(_ block: Int, _ i: Int) -> UInt8 {
    let start = block * tensor.type.blockByteCount
    switch tensor.type {
    case .q8_0: return bytes[start + 2 + i] &+ 128
    default:
      let byte = bytes[start + tensor.type.blockByteCount - 16 + i % 16]
      return i < 16 ? byte & 15 : byte >> 4
    }
  }

  /// The zero point whose product with the scale, rounded to half precision, is the block's minimum; nil: there is none.
  func zero(_ block: Int) -> UInt8? {
    let minimum = half(block * tensor.type.blockByteCount + 2)
    let scale = HalfPrecision.widened(scale(block))
    let quotient = (-HalfPrecision.widened(minimum) / scale).rounded()
    guard quotient >= 0, quotient <= 15 else { return nil }
    // Minus zero is zero's minimum.
    return HalfPrecision.value(of: HalfPrecision.bits(of: -scale * quotient))
      == HalfPrecision.value(of: minimum)
      ? UInt8(quotient) : nil
  }

  /// Whether the blocks of every group of `size` inputs have one scale and one minimum.
  func isGrouped(_ size: Int) -> Bool {
    let (perRow, perGroup) = ((tensor.shape.last ?? 0) / 32, size / 32)
    guard perRow > 0 else { return false }
    return (0..<count).allSatisfy { block in
      let place = block % perRow
      let first = block - place + place / perGroup * perGroup
      return scale(block) == scale(first) && (tensor.type != .q4_1 || zero(block) == zero(first))
    }
  }
}
