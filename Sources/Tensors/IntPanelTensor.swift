import Compute

/// An integer matrix as the bytes of its tensor, laid out as ``IntPanelLayout`` says. The quantizer makes it, the layer
/// store keeps it, and packed files hold the same bytes.
package struct IntPanelTensor: Sendable {
  package let layout: IntPanelLayout
  /// `layout.byteCount` bytes.
  package let storage: UnsafeBytes

  package init(_ layout: IntPanelLayout, _ storage: UnsafeBytes) {
    precondition(storage.bytes.count == layout.byteCount, "a tensor of another length than its layout")
    self.layout = layout
    self.storage = storage
  }

  /// Valid while this value lives.
  package var bytes: UnsafeRawBufferPointer { storage.bytes }

  /// A tensor of a matrix has at least one byte.
  private var base: UnsafeRawPointer {
    guard let base = bytes.baseAddress else { preconditionFailure("a matrix without elements") }
    return base
  }

  /// The matrix as products read it, where it lies.
  package var matrix: IntPanelMatrix { layout.matrix(at: base, owner: storage.owner) }

  /// Codes of the 16 outputs of `panel` for the stored input at `place`. Whoever calls it keeps this value alive.
  @inline(__always)
  package func codes(panel: Int, at place: IntPanelLayout.Place) -> SIMD16<UInt32> {
    let words = (base + layout.codeOffset(panel: panel, block: place.block))
      .loadUnaligned(as: SIMD16<UInt32>.self)
    return words &>> SIMD16(repeating: place.shift) & SIMD16(repeating: layout.fieldMask)
  }

  /// IEEE half-precision bit patterns, `[groupCount][outFeatures]`.
  package var scales: [UInt16] {
    withExtendedLifetime(storage) {
      let stored = (base + layout.scalesOffset).assumingMemoryBound(to: UInt16.self)
      return layout.byGroups { stored[$0] }
    }
  }

  /// `[groupCount][outFeatures]`, each in `0 ..< 2^bits`.
  package var zeros: [UInt8] {
    guard layout.storesZeros else {
      return [UInt8](repeating: layout.middleCode, count: layout.groupCount * layout.outFeatures)
    }
    return withExtendedLifetime(storage) {
      let stored = (base + layout.zerosOffset).assumingMemoryBound(to: UInt8.self)
      return layout.byGroups { stored[$0] }
    }
  }

  /// The channel of each stored input, `[inFeatures]`.
  package var channels: [Int] {
    guard layout.isPermuted else { return Array(0..<layout.inFeatures) }
    return withExtendedLifetime(storage) {
      let stored = (base + layout.permutationOffset).assumingMemoryBound(to: UInt32.self)
      return (0..<layout.inFeatures).map { Int(stored[$0]) }
    }
  }

  /// The group of each channel, `[inFeatures]`: AutoGPTQ's `g_idx`.
  package var groupIndex: [Int32] {
    var index = [Int32](repeating: 0, count: layout.inFeatures)
    for (k, channel) in channels.enumerated() { index[channel] = Int32(k / layout.groupSize) }
    return index
  }
}

extension IntPanelTensor: Equatable {
  package static func == (a: IntPanelTensor, b: IntPanelTensor) -> Bool {
    withExtendedLifetime((a, b)) { a.layout == b.layout && a.bytes.elementsEqual(b.bytes) }
  }
}

extension IntPanelLayout {
  /// `[panel][group][16]` → `[group][output]`.
  fileprivate func byGroups<Element>(_ element: (Int) -> Element) -> [Element] {
    (0..<groupCount).flatMap { group in
      (0..<outFeatures).map { n in
        element((n / panelWidth * groupCount + group) * panelWidth + n % panelWidth)
      }
    }
  }
}

// MARK: Between GPTQ's terms and the order that kernels read; lossless both ways

extension IntPanelTensor {
  /// The matrix in memory of its own.
  /// - Parameter isSymmetric: false: zero points are stored even if all are the middle code; nil: only if they are not.
  package init(packing m: QuantizedMatrix, isSymmetric: Bool? = nil, pool: WorkerPool = .shared) {
    let builder = IntPanelBuilder(
      bits: m.bits, groupSize: m.groupSize, outFeatures: m.outFeatures,
      isSymmetric: isSymmetric ?? m.isSymmetric, groupIndex: m.groupIndex)
    let places = (0..<m.inFeatures).map(builder.place(ofChannel:))
    pool.runRanges(builder.layout.panelCount) { range in
      for panel in range {
        let outputs = panel * panelWidth..<min(m.outFeatures, (panel + 1) * panelWidth)
        m.codes.withUnsafeBytes { codes in
          for (channel, place) in places.enumerated() {
            let at = channel * m.outFeatures + outputs.lowerBound
            builder.set(IntPanelTensor.line(codes, at: at, count: outputs.count), panel: panel, at: place)
          }
        }
        for group in 0..<m.groupCount {
          for n in outputs {
            let at = group * m.outFeatures + n
            builder.set(scale: m.scales[at], zero: m.zeros[at], output: n, group: group)
          }
        }
      }
    }
    self = builder.finished()
  }

  /// At most 16 bytes, the rest zero.
  @inline(__always)
  private static func line(_ bytes: UnsafeRawBufferPointer, at offset: Int, count: Int) -> SIMD16<UInt8> {
    if count == panelWidth { return bytes.loadUnaligned(fromByteOffset: offset, as: SIMD16<UInt8>.self) }
    var line = SIMD16<UInt8>.zero
    for r in 0..<count { line[r] = bytes[offset + r] }
    return line
  }

  /// The matrix in the terms of GPTQ.
  package func unpacked(pool: WorkerPool = .shared) -> QuantizedMatrix {
    withExtendedLifetime(storage) { unpack(pool: pool) }
  }

  private func unpack(pool: WorkerPool) -> QuantizedMatrix {
    let out = layout.outFeatures
    let channels = channels
    let places = (0..<layout.inFeatures).map(layout.place(ofInput:))
    let codes = [UInt8](unsafeUninitializedCapacity: layout.inFeatures * out) { buffer, count in
      count = layout.inFeatures * out
      guard let start = buffer.baseAddress else { return }
      let target = DisjointWrites(bytes: UnsafeMutableRawPointer(start))
      pool.runRanges(layout.panelCount) { range in
        for panel in range {
          let first = panel * panelWidth
          let width = min(panelWidth, out - first)
          for (k, place) in places.enumerated() {
            let line = UnsafeMutableRawPointer(target + (channels[k] * out + first))
            let codes = SIMD16<UInt8>(truncatingIfNeeded: self.codes(panel: panel, at: place))
            if width == panelWidth {
              line.storeBytes(of: codes, as: SIMD16<UInt8>.self)
            } else {
              for r in 0..<width { line.storeBytes(of: codes[r], toByteOffset: r, as: UInt8.self) }
            }
          }
        }
      }
    }
    return QuantizedMatrix(
      bits: layout.bits, groupSize: layout.groupSize, inFeatures: layout.inFeatures, outFeatures: out,
      codes: codes, scales: scales, zeros: zeros, groupIndex: groupIndex)
  }
}
