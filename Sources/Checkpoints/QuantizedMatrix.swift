/// One quantized Linear in the terms of GPTQ, independent of how a file packs it:
/// `W[n][k] = scales[g][n] * (codes[k][n] - zeros[g][n])` with `g = groupIndex[k]`.
package struct QuantizedMatrix: Equatable, Sendable {
  /// Width of a code: 2, 3, 4 or 8.
  package var bits: Int
  /// Inputs a group holds, `inFeatures` when the configuration says −1. The last group may be shorter.
  package var groupSize: Int
  package var inFeatures: Int
  package var outFeatures: Int
  /// `[inFeatures][outFeatures]`, each in `0 ..< 2^bits`, original channel order.
  package var codes: [UInt8]
  /// IEEE half-precision bit patterns, `[groupCount][outFeatures]`.
  package var scales: [UInt16]
  /// `[groupCount][outFeatures]`, each in `0 ..< 2^bits`.
  package var zeros: [UInt8]
  /// `[inFeatures]`, each in `0 ..< groupCount`.
  package var groupIndex: [Int32]

  package init(
    bits: Int, groupSize: Int, inFeatures: Int, outFeatures: Int, codes: [UInt8], scales: [UInt16],
    zeros: [UInt8], groupIndex: [Int32]
  ) {
    self.bits = bits
    self.groupSize = groupSize
    self.inFeatures = inFeatures
    self.outFeatures = outFeatures
    self.codes = codes
    self.scales = scales
    self.zeros = zeros
    self.groupIndex = groupIndex
  }

  package var groupCount: Int { (inFeatures + groupSize - 1) / groupSize }
  package var maximumCode: Int { (1 << bits) - 1 }

  /// Whether every zero point is `2^(bits - 1)`, as symmetric quantization gives.
  package var isSymmetric: Bool { zeros.allSatisfy { $0 == UInt8(1 << (bits - 1)) } }

  /// Whether channel `k` is in group `k / groupSize`, so that no reader has to permute anything.
  package var isMonotone: Bool {
    groupIndex.enumerated().allSatisfy { Int($0.element) == $0.offset / groupSize }
  }
}
