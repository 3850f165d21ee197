import Compute
import Files
import Tensors
import Transformer

/// Writes saved contexts.
package enum SavedContextWriter {
  /// Bytes of the file of so many tokens.
  package static func byteCount(
    tokens: Int, layers: Int, planes: [CachePlane], identity: ContextIdentity, generator: String
  ) -> Int {
    let header = SavedContextHeader(
      generator: generator, identity: identity, layers: layers, planes: planes, tokenCount: tokens)
    return header.places(tokensStart: header.tokensStart)?.end ?? .max
  }

  /// - Parameters:
  ///   - tokens: those that the cache begins with, whole units of all planes, one at least.
  ///   - cache: may get more tokens meanwhile, but must keep these.
  ///   - planes: of the cache's type for its model.
  ///   - isCancelled: asked before every block; nothing is left of a file that is not finished.
  ///   - copied: called when the cache is no longer needed, before the file is synced.
  /// - Returns: bytes of the file; nil: cancelled.
  /// - Throws: ``FileError``.
  @discardableResult
  package static func write(
    to path: String, tokens: some Collection<Int>, of cache: KVCache, planes: [CachePlane],
    identity: ContextIdentity, generator: String, isCancelled: @escaping () -> Bool = { false },
    copied: () -> Void = {}
  ) throws -> Int? {
    precondition(!tokens.isEmpty && planes.wholeTokens(tokens.count) == tokens.count)
    var header = SavedContextHeader(
      generator: generator, identity: identity, layers: cache.layerCount, planes: planes,
      tokenCount: tokens.count)
    guard let places = header.places(tokensStart: header.tokensStart) else {
      preconditionFailure("a cache larger than a file can be")
    }
    // Whoever saves a context wants it back soon: it stays in the page cache.
    let file = try AtomicFile(path: path, expectedByteCount: places.end, staysCached: true)
    try file.write([UInt8](repeating: 0, count: places.tokens))
    var ids: [UInt8] = []
    for token in tokens { withUnsafeBytes(of: UInt32(token).littleEndian) { ids += $0 } }
    header.tokensCRC = ids.withUnsafeBytes { Checksum.crc32($0) }
    try file.write(ids)
    try file.pad(toMultipleOf: SavedContextHeader.pageByteCount)
    try file.write([UInt8](repeating: 0, count: places.data - places.checksums))
    var blocks = BlockWriter(file: file, isCancelled: isCancelled)
    do {
      try header.forEachPlane { layer, kind, number, _, bytes in
        let plane = UnsafeRawBufferPointer(cache.plane(kind, number: number, layer: layer))
        try blocks.append(UnsafeRawBufferPointer(rebasing: plane[..<bytes]))
        try blocks.pad(toMultipleOf: SavedContextHeader.pageByteCount)
      }
      try blocks.finish()
    } catch is Cancelled {
      return nil
    }
    precondition(file.byteCount == places.end)
    copied()
    var table: [UInt8] = []
    for crc in blocks.checksums { withUnsafeBytes(of: crc.littleEndian) { table += $0 } }
    header.checksumsCRC = table.withUnsafeBytes { Checksum.crc32($0) }
    try file.overwrite(at: places.checksums, with: table)
    try file.overwrite(at: 0, with: header.serialized(fileByteCount: places.end))
    try file.commit()
    return places.end
  }

  private struct Cancelled: Error {}

  /// Cuts the planes into blocks with a checksum each.
  private struct BlockWriter {
    let file: AtomicFile
    let isCancelled: () -> Bool
    var checksums: [UInt32] = []
    private let block = AlignedBuffer<UInt8>(count: SavedContextHeader.blockByteCount)
    private var filled = 0

    init(file: AtomicFile, isCancelled: @escaping () -> Bool) {
      (self.file, self.isCancelled) = (file, isCancelled)
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer) throws {
      var rest = bytes[...]
      while !rest.isEmpty {
        let count = min(rest.count, block.count - filled)
        (UnsafeMutableRawPointer(block.pointer) + filled).copyMemory(
          from: UnsafeRawBufferPointer(rebasing: rest.prefix(count)).baseAddress!, byteCount: count)
        rest = rest.dropFirst(count)
        filled += count
        if filled == block.count { try finish() }
      }
    }

    mutating func pad(toMultipleOf alignment: Int) throws {
      let missing = (alignment - filled % alignment) % alignment
      if missing > 0 {
        try [UInt8](repeating: 0, count: missing).withUnsafeBytes { try append($0) }
      }
    }

    /// Writes what there is of a block.
    mutating func finish() throws {
      guard filled > 0 else { return }
      if isCancelled() { throw Cancelled() }
      let bytes = UnsafeRawBufferPointer(start: block.pointer, count: filled)
      checksums.append(WorkerPool.shared.kernels.crc32(bytes, continuing: 0) ?? Checksum.crc32(bytes))
      try file.write(bytes)
      filled = 0
    }
  }
}
