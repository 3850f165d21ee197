import Numerics

/// Keys and values of the tokens a decoder has seen, for every layer.
///
/// Memory is reserved for `capacity` tokens but touched only as tokens arrive.
package final class KVCache: @unchecked Sendable {
  /// Tokens held.
  package internal(set) var count = 0
  /// Tokens there is room for.
  package let capacity: Int
  let layers: [LayerCache]

  /// - Parameter retaining: false makes one layer's memory serve all of them in turn: enough to run a window once from
  ///   its start to its end, not to continue it.
  package init(configuration: DecoderConfiguration, capacity: Int, retaining: Bool = true) {
    precondition(capacity > 0)
    self.capacity = capacity
    if retaining {
      layers = (0..<configuration.layerCount).map { _ in LayerCache(configuration, capacity: capacity) }
    } else {
      let one = LayerCache(configuration, capacity: capacity)
      layers = Array(repeating: one, count: configuration.layerCount)
    }
  }

  /// A cache without memory, for stand-ins of a decoder that keep their own state.
  package init(capacity: Int) {
    self.capacity = capacity
    layers = []
  }

  /// Forgets all tokens from position `newCount` on.
  package func truncate(to newCount: Int) {
    precondition(newCount >= 0 && newCount <= count)
    count = newCount
  }

  /// Counts tokens as held; for stand-ins of a decoder.
  package func advance(by tokens: Int) {
    precondition(count + tokens <= capacity)
    count += tokens
  }

  /// Bytes a cache takes when full.
  package static func byteCount(configuration c: DecoderConfiguration, capacity: Int) -> Int {
    c.layerCount * LayerCache.floatCount(c, capacity: capacity) * MemoryLayout<Float>.size
  }
}

/// Keys and values of one layer, in the order attention's products read them.
///
/// Keys: per head panels of 16 positions, `[headDim][16]` each, the right-hand side of Q·Kᵀ. Values: per head panels of
/// 16 elements of the head, `[position][16]` each, the right-hand side of P·V.
final class LayerCache: @unchecked Sendable {
  let keys: AlignedBuffer<Float>
  let values: AlignedBuffer<Float>
  let roundedCapacity: Int
  let keyHeadStride: Int
  let valueHeadStride: Int

  init(_ configuration: DecoderConfiguration, capacity: Int) {
    roundedCapacity = (capacity + panelWidth - 1) / panelWidth * panelWidth
    keyHeadStride = roundedCapacity * configuration.headDim
    valueHeadStride = roundedCapacity * LayerCache.paddedHeadDim(configuration)
    keys = AlignedBuffer(count: configuration.kvHeads * keyHeadStride, isSparse: true)
    values = AlignedBuffer(count: configuration.kvHeads * valueHeadStride, isSparse: true)
  }

  static func paddedHeadDim(_ c: DecoderConfiguration) -> Int {
    (c.headDim + panelWidth - 1) / panelWidth * panelWidth
  }

  static func floatCount(_ c: DecoderConfiguration, capacity: Int) -> Int {
    let rounded = (capacity + panelWidth - 1) / panelWidth * panelWidth
    return c.kvHeads * rounded * (c.headDim + paddedHeadDim(c))
  }

  /// Stores the key and value of one head at `position`.
  func store(
    head: Int, position: Int, key: UnsafePointer<Float>, value: UnsafePointer<Float>, headDim: Int
  ) {
    let keyOut =
      keys.pointer + head * keyHeadStride + position / panelWidth * headDim * panelWidth + position
      % panelWidth
    for e in 0..<headDim { keyOut[e * panelWidth] = key[e] }
    let valueOut = values.pointer + head * valueHeadStride + position * panelWidth
    for e in 0..<headDim {
      valueOut[e / panelWidth * roundedCapacity * panelWidth + e % panelWidth] = value[e]
    }
  }
}
