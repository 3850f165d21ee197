import Transformer

/// How a server's caches store keys and values: the one place that chooses.
package struct CacheChoice: Sendable {
  package init() {}

  /// Bytes that a token takes in the caches of all layers.
  package func bytesPerToken(_ configuration: DecoderConfiguration) -> Int {
    let capacity = 1024
    return KVCache.byteCount(configuration: configuration, capacity: capacity) / capacity
  }

  package func makeCache(of decoder: Decoder, capacity: Int) -> KVCache {
    decoder.makeCache(capacity: capacity)
  }
}
