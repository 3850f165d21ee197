import Architecture
import Compute

/// What keys and values are stored as.
package enum KVCacheType: String, CaseIterable, Sendable {
  /// As they are: what verification uses.
  case f32
  /// Half precision: half the memory.
  case f16
  /// Whole numbers −127…127 with one fp32 scale, `max|x| / 127`, for each token's key (and value) of each head: a quarter.
  case int8

  var kernelType: KernelType {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .int8: .int8
    }
  }
  var byteCount: Int {
    switch self {
    case .f32: 4
    case .f16: 2
    case .int8: 1
    }
  }
}

/// Keys and values of the tokens a decoder has seen, for every layer.
///
/// Memory is reserved for `capacity` tokens but touched only as tokens arrive.
package final class KVCache: @unchecked Sendable {
  // Unchecked: one thread at a time runs a decoder with a cache; its tasks write different heads or positions.
  /// Tokens held.
  package internal(set) var count = 0
  /// Tokens there is room for.
  package let capacity: Int
  package let type: KVCacheType
  /// With which weights of a ``Decoder`` the tokens are computed: 0 stands for its own, n for ``Decoder/variants``[n − 1].
  package var variant = 0 {
    didSet { precondition(variant == oldValue || count == 0, "the cache holds tokens of other weights") }
  }
  let layers: [LayerCache]
  /// Lives as long as the memory: what a file's pages in it need.
  package var companions: [any AnyObject & Sendable] = []

  /// - Parameter retaining: false makes one layer's memory serve all of them in turn: enough to run a window once from
  ///   its start to its end, not to continue it.
  package init(
    configuration: DecoderConfiguration, capacity: Int, type: KVCacheType = .f32, retaining: Bool = true
  ) {
    precondition(capacity > 0)
    self.capacity = capacity
    self.type = type
    if retaining {
      layers = (0..<configuration.layerCount).map { _ in
        LayerCache(configuration, capacity: capacity, type: type, retaining: true)
      }
    } else {
      let one = LayerCache(configuration, capacity: capacity, type: type, retaining: false)
      layers = Array(repeating: one, count: configuration.layerCount)
    }
  }

  /// A cache without memory, for stand-ins of a decoder that keep their own state.
  package init(capacity: Int) {
    self.capacity = capacity
    type = .f32
    layers = []
  }

  /// Forgets all tokens from position `newCount` on.
  package func truncate(to newCount: Int) {
    precondition(newCount >= 0 && newCount <= count)
    count = newCount
  }

  /// A copy with the tokens held, and room for `capacity`.
  /// - Parameter configuration: of the model that made the cache.
  package func copy(configuration: DecoderConfiguration, capacity: Int, pool: WorkerPool) -> KVCache {
    precondition(capacity >= count)
    let other = KVCache(configuration: configuration, capacity: capacity, type: type)
    pool.run(layers.count) { other.copyLayer($0, from: self) }
    other.variant = variant
    other.count = count
    return other
  }

  /// Puts the keys and values that one layer of `other` has of its tokens at the start of the same layer here. The count of
  /// tokens held stays as it is.
  /// - Precondition: both are of one type and one model, and there is room.
  func copyLayer(_ layer: Int, from other: KVCache) {
    precondition(type == other.type && other.count <= capacity)
    layers[layer].view.copyTokens(other.count, from: other.layers[layer].view)
  }

  /// Counts tokens as held: those that were put into the planes (``plane(_:number:layer:)``), or those of stand-ins of a decoder.
  package func advance(by tokens: Int) {
    precondition(count + tokens <= capacity)
    count += tokens
  }

  /// Bytes a cache takes when full.
  package static func byteCount(
    configuration c: DecoderConfiguration, capacity: Int, type: KVCacheType = .f32
  )
    -> Int
  {
    c.layerCount * LayerCache.byteCount(c, capacity: capacity, type: type)
  }
}

/// Keys and values of one layer, in the order attention's products read them.
///
/// Keys: per head panels of 16 positions, `[headDim][16]` each, the right-hand side of Q·Kᵀ. Values: per head panels of
/// 16 elements of the head, `[position][16]` each, the right-hand side of P·V. Scales of ``KVCacheType/int8``: per head
/// one for each position.
final class LayerCache: Sendable {
  /// Where everything is; valid while the cache exists.
  let view: LayerCacheView
  let keys: AlignedBuffer<UInt8>
  let values: AlignedBuffer<UInt8>
  /// `[2 · kvHeads][roundedCapacity]`, keys' then values'; empty unless the type is int8.
  let scales: AlignedBuffer<Float>

  init(_ c: DecoderConfiguration, capacity: Int, type: KVCacheType, retaining: Bool) {
    let paddedHeadDim = LayerCache.paddedHeadDim(c)
    let roundedCapacity = LayerCache.rounded(capacity)
    func memory<Element>(_ count: Int) -> AlignedBuffer<Element> {
      // A cache that is kept may be saved: its unused elements are zeros, and large ones can hold pages of files.
      retaining ? AlignedBuffer(reserving: count) : AlignedBuffer(count: count, isSparse: true)
    }
    keys = memory(c.kvHeads * roundedCapacity * c.headDim * type.byteCount)
    values = memory(c.kvHeads * roundedCapacity * paddedHeadDim * type.byteCount)
    scales = memory(type == .int8 ? 2 * c.kvHeads * roundedCapacity : 0)
    view = LayerCacheView(
      type: type, roundedCapacity: roundedCapacity, headDim: c.headDim, paddedHeadDim: paddedHeadDim,
      kvHeads: c.kvHeads, keys: keys.pointer, values: values.pointer, scales: scales.pointer)
  }

