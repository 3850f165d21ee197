import Compute

/// A matrix W `[outFeatures, inFeatures]` that activations are multiplied with, in one of the orders it may be stored in.
///
/// `owner` keeps the memory alive: a mapped file, or a buffer.
package enum WeightMatrix: Sendable {
  case rows(RowMatrix)
  case panels(PanelMatrix)
  case intPanels(IntPanelMatrix)

  package var outFeatures: Int {
    switch self {
    case .rows(let m): m.outFeatures
    case .panels(let m): m.outFeatures
    case .intPanels(let m): m.outFeatures
    }
  }
  package var inFeatures: Int {
    switch self {
    case .rows(let m): m.inFeatures
    case .panels(let m): m.inFeatures
    case .intPanels(let m): m.inFeatures
    }
  }
}

extension WeightMatrix {
  /// Whether both are the same matrix in memory.
  package func sharesMemory(with other: WeightMatrix) -> Bool {
    switch (self, other) {
    case (.rows(let a), .rows(let b)): a.elements == b.elements
    case (.panels(let a), .panels(let b)): a.elements == b.elements
    case (.intPanels(let a), .intPanels(let b)): a.codes == b.codes
    default: false
    }
  }

  /// Some outputs of a float matrix, sharing its memory; for panels `range` starts at a whole one.
  package func outputs(_ range: Range<Int>) -> WeightMatrix {
    switch self {
    case .rows(let m):
      return .rows(
        RowMatrix(
          elements: m.elements + range.lowerBound * m.inFeatures * m.dtype.byteCount, dtype: m.dtype,
          outFeatures: range.count, inFeatures: m.inFeatures, owner: m.owner))
    case .panels(let m):
      precondition(range.lowerBound % panelWidth == 0)
      return .panels(
        PanelMatrix(
          elements: m.elements + range.lowerBound * m.inFeatures * m.dtype.byteCount, dtype: m.dtype,
          outFeatures: range.count, inFeatures: m.inFeatures, owner: m.owner))
    case .intPanels: preconditionFailure("integer matrices are not cut")
    }
  }
}

/// Row-major floats, as Hugging Face stores them: element (n, k) at `n * inFeatures + k`.
package struct RowMatrix: Sendable {
  private let bytes: SharedPointer<UInt8>
  package let dtype: DType
  package let outFeatures: Int
  package let inFeatures: Int
  package let owner: any AnyObject & Sendable

  package var elements: UnsafeRawPointer { bytes.raw }

  package init(
    elements: UnsafeRawPointer, dtype: DType, outFeatures: Int, inFeatures: Int,
    owner: any AnyObject & Sendable
  ) {
    precondition([.f32, .f16, .bf16].contains(dtype))
    bytes = SharedPointer(bytes: elements)
    self.dtype = dtype
    self.outFeatures = outFeatures
    self.inFeatures = inFeatures
    self.owner = owner
  }
}

/// Floats in panels of 16 outputs, k-major inside a panel: element (n, k) at `(n / 16 * inFeatures + k) * 16 + n % 16`.
/// Outputs that fill the last panel up are zero.
package struct PanelMatrix: Sendable {
  private let bytes: SharedPointer<UInt8>
  package let dtype: DType
  package let outFeatures: Int
  package let inFeatures: Int
  package let owner: any AnyObject & Sendable

  package var elements: UnsafeRawPointer { bytes.raw }

  package init(
    elements: UnsafeRawPointer, dtype: DType, outFeatures: Int, inFeatures: Int,
    owner: any AnyObject & Sendable
  ) {
    precondition([.f32, .f16, .bf16].contains(dtype))
    bytes = SharedPointer(bytes: elements)
    self.dtype = dtype
    self.outFeatures = outFeatures
    self.inFeatures = inFeatures
    self.owner = owner
  }

  package var panelCount: Int { (outFeatures + panelWidth - 1) / panelWidth }
  package static func byteCount(outFeatures: Int, inFeatures: Int, dtype: DType) -> Int {
    (outFeatures + panelWidth - 1) / panelWidth * panelWidth * inFeatures * dtype.byteCount
  }
}

/// Integer codes in panels of 16 outputs with a scale and a zero point for every group of inputs:
/// `w[n][k] = scale[g][n] * (code[n][k] - zero[g][n])`, `g = k / groupSize`.
///
/// `bits` is the width of a field, 2, 4 or 8 (3-bit codes are kept in 4-bit fields). 64 bytes hold 16 outputs ×
/// `32 / bits` inputs: byte `4 r + j` has in field `f` (bits `f * bits` and up) the code of output `r`, input `4 f + j`
/// of the block. Per panel: `inFeatures * bits / 32` blocks; `groupCount * 16` scales (IEEE half); as many zeros.
package struct IntPanelMatrix: Sendable {
  /// Where the panels are.
  package let panels: IntPanelView
  package let outFeatures: Int
  /// Input `k` of the panels is channel `permutation[k]` of the activations (act-order); nil: the same order.
  package let permutation: SharedPointer<UInt32>?
  package let owner: any AnyObject & Sendable

  /// - Parameters:
  ///   - zeros: nil: every zero point is `2^(codeBits - 1)` where codeBits = bits (symmetric quantization).
  ///   - groupSize: inputs of one group, a multiple of 32; `inFeatures` when a group is a whole row. The last group may be
  ///     shorter.
  package init(
    bits: Int, codes: UnsafePointer<UInt8>, scales: UnsafePointer<UInt16>, zeros: UnsafePointer<UInt8>?,
    groupSize: Int, outFeatures: Int, inFeatures: Int, permutation: UnsafePointer<UInt32>?,
    owner: any AnyObject & Sendable
  ) {
    panels = IntPanelView(
      bits: bits, codes: SharedPointer(codes), scales: SharedPointer(scales),
      zeros: zeros.map { SharedPointer($0) }, groupSize: groupSize, inFeatures: inFeatures,
      panelCount: (outFeatures + panelWidth - 1) / panelWidth)
    self.outFeatures = outFeatures
    self.permutation = permutation.map { SharedPointer($0) }
    self.owner = owner
  }

  package var bits: Int { panels.bits }
  package var codes: UnsafePointer<UInt8> { panels.codes.pointer }
  package var scales: UnsafePointer<UInt16> { panels.scales.pointer }
  package var zeros: UnsafePointer<UInt8>? { panels.zeros?.pointer }
  package var groupSize: Int { panels.groupSize }
  package var inFeatures: Int { panels.inFeatures }
  package var panelCount: Int { panels.panelCount }
  package var groupCount: Int { panels.groupCount }
  /// Bytes of the codes of one panel.
  package var panelCodeByteCount: Int { panels.panelCodeByteCount }
}
