import Compute
import Tensors

extension QuantizedMatrix {
  /// Where the outputs of a matrix are written, part by part.
  struct Memory: Sendable {
    let outFeatures: Int
    fileprivate let codes: DisjointWrites<UInt8>
    let scales: DisjointWrites<UInt16>
    let zeros: DisjointWrites<UInt8>

    /// Of all outputs.
    func codes(ofChannel channel: Int) -> UnsafeMutablePointer<UInt8> { codes + channel * outFeatures }
  }

  /// - Parameters:
  ///   - order: of the columns of a sweep, see ``PreparedHessian``.
  ///   - fill: writes all codes, scales and zero points.
  init(
    like weights: WeightMatrix, recipe: QuantizationRecipe, order: [Int]?, fill: (Memory) throws -> Void
  ) rethrows {
    let (out, inFeatures) = (weights.outFeatures, weights.inFeatures)
    let groupSize = recipe.groupSize(forInputs: inFeatures)
    let groups = (inFeatures + groupSize - 1) / groupSize
    var scales = [UInt16](repeating: 0, count: groups * out)
    var zeros = [UInt8](repeating: 0, count: groups * out)
    let codes = try scales.withUnsafeMutableBufferPointer { scales in
      try zeros.withUnsafeMutableBufferPointer { zeros in
        try [UInt8](unsafeUninitializedCapacity: inFeatures * out) { codes, count in
          guard let first = codes.baseAddress, let scales = scales.baseAddress,
            let zeros = zeros.baseAddress
          else { return }
          HugePages.ask(for: UnsafeMutableRawBufferPointer(codes))
          try fill(
            Memory(
              outFeatures: out, codes: DisjointWrites(first), scales: DisjointWrites(scales),
              zeros: DisjointWrites(zeros)))
          count = inFeatures * out
        }
      }
    }
    self.init(
      bits: recipe.bits, groupSize: groupSize, inFeatures: inFeatures, outFeatures: out, codes: codes,
      scales: scales, zeros: zeros, groupIndex: (0..<inFeatures).map { Int32($0 / groupSize) })
    guard let order, !recipe.staticGroups else { return }
    for (column, channel) in order.enumerated() { groupIndex[channel] = Int32(column / groupSize) }
  }
}
