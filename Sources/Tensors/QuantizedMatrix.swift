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

  /// The same matrix with other outputs: those of `ranges`, in that order. Codes, scales and zero points belong to one
  /// output each, so that none of them changes.
  package func selectingOutputs(_ ranges: [Range<Int>]) -> QuantizedMatrix {
    func select<T>(_ values: [T], rows: Int) -> [T] {
      var result: [T] = []
      result.reserveCapacity(rows * ranges.reduce(0) { $0 + $1.count })
      for row in 0..<rows {
        let first = row * outFeatures
        for range in ranges { result += values[first + range.lowerBound..<first + range.upperBound] }
      }
      return result
    }
    var result = self
    result.outFeatures = ranges.reduce(0) { $0 + $1.count }
    result.codes = select(codes, rows: inFeatures)
    result.scales = select(scales, rows: groupCount)
    result.zeros = select(zeros, rows: groupCount)
    return result
  }

  /// Matrices of the same inputs as one, the outputs of the first first.
  /// - Returns: nil when they differ in bits, group size, or the groups of their inputs.
  package static func joiningOutputs(_ parts: [QuantizedMatrix]) -> QuantizedMatrix? {
    guard var result = parts.first,
      parts.allSatisfy({
        $0.bits == result.bits && $0.groupSize == result.groupSize && $0.inFeatures == result.inFeatures
          && $0.groupIndex == result.groupIndex
      })
    else { return nil }
    func join<T>(_ values: (QuantizedMatrix) -> [T], rows: Int) -> [T] {
      let columns = parts.map { (values: values($0), width: $0.outFeatures) }
      var result: [T] = []
      result.reserveCapacity(columns.reduce(0) { $0 + $1.values.count })
      for row in 0..<rows {
        for part in columns { result += part.values[row * part.width..<(row + 1) * part.width] }
      }
      return result
    }
    result.codes = join(\.codes, rows: result.inFeatures)
    result.scales = join(\.scales, rows: result.groupCount)
    result.zeros = join(\.zeros, rows: result.groupCount)
    result.outFeatures = parts.reduce(0) { $0 + $1.outFeatures }
    return result
  }
}
