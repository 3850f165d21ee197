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
  /// Whole numbers 0…15 in blocks of 64 tokens, with a scale and a minimum for each element of the keys in a block and for each
  /// token's value. The first block, and for its own queries the block that a token belongs to, are in half precision: what a
  /// query sees depends on its position alone, not on how many tokens are read together.
  case int4

  /// Of panels; of `int4`, those of the tokens in half precision.
  var kernelType: KernelType {
    switch self {
    case .f32: .f32
    case .f16, .int4: .f16
    case .int8: .int8
    }
  }
  /// Of an element of ``kernelType``.
  var byteCount: Int { kernelType.byteCount }

  /// Whether a query sees other forms of keys than one of another block does.
  var hasBlocks: Bool { self == .int4 }
}

/// Keys and values of the tokens a decoder has seen, for every layer.
///
/// Memory is reserved for `capacity` tokens but touched only as tokens arrive.
package final class KVCache: @unchecked Sendable {
  // Unchecked: one thread at a time runs a decoder with a cache; its tasks write different heads or positions.
  /// Tokens held.
  package private(set) var count = 0
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
  /// Of ``KVCacheType/int4``: which block each place for recent ones holds whole, or as far as there are tokens; −1: none.
  private var recentBlocks = [Int](repeating: -1, count: LayerCache.recentBlocks)

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

  /// Forgets all tokens from position `newCount` on, and with ``KVCacheType/int4`` possibly some before it: those of a block of
  /// which only codes are left, because further queries of that block would see them as they were. ``count`` says what is left.
  package func truncate(to newCount: Int) {
    precondition(newCount >= 0 && newCount <= count)
    count = kept(newCount)
  }

  /// How many of the first `newCount` tokens can be continued.
  private func kept(_ newCount: Int) -> Int {
    let block = newCount / keyValueBlock
    guard type.hasBlocks, block > 0, recentBlocks[LayerCache.recentPlace(of: block)] != block else {
      return newCount
    }
    return block * keyValueBlock
  }

  /// Takes note that the decoder has stored the keys and values of so many tokens.
  func append(_ tokens: Int) {
    precondition(count + tokens <= capacity)
    if type.hasBlocks && tokens > 0 {
      let blocks = count / keyValueBlock...(count + tokens - 1) / keyValueBlock
      for block in blocks.suffix(recentBlocks.count) where block > 0 {
        recentBlocks[LayerCache.recentPlace(of: block)] = block
      }
    }
    count += tokens
  }

  /// A copy with the tokens held, and room for `capacity`.
  /// - Parameter configuration: of the model that made the cache.
  package func copy(configuration: DecoderConfiguration, capacity: Int, pool: WorkerPool) -> KVCache {
    precondition(capacity >= count)
    let other = KVCache(configuration: configuration, capacity: capacity, type: type)
    pool.run(layers.count) { other.copyLayer($0, from: self) }
    other.variant = variant
    other.count = count
    other.recentBlocks = recentBlocks
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
  /// Of ``KVCacheType/int4`` the first block and codes are there then, and no recent block.
  package func advance(by tokens: Int) {
    precondition(count + tokens <= capacity && (!type.hasBlocks || (count + tokens) % keyValueBlock == 0))
    recentBlocks = recentBlocks.map { _ in -1 }
    count += tokens
  }

  /// Takes the first `newCount` tokens of another cache in the place of its own, with ``KVCacheType/int4`` possibly fewer, as
  /// ``truncate(to:)`` would leave of them. The other one stays as it is.
  /// - Precondition: both are of one type, model and variant; this one has room.
  package func take(_ newCount: Int, from other: KVCache, pool: WorkerPool) {
    precondition(type == other.type && variant == other.variant && layers.count == other.layers.count)
    precondition(newCount <= other.count && newCount <= capacity)
    count = other.kept(newCount)
    if type.hasBlocks {
      let blocks = (count + keyValueBlock - 1) / keyValueBlock
      let copied = blocks - LayerCache.recentBlocks..<blocks
      recentBlocks = other.recentBlocks.map { copied.contains($0) ? $0 : -1 }
    }
    pool.run(layers.count) { [count] in layers[$0].view.copyTokens(count, from: other.layers[$0].view) }
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
///
/// ``KVCacheType/int4`` has panels for the first block and the ``recentBlocks`` latest only, the first in place 0 and
/// block b in place 1 + (b − 1) mod ``recentBlocks``, and codes of all whole blocks but the first.
final class LayerCache: Sendable {
  /// Where everything is; valid while the cache exists.
  let view: LayerCacheView
  let keys: AlignedBuffer<UInt8>
  let values: AlignedBuffer<UInt8>
  /// `[2 · kvHeads][roundedCapacity]`, keys' then values'; empty unless the type is int8.
  let scales: AlignedBuffer<Float>
  /// `[kvHeads][blocks]`, a place for the first block included; empty unless the type is int4.
  let codes: AlignedBuffer<UInt8>

  /// Places for blocks in half precision: so many tokens can be read together. More take more memory, fewer share the work of
  /// a pass among threads less evenly.
  static let recentBlocks = 4
  /// Of a block after the first one.
  static func recentPlace(of block: Int) -> Int { (block - 1) % recentBlocks }

  init(_ c: DecoderConfiguration, capacity: Int, type: KVCacheType, retaining: Bool) {
    let paddedHeadDim = LayerCache.paddedHeadDim(c)
    let roundedCapacity = LayerCache.panelTokens(capacity, type: type)
    func memory<Element>(_ count: Int) -> AlignedBuffer<Element> {
      // A cache that is kept may be saved: its unused elements are zeros, and large ones can hold pages of files.
      retaining ? AlignedBuffer(reserving: count) : AlignedBuffer(count: count, isSparse: true)
    }
    keys = memory(c.kvHeads * roundedCapacity * c.headDim * type.byteCount)
    values = memory(c.kvHeads * roundedCapacity * paddedHeadDim * type.byteCount)
    scales = memory(type == .int8 ? 2 * c.kvHeads * roundedCapacity : 0)
    let codeBytes = LayerCache.codeBytes(c, capacity: capacity, type: type)
    codes = memory(c.kvHeads * codeBytes)
    view = LayerCacheView(
      type: type, roundedCapacity: roundedCapacity, headDim: c.headDim, paddedHeadDim: paddedHeadDim,
      kvHeads: c.kvHeads, codeBytes: codeBytes, keys: keys.pointer, values: values.pointer,
      scales: scales.pointer, codes: codes.pointer)
  }

  /// Tokens there are panels for.
  private static func panelTokens(_ capacity: Int, type: KVCacheType) -> Int {
    type.hasBlocks ? min(1 + recentBlocks, blocks(capacity)) * keyValueBlock : rounded(capacity)
  }

  private static func blocks(_ capacity: Int) -> Int { (capacity + keyValueBlock - 1) / keyValueBlock }

  /// Bytes of the codes of a head.
  private static func codeBytes(_ c: DecoderConfiguration, capacity: Int, type: KVCacheType) -> Int {
    guard type.hasBlocks else { return 0 }
    let bytes =
      blocks(capacity) * Kernels.keyValueBlockBytes(headDim: c.headDim, paddedHeadDim: paddedHeadDim(c))
    return capacity < leastMappable ? bytes : (bytes + pageBytes - 1) / pageBytes * pageBytes
  }

  /// From so many tokens on, planes consist of whole pages, into which pages of a file can be mapped.
  private static let leastMappable = 4096
  private static let pageBytes = 4096

  /// Whole panels, and in large caches whole pages of every plane, into which pages of a file can be mapped.
  private static func rounded(_ capacity: Int) -> Int {
    let unit = capacity < leastMappable ? panelWidth : 256
    return (capacity + unit - 1) / unit * unit
  }

  static func paddedHeadDim(_ c: DecoderConfiguration) -> Int {
    (c.headDim + panelWidth - 1) / panelWidth * panelWidth
  }

  static func byteCount(_ c: DecoderConfiguration, capacity: Int, type: KVCacheType) -> Int {
    let elements = (c.headDim + paddedHeadDim(c)) * type.byteCount
    let panels =
      panelTokens(capacity, type: type) * (elements + (type == .int8 ? 2 * MemoryLayout<Float>.size : 0))
    return c.kvHeads * (panels + codeBytes(c, capacity: capacity, type: type))
  }
}

/// Pointers into a ``LayerCache``: threads that count references to the same objects wait for each other.
struct LayerCacheView: Sendable {
  let type: KVCacheType
  /// Positions there are panels for.
  let roundedCapacity: Int
  let headDim, paddedHeadDim, kvHeads: Int
  /// Of a head: whole blocks, and in large caches what fills up a page.
  let codeBytes: Int
  fileprivate let keys, values, codes: DisjointWrites<UInt8>
  fileprivate let scales: DisjointWrites<Float>

  fileprivate init(
    type: KVCacheType, roundedCapacity: Int, headDim: Int, paddedHeadDim: Int, kvHeads: Int, codeBytes: Int,
    keys: UnsafeMutablePointer<UInt8>, values: UnsafeMutablePointer<UInt8>,
    scales: UnsafeMutablePointer<Float>, codes: UnsafeMutablePointer<UInt8>
  ) {
    self.codeBytes = codeBytes
    self.codes = DisjointWrites(codes)
    (self.type, self.roundedCapacity) = (type, roundedCapacity)
    (self.headDim, self.paddedHeadDim, self.kvHeads) = (headDim, paddedHeadDim, kvHeads)
    self.keys = DisjointWrites(keys)
    self.values = DisjointWrites(values)
    self.scales = DisjointWrites(scales)
  }

  /// Tokens that can be stored and attended to together from `position` on.
  func tokensAtOnce(from position: Int) -> Int {
    type.hasBlocks ? LayerCache.recentBlocks * keyValueBlock - position % keyValueBlock : Int.max
  }

  /// Where the panels of a position are: the position itself, but with ``KVCacheType/int4``.
  func place(of position: Int) -> Int {
    guard type.hasBlocks else { return position }
    let block = position / keyValueBlock
    let place = block == 0 ? 0 : 1 + LayerCache.recentPlace(of: block)
    return place * keyValueBlock + position % keyValueBlock
  }

  /// The codes of a block of one head.
  func codes(head: Int, block: Int) -> UnsafeMutablePointer<UInt8> {
    let bytes = Kernels.keyValueBlockBytes(headDim: headDim, paddedHeadDim: paddedHeadDim)
    return codes + (head * codeBytes + block * bytes)
  }

  /// The blocks of which codes are made when the tokens up to `end` are stored: those that become whole, but the first.
  func completedBlocks(from first: Int, to end: Int) -> Range<Int> {
    let bounds = (max(1, first / keyValueBlock), end / keyValueBlock)
    return type.hasBlocks && bounds.0 < bounds.1 ? bounds.0..<bounds.1 : 0..<0
  }

  func encode(head: Int, block: Int, kernels: Kernels) {
    let place = place(of: block * keyValueBlock)
    kernels.encodeKeyValueBlock(
      codes(head: head, block: block), keys: keyPanels(head: head, from: place),
      values: valuePanels(head: head, from: place), valuePanelStride: roundedCapacity * panelWidth,
      headDim: headDim, paddedHeadDim: paddedHeadDim)
  }

  /// What a query at `position` and those after it up to position `end` − 1, which are of the same block with
  /// ``KVCacheType/int4``, see of a head.
  func segments(head: Int, position: Int, end: Int) -> KeyValueSegments {
    var segments = KeyValueSegments()
    func panels(_ first: Int, _ count: Int) {
      let place = place(of: first)
      let hasScales = type == .int8
      segments.append(
        KeyValueSegment(
          first: first, count: count,
          storage: .panels(
            type.kernelType, keys: keyPanels(head: head, from: place),
            values: valuePanels(head: head, from: place), valuePanelStride: roundedCapacity * panelWidth,
            keyScales: hasScales ? UnsafePointer(keyScales(head: head)) : nil,
            valueScales: hasScales ? UnsafePointer(valueScales(head: head)) : nil)))
    }
    let start = position / keyValueBlock * keyValueBlock
    guard type.hasBlocks && start > 0 else {
      panels(0, end)
      return segments
    }
    panels(0, keyValueBlock)
    if start > keyValueBlock {
      segments.append(
        KeyValueSegment(
          first: keyValueBlock, count: start - keyValueBlock,
          storage: .codes(UnsafePointer(codes(head: head, block: 1)))))
    }
    panels(start, end - start)
    return segments
  }

  /// Panels of keys from place `position`, a multiple of 16, on: 16 · headDim elements each, back to back.
  func keyPanels(head: Int, from position: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(keys + (head * roundedCapacity + position) * headDim * type.byteCount)
  }

  /// The first panel of values from place `position` on; the next is `roundedCapacity * 16` elements further.
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
    let position = place(of: position)
    switch type {
    case .f32: scatter(key, value, head: head, position: position)
    case .f16, .int4:
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
    if type.hasBlocks {
      copyBlocks(count, from: other)
      return
    }
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

  /// Codes of whole blocks, and the first block and the recent ones in half precision.
  private func copyBlocks(_ count: Int, from other: LayerCacheView) {
    let blocks = (count + keyValueBlock - 1) / keyValueBlock
    for block in max(1, blocks - LayerCache.recentBlocks)..<max(1, blocks) { copyPanels(block, from: other) }
    if blocks > 0 { copyPanels(0, from: other) }
    let bytes = Kernels.keyValueBlockBytes(headDim: headDim, paddedHeadDim: paddedHeadDim)
    let whole = count / keyValueBlock
    guard whole > 1 else { return }
    for head in 0..<kvHeads {
      codes(head: head, block: 1).update(
        from: other.codes(head: head, block: 1), count: (whole - 1) * bytes)
    }
  }

  private func copyPanels(_ block: Int, from other: LayerCacheView) {
    let size = type.byteCount
    let (place, from) = (place(of: block * keyValueBlock), other.place(of: block * keyValueBlock))
    for head in 0..<kvHeads {
      UnsafeMutableRawPointer(mutating: keyPanels(head: head, from: place)).copyMemory(
        from: other.keyPanels(head: head, from: from), byteCount: keyValueBlock * headDim * size)
      for panel in 0..<paddedHeadDim / panelWidth {
        UnsafeMutableRawPointer(
          mutating: valuePanels(head: head, from: place) + panel * roundedCapacity * panelWidth * size
        ).copyMemory(
          from: other.valuePanels(head: head, from: from) + panel * other.roundedCapacity * panelWidth * size,
          byteCount: keyValueBlock * panelWidth * size)
      }
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
