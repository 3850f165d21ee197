import Architecture
import Compute

/// One kind of a cache's memory, as saved contexts store it: in each layer `count` planes, each of which grows by a unit of
/// `unitBytes` bytes with every `unitTokens` tokens. When `unitTokens` is 0 it has one unit, whatever the number of tokens.
package struct CachePlane: Equatable, Sendable {
  package var name: String
  /// Planes of a layer.
  package var count: Int
  package var unitTokens: Int
  package var unitBytes: Int

  package init(name: String, count: Int, unitTokens: Int, unitBytes: Int) {
    (self.name, self.count, self.unitTokens, self.unitBytes) = (name, count, unitTokens, unitBytes)
  }

  /// Bytes of a plane that holds so many tokens, whole units.
  package func byteCount(_ tokens: Int) -> Int {
    unitTokens == 0 ? unitBytes : tokens / unitTokens * unitBytes
  }
}

extension KVCacheType {
  /// The planes of a layer, in the order of ``KVCache/plane(_:number:layer:)``: keys by head, values by head and panel, and of
  /// `int8` the scales of keys and of values by head. Of `int4` the first block in half precision, and the codes by head: whole
  /// blocks, since later tokens of a block need it in half precision.
  package func planes(_ c: DecoderConfiguration) -> [CachePlane] {
    let panels = LayerCache.paddedHeadDim(c) / panelWidth
    func plane(_ name: String, _ count: Int, _ elements: Int, _ size: Int) -> CachePlane {
      CachePlane(name: name, count: count, unitTokens: panelWidth, unitBytes: panelWidth * elements * size)
    }
    let elements = [
      plane("keys", c.kvHeads, c.headDim, byteCount),
      plane("values", c.kvHeads * panels, panelWidth, byteCount),
    ]
    switch self {
    case .f32, .f16: return elements
    case .int8:
      return elements
        + ["key_scales", "value_scales"].map { plane($0, c.kvHeads, 1, MemoryLayout<Float>.size) }
    case .int4:
      let first = elements.map {
        CachePlane(
          name: "first_\($0.name)", count: $0.count, unitTokens: 0,
          unitBytes: keyValueBlock / panelWidth * $0.unitBytes)
      }
      let bytes = Kernels.keyValueBlockBytes(
        headDim: c.headDim, paddedHeadDim: LayerCache.paddedHeadDim(c))
      return first
        + [CachePlane(name: "codes", count: c.kvHeads, unitTokens: keyValueBlock, unitBytes: bytes)]
    }
  }
}

extension [CachePlane] {
  /// The largest number of tokens up to `count` that fill whole units of all planes.
  package func wholeTokens(_ count: Int) -> Int {
    let unit = Swift.max(1, map(\.unitTokens).max() ?? 1)
    let whole = count / unit * unit
    return allSatisfy { $0.unitTokens == 0 || whole % $0.unitTokens == 0 } ? whole : 0
  }
}

extension KVCache {
  package var layerCount: Int { layers.count }

  /// The memory of one plane, all of its capacity.
  /// - Parameters:
  ///   - kind: place in ``KVCacheType/planes(_:)``.
  ///   - number: of the plane among those of its kind in the layer.
  package func plane(_ kind: Int, number: Int, layer: Int) -> UnsafeMutableRawBufferPointer {
    let view = layers[layer].view
    let tokens = view.roundedCapacity
    switch kind {
    case 0:
      return UnsafeMutableRawBufferPointer(
        start: UnsafeMutableRawPointer(mutating: view.keyPanels(head: number, from: 0)),
        count: tokens * view.headDim * type.byteCount)
    case 1:
      let panels = view.paddedHeadDim / panelWidth
      let start = view.valuePanels(head: number / panels, from: 0)
      let bytes = tokens * panelWidth * type.byteCount
      return UnsafeMutableRawBufferPointer(
        start: UnsafeMutableRawPointer(mutating: start + number % panels * bytes), count: bytes)
    case 2 where type.hasBlocks:
      return UnsafeMutableRawBufferPointer(start: view.codes(head: number, block: 0), count: view.codeBytes)
    default:
      let scales = kind == 2 ? view.keyScales(head: number) : view.valueScales(head: number)
      return UnsafeMutableRawBufferPointer(start: scales, count: tokens * MemoryLayout<Float>.size)
    }
  }

  /// The buffers of keys, values and codes into which pages of a file may be mapped.
  package var mappableBuffers: [UnsafeRawBufferPointer] {
    layers.flatMap { [$0.keys, $0.values, $0.codes] }.filter(\.ownsItsPages).map {
      UnsafeRawBufferPointer($0.buffer)
    }
  }

  /// Writes zeros to all of the memory, which is then no longer a promise.
  package func clear() {
    // One layer's memory may serve all of them.
    for (index, layer) in layers.enumerated() where index == 0 || layer !== layers[index - 1] {
      layer.keys.buffer.update(repeating: 0)
      layer.values.buffer.update(repeating: 0)
      layer.scales.buffer.update(repeating: 0)
      layer.codes.buffer.update(repeating: 0)
    }
  }
}
