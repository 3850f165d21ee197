import Compute

/// Memory for the tensor of an integer matrix, filled in panel by panel. Different panels may be filled in at the same time.
package struct IntPanelBuilder: Sendable {
  package let layout: IntPanelLayout
  private let tensor: AlignedBuffer<UInt8>
  /// The channel of each stored input; empty: the same.
  private let order: [UInt32]
  /// The stored input of each channel; empty: the same.
  private let positions: [Int]
  /// 255 for each output that the last panel has.
  private let lastLanes: SIMD16<UInt8>

  /// - Parameters:
  ///   - isSymmetric: whether every zero point is the middle code.
  ///   - groupIndex: the group of each channel.
  package init(
    bits: Int, groupSize: Int, outFeatures: Int, isSymmetric: Bool, groupIndex: [Int32]
  ) {
    let isPermuted = groupIndex.enumerated().contains { Int($0.element) != $0.offset / groupSize }
    layout = IntPanelLayout(
      bits: bits, groupSize: groupSize, outFeatures: outFeatures, inFeatures: groupIndex.count,
      isSymmetric: isSymmetric, isPermuted: isPermuted)
    tensor = AlignedBuffer(zeros: layout.byteCount)
    order = isPermuted ? IntPanelBuilder.order(groupIndex) : []
    var positions = order.map { _ in 0 }
    for (k, channel) in order.enumerated() { positions[Int(channel)] = k }
    self.positions = positions
    var lanes = SIMD16<UInt8>.zero
    for lane in 0..<panelWidth where (layout.panelCount - 1) * panelWidth + lane < outFeatures {
      lanes[lane] = .max
    }
    lastLanes = lanes
  }

  /// The channels in the order of their groups, stable: where the groups of act-order become consecutive again.
  private static func order(_ groupIndex: [Int32]) -> [UInt32] {
    groupIndex.indices.sorted { (groupIndex[$0], $0) < (groupIndex[$1], $1) }.map { UInt32($0) }
  }

  /// Where the codes of a channel go.
  package func place(ofChannel channel: Int) -> IntPanelLayout.Place {
    layout.place(ofInput: positions.isEmpty ? channel : positions[channel])
  }

  /// Sets the codes of one channel, each channel once. Those of outputs that do not exist are left out.
  @inline(__always)
  package func set(_ codes: SIMD16<UInt8>, panel: Int, at place: IntPanelLayout.Place) {
    let existing = panel == layout.panelCount - 1 ? codes & lastLanes : codes
    let block = UnsafeMutableRawPointer(tensor.pointer + layout.codeOffset(panel: panel, block: place.block))
    let words = block.loadUnaligned(as: SIMD16<UInt32>.self)
    let added = SIMD16<UInt32>(truncatingIfNeeded: existing) &<< SIMD16(repeating: place.shift)
    block.storeBytes(of: words | added, as: SIMD16<UInt32>.self)
  }

  /// Sets the scale, as half-precision bits, and the zero point of a group of one output.
  package func set(scale: UInt16, zero: UInt8, output: Int, group: Int) {
    let at = (output / panelWidth * layout.groupCount + group) * panelWidth + output % panelWidth
    scales[at] = scale
    if layout.storesZeros { zeros[at] = zero }
  }

  /// Copies an output of another matrix, whose inputs are laid out as here: its codes, scales and zero points. An output is copied
  /// once.
  package func copy(output from: Int, of other: IntPanelBuilder, to output: Int) {
    precondition(
      layout.bits == other.layout.bits && layout.groupSize == other.layout.groupSize
        && layout.inFeatures == other.layout.inFeatures && layout.storesZeros == other.layout.storesZeros,
      "matrices of different layouts")
    let words = (from % panelWidth, output % panelWidth)
    for block in 0..<layout.blockCount {
      let source = other.tensor.pointer + layout.codeOffset(panel: from / panelWidth, block: block)
      let target = tensor.pointer + layout.codeOffset(panel: output / panelWidth, block: block)
      (target + 4 * words.1).update(from: source + 4 * words.0, count: 4)
    }
    for group in 0..<layout.groupCount {
      let at = (from / panelWidth * layout.groupCount + group) * panelWidth + from % panelWidth
      set(
        scale: other.scales[at], zero: layout.storesZeros ? other.zeros[at] : 0, output: output, group: group)
    }
  }

  private var scales: UnsafeMutablePointer<UInt16> {
    UnsafeMutableRawPointer(tensor.pointer + layout.scalesOffset).assumingMemoryBound(to: UInt16.self)
  }

  private var zeros: UnsafeMutablePointer<UInt8> { tensor.pointer + layout.zerosOffset }

  /// The tensor, when everything is filled in.
  /// - Parameter omittingMiddleZeros: whether zero points that all turned out to be the middle code are left out.
  package func finished(omittingMiddleZeros: Bool = false) -> IntPanelTensor {
    let (layout, buffer) = omittingMiddleZeros ? withoutMiddleZeros() : (layout, tensor)
    let permutation = UnsafeMutableRawPointer(buffer.pointer + layout.permutationOffset)
      .assumingMemoryBound(to: UInt32.self)
    for (k, channel) in order.enumerated() { permutation[k] = channel }
    return IntPanelTensor(layout, UnsafeBytes(UnsafeRawBufferPointer(buffer.buffer), owner: buffer))
  }

  private func withoutMiddleZeros() -> (IntPanelLayout, AlignedBuffer<UInt8>) {
    guard !layout.isSymmetric, (0..<layout.outFeatures).allSatisfy(hasMiddleZeros) else {
      return (layout, tensor)
    }
    let shorter = IntPanelLayout(
      bits: layout.bits, groupSize: layout.groupSize, outFeatures: layout.outFeatures,
      inFeatures: layout.inFeatures, isSymmetric: true, isPermuted: layout.isPermuted)
    let buffer = AlignedBuffer<UInt8>(zeros: shorter.byteCount)
    buffer.pointer.update(from: tensor.pointer, count: shorter.permutationOffset)
    return (shorter, buffer)
  }

  private func hasMiddleZeros(_ output: Int) -> Bool {
    let first = output / panelWidth * layout.groupCount * panelWidth + output % panelWidth
    return (0..<layout.groupCount).allSatisfy { zeros[first + $0 * panelWidth] == layout.middleCode }
  }
}
