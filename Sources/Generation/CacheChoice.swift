import Architecture
import Transformer

/// How a server's caches store keys and values: the one place that chooses.
package struct CacheChoice: Sendable {
  package var type: KVCacheType

  package init(type: KVCacheType = .f32) { self.type = type }

  /// Bytes that a token takes in the caches of all layers.
  package func bytesPerToken(_ configuration: DecoderConfiguration) -> Int {
    let capacity = 1024
    return KVCache.byteCount(configuration: configuration, capacity: capacity, type: type) / capacity
  }

  package func makeCache(of decoder: Decoder, capacity: Int) -> KVCache {
    decoder.makeCache(capacity: capacity, type: type)
  }
}
