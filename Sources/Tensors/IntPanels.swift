import Compute

/// Where the parts of an integer matrix lie inside its tensor (`Formats/packed-model.md`): codes, scales, zero points
/// unless all are the middle, permutation unless channels keep their order; each part at a multiple of 64 bytes.
package struct IntPanelLayout: Equatable, Sendable {
  package let bits: Int
  package let groupSize: Int
  package let outFeatures: Int
  package let inFeatures: Int
  package let isSymmetric: Bool
  package let isPermuted: Bool

  package init(
    bits: Int, groupSize: Int, outFeatures: Int, inFeatures: Int, isSymmetric: Bool, isPermuted: Bool
  ) {
    self.bits = bits
    self.groupSize = groupSize
    self.outFeatures = outFeatures
    self.inFeatures = inFeatures
    self.isSymmetric = isSymmetric
    self.isPermuted = isPermuted
  }

  package init(_ m: QuantizedMatrix) {
    self.init(
      bits: m.bits, groupSize: m.groupSize, outFeatures: m.outFeatures, inFeatures: m.inFeatures,
      isSymmetric: m.isSymmetric, isPermuted: !m.isMonotone)
  }

  /// Width of a stored field: 3-bit codes take 4 bits.
  package var fieldBits: Int { IntPanelLayout.fieldBits(forCodesOf: bits) }
  package static func fieldBits(forCodesOf bits: Int) -> Int { bits == 3 ? 4 : bits }
  /// Zero points are left out when every one is the middle of the field.
  package var storesZeros: Bool { !isSymmetric || fieldBits != bits }
  package var panelCount: Int { (outFeatures + panelWidth - 1) / panelWidth }
  package var groupCount: Int { (inFeatures + groupSize - 1) / groupSize }
  package var codeByteCount: Int { panelCount * panelWidth * inFeatures * fieldBits / 8 }
  private static func aligned(_ n: Int) -> Int { (n + 63) / 64 * 64 }
  package var scalesOffset: Int { IntPanelLayout.aligned(codeByteCount) }
  package var scalesByteCount: Int { panelCount * groupCount * panelWidth * 2 }
  package var zerosOffset: Int { scalesOffset + IntPanelLayout.aligned(scalesByteCount) }
  package var zerosByteCount: Int { storesZeros ? panelCount * groupCount * panelWidth : 0 }
  package var permutationOffset: Int { zerosOffset + IntPanelLayout.aligned(zerosByteCount) }
  package var permutationByteCount: Int { isPermuted ? inFeatures * 4 : 0 }
  package var byteCount: Int { permutationOffset + IntPanelLayout.aligned(permutationByteCount) }

  /// The zero point of symmetric quantization.
  package var middleCode: UInt8 { UInt8(1 << (bits - 1)) }
  package var fieldMask: UInt32 { UInt32((1 << fieldBits) - 1) }

  /// Where the codes of a stored input are: the number of the block of 64 bytes in its panel, and the bit in the 32-bit
  /// word that the block has for each output.
  package struct Place: Equatable, Sendable {
    package let block: Int
    package let shift: UInt32
  }

  private var inputsPerBlock: Int { 32 / fieldBits }
  /// Of a panel's codes, 64 bytes each.
  package var blockCount: Int { (inFeatures + inputsPerBlock - 1) / inputsPerBlock }

  package func place(ofInput k: Int) -> Place {
    let input = k % inputsPerBlock
    return Place(block: k / inputsPerBlock, shift: UInt32(input % 4 * 8 + input / 4 * fieldBits))
  }

  /// Of a block of codes, from the start of the tensor.
  package func codeOffset(panel: Int, block: Int) -> Int {
    panel * (inFeatures * fieldBits * panelWidth / 8) + block * 64
  }

  /// What makes a matrix impossible to store like this, or nil.
  package static func obstacle(bits: Int, groupSize: Int, in inFeatures: Int) -> String? {
    if inFeatures % 32 != 0 { return "\(inFeatures) inputs are not a multiple of 32" }
    if groupSize % 32 != 0 { return "groups of \(groupSize) are not a multiple of 32" }
    return nil
  }

  /// The matrix that lies at `base`, read where it is.
  package func matrix(at base: UnsafeRawPointer, owner: any AnyObject & Sendable) -> IntPanelMatrix {
    IntPanelMatrix(
      bits: fieldBits, codes: base.assumingMemoryBound(to: UInt8.self),
      scales: (base + scalesOffset).assumingMemoryBound(to: UInt16.self),
      zeros: storesZeros ? (base + zerosOffset).assumingMemoryBound(to: UInt8.self) : nil,
      groupSize: groupSize,
      outFeatures: outFeatures, inFeatures: inFeatures,
      permutation: isPermuted ? (base + permutationOffset).assumingMemoryBound(to: UInt32.self) : nil,
      owner: owner)
  }
}

package enum IntPanels {
  /// A matrix in memory of its own, for checkpoints that are read without being packed first.
  package static func inMemory(_ m: QuantizedMatrix, pool: WorkerPool = .shared) -> IntPanelMatrix {
    IntPanelTensor(packing: m, pool: pool).matrix
  }
}