  /// Whole panels, and in large caches whole pages of every plane, into which pages of a file can be mapped.
  private static func rounded(_ capacity: Int) -> Int {
    let unit = capacity < 4096 ? panelWidth : 256
    return (capacity + unit - 1) / unit * unit
  }

  static func paddedHeadDim(_ c: DecoderConfiguration) -> Int {
    (c.headDim + panelWidth - 1) / panelWidth * panelWidth
  }

  static func byteCount(_ c: DecoderConfiguration, capacity: Int, type: KVCacheType) -> Int {
    let elements = (c.headDim + paddedHeadDim(c)) * type.byteCount
    return c.kvHeads * rounded(capacity) * (elements + (type == .int8 ? 2 * MemoryLayout<Float>.size : 0))
  }
}

/// Pointers into a ``LayerCache``: threads that count references to the same objects wait for each other.
struct LayerCacheView: Sendable {
  let type: KVCacheType
  let roundedCapacity: Int
  let headDim, paddedHeadDim, kvHeads: Int
  fileprivate let keys, values: DisjointWrites<UInt8>
  fileprivate let scales: DisjointWrites<Float>

  fileprivate init(
    type: KVCacheType, roundedCapacity: Int, headDim: Int, paddedHeadDim: Int, kvHeads: Int,
    keys: UnsafeMutablePointer<UInt8>, values: UnsafeMutablePointer<UInt8>,
    scales: UnsafeMutablePointer<Float>
  ) {
    (self.type, self.roundedCapacity) = (type, roundedCapacity)
    (self.headDim, self.paddedHeadDim, self.kvHeads) = (headDim, paddedHeadDim, kvHeads)
    self.keys = DisjointWrites(keys)
    self.values = DisjointWrites(values)
    self.scales = DisjointWrites(scales)
  }

  /// Panels of keys from position `position`, a multiple of 16, on: 16 · headDim elements each, back to back.
  func keyPanels(head: Int, from position: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(keys + (head * roundedCapacity + position) * headDim * type.byteCount)
  }

  /// The first panel of values from position `position` on; the next is `roundedCapacity * 16` elements further.
  func valuePanels(head: Int, from position: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(
      values + (head * roundedCapacity * paddedHeadDim + position * panelWidth) * type.byteCount)
  }

  func keyScales(head: Int) -> UnsafeMutablePointer<Float> { scales + head * roundedCapacity }
  func valueScales(head: Int) -> UnsafeMutablePointer<Float> {
    scales + (kvHeads + head) * roundedCapacity
  }

  /// Stores the key and value of one head at `position`.
  func store(
    head: Int, position: Int, key: UnsafePointer<Float>, value: UnsafePointer<Float>, kernels: Kernels
  ) {
    switch type {
    case .f32: scatter(key, value, head: head, position: position)
    case .f16:
      narrowed(headDim * 2) { (k: UnsafeMutablePointer<UInt16>) in
        kernels.narrow(k, from: key, type: .f16, count: headDim)
        kernels.narrow(k + headDim, from: value, type: .f16, count: headDim)
        scatter(k, k + headDim, head: head, position: position)
      }
    case .int8:
      narrowed(headDim * 2) { (k: UnsafeMutablePointer<Int8>) in
        keyScales(head: head)[position] = kernels.quantizeVector(k, from: key, count: headDim)
        valueScales(head: head)[position] = kernels.quantizeVector(k + headDim, from: value, count: headDim)
        scatter(k, k + headDim, head: head, position: position)
      }
    }
  }

  /// The first `count` tokens of another cache of the same model.
  func copyTokens(_ count: Int, from other: LayerCacheView) {
    let size = type.byteCount
    let keyBytes = (count + panelWidth - 1) / panelWidth * panelWidth * headDim * size
    for head in 0..<kvHeads {
      UnsafeMutableRawPointer(mutating: keyPanels(head: head, from: 0)).copyMemory(
        from: other.keyPanels(head: head, from: 0), byteCount: keyBytes)
      let to = UnsafeMutableRawPointer(mutating: valuePanels(head: head, from: 0))
      let from = other.valuePanels(head: head, from: 0)
      for panel in 0..<paddedHeadDim / panelWidth {
        (to + panel * roundedCapacity * panelWidth * size).copyMemory(
          from: from + panel * other.roundedCapacity * panelWidth * size, byteCount: count * panelWidth * size
        )
      }
      guard type == .int8 else { continue }
      keyScales(head: head).update(from: other.keyScales(head: head), count: count)
      valueScales(head: head).update(from: other.valueScales(head: head), count: count)
    }
  }

  private func narrowed<Element>(_ count: Int, _ body: (UnsafeMutablePointer<Element>) -> Void) {
    withUnsafeTemporaryAllocation(of: Element.self, capacity: count) { body($0.baseAddress!) }
  }

  private func scatter<Element>(
    _ key: UnsafePointer<Element>, _ value: UnsafePointer<Element>, head: Int, position: Int
  ) {
    let keyOut = UnsafeMutableRawPointer(
      mutating: keyPanels(head: head, from: position / panelWidth * panelWidth)
    ).assumingMemoryBound(to: Element.self)
    var next = keyOut + position % panelWidth
    for e in 0..<headDim {
      next.pointee = key[e]
      next += panelWidth
    }
    let valueOut = UnsafeMutableRawPointer(mutating: valuePanels(head: head, from: position))
      .assumingMemoryBound(to: Element.self)
    for first in stride(from: 0, to: headDim, by: panelWidth) {
      (valueOut + first * roundedCapacity).update(
        from: value + first, count: min(panelWidth, headDim - first))
    }
  }
}
