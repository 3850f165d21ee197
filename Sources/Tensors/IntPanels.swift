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
  package var fieldBits: Int { bits == 3 ? 4 : bits }
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

/// Integer matrices between GPTQ's terms and the order the kernels read; lossless both ways.
package enum IntPanels {
  /// The channels in the order of their groups, stable: where act-order's groups become consecutive again.
  package static func permutation(_ groupIndex: [Int32]) -> [UInt32] {
    groupIndex.indices.sorted { (groupIndex[$0], $0) < (groupIndex[$1], $1) }.map { UInt32($0) }
  }

  /// The tensor's bytes.
  package static func pack(_ m: QuantizedMatrix, pool: WorkerPool = .shared) -> AlignedBuffer<UInt8> {
    let layout = IntPanelLayout(m)
    let tensor = AlignedBuffer<UInt8>(zeros: layout.byteCount)
    let order = layout.isPermuted ? permutation(m.groupIndex) : []
    let fieldBits = layout.fieldBits
    let inputsPerBlock = 32 / fieldBits
    let blocks = m.inFeatures / inputsPerBlock
    let base = UnsafeMutableRawPointer(tensor.pointer)
    let scales = DisjointWrites((base + layout.scalesOffset).assumingMemoryBound(to: UInt16.self))
    let zeros = DisjointWrites(bytes: base + layout.zerosOffset)

    m.codes.withUnsafeBufferPointer { codes in
      let codes = SharedPointer(codes.baseAddress ?? UnsafePointer(tensor.pointer))
      pool.runRanges(layout.panelCount) { range in
        for panel in range {
          let first = panel * panelWidth
          let width = min(panelWidth, m.outFeatures - first)
          let to = tensor.pointer + panel * blocks * 64
          for block in 0..<blocks {
            let out = to + block * 64
            for input in 0..<inputsPerBlock {
              let k = block * inputsPerBlock + input
              let line = codes + (order.isEmpty ? k : Int(order[k])) * m.outFeatures + first
              let shift = UInt8(input / 4 * fieldBits)
              let j = input % 4
              for r in 0..<width { out[r * 4 + j] |= line[r] << shift }
            }
          }
          for group in 0..<m.groupCount {
            let at = (panel * m.groupCount + group) * panelWidth
            for r in 0..<width {
              scales[at + r] = m.scales[group * m.outFeatures + first + r]
              if layout.storesZeros { zeros[at + r] = m.zeros[group * m.outFeatures + first + r] }
            }
          }
        }
      }
    }
    let permutation = (base + layout.permutationOffset).assumingMemoryBound(to: UInt32.self)
    for (k, channel) in order.enumerated() { permutation[k] = channel }
    return tensor
  }

  /// A matrix in memory of its own, for checkpoints that are read without being packed first.
  package static func inMemory(_ m: QuantizedMatrix, pool: WorkerPool = .shared) -> IntPanelMatrix {
    let tensor = pack(m, pool: pool)
    return IntPanelLayout(m).matrix(at: tensor.pointer, owner: tensor)
  }

  /// The inverse of ``pack(_:pool:)``.
  package static func unpack(_ layout: IntPanelLayout, at base: UnsafeRawPointer, pool: WorkerPool = .shared)
    -> QuantizedMatrix
  {
    let out = layout.outFeatures
    let fieldBits = layout.fieldBits
    let inputsPerBlock = 32 / fieldBits
    let blocks = layout.inFeatures / inputsPerBlock
    let mask = UInt8((1 << fieldBits) - 1)
    let matrix = layout.matrix(at: base, owner: AlignedBuffer<UInt8>(count: 0))
    let order = (0..<layout.inFeatures).map { k in matrix.permutation.map { Int($0[k]) } ?? k }
    let codes = [UInt8](unsafeUninitializedCapacity: layout.inFeatures * out) { buffer, count in
      count = layout.inFeatures * out
      guard let start = buffer.baseAddress else { return }
      let codes = DisjointWrites(start)
      let source = SharedPointer(bytes: base)
      pool.runRanges(layout.panelCount) { range in
        for panel in range {
          let first = panel * panelWidth
          let width = min(panelWidth, out - first)
          let from = source + panel * blocks * 64
          for k in 0..<layout.inFeatures {
            let block = from + k / inputsPerBlock * 64
            let input = k % inputsPerBlock
            let line = codes + order[k] * out + first
            let shift = UInt8(input / 4 * fieldBits)
            for r in 0..<width { line[r] = block[r * 4 + input % 4] >> shift & mask }
          }
        }
      }
    }
    let middle = UInt8(1 << (layout.bits - 1))
    var scales = [UInt16](repeating: 0, count: layout.groupCount * out)
    var zeros = [UInt8](repeating: middle, count: layout.groupCount * out)
    for group in 0..<layout.groupCount {
      for n in 0..<out {
        let at = (n / panelWidth * layout.groupCount + group) * panelWidth + n % panelWidth
        scales[group * out + n] = matrix.scales[at]
        if let stored = matrix.zeros { zeros[group * out + n] = stored[at] }
      }
    }
    var groupIndex = [Int32](repeating: 0, count: layout.inFeatures)
    for k in 0..<layout.inFeatures { groupIndex[order[k]] = Int32(k / layout.groupSize) }
    return QuantizedMatrix(
      bits: layout.bits, groupSize: layout.groupSize, inFeatures: layout.inFeatures, outFeatures: out,
      codes: codes,
      scales: scales, zeros: zeros, groupIndex: groupIndex)
  }
}
