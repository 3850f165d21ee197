import Architecture
import Compute
import Files
import Foundation
import Synchronization
import Tensors
import Transformer

/// Keys and values of a text in a file, which stay there until they are needed (`Formats/saved-context.md`).
///
/// Opening reads the header, the tokens and the table of checksums. ``load(_:into:pool:)`` checks the blocks that it needs and puts
/// pages of the file into a cache: memory is taken for what is written to them later, and the pages are shared between all caches
/// and processes that use the file.
package final class SavedContext: Sendable {
  package let header: SavedContextHeader
  /// Ids of the text.
  package let tokens: [UInt32]
  package var path: String { file.path }
  package var byteCount: Int { file.byteCount }
  private let file: MappedFile
  private let places: SavedContextHeader.Places
  /// Blocks whose checksum was right.
  private let checked: Mutex<Set<Int>> = Mutex([])

  /// - Throws: ``SavedContextError`` when the file breaks a rule; ``FileError`` when it cannot be mapped.
  package init(path: String) throws {
    file = try MappedFile(path: path)
    let (header, places) = try SavedContextHeader.read(file.bytes, path: path)
    (self.header, self.places) = (header, places)
    let tokenBytes = UnsafeRawBufferPointer(
      rebasing: file.bytes[places.tokens..<places.tokens + 4 * header.tokenCount])
    guard Checksum.crc32(tokenBytes) == header.tokensCRC else {
      throw SavedContextError(.sectionChecksum("tokens"), path: path)
    }
    tokens = (0..<header.tokenCount).map {
      UInt32(littleEndian: tokenBytes.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self))
    }
    guard Checksum.crc32(SavedContext.table(file.bytes, places)) == header.checksumsCRC else {
      throw SavedContextError(.sectionChecksum("checksums"), path: path)
    }
  }

  private static func table(_ bytes: UnsafeRawBufferPointer, _ places: SavedContextHeader.Places)
    -> UnsafeRawBufferPointer
  {
    let count = 4 * SavedContextHeader.blocks(in: places.end - places.data)
    return UnsafeRawBufferPointer(rebasing: bytes[places.checksums..<places.checksums + count])
  }

  /// Whether a file begins as saved contexts do; false if it cannot be read.
  package static func isSavedContext(path: String) -> Bool {
    guard let file = try? MappedFile(path: path), file.byteCount >= 8 else { return false }
    return Array(file.bytes[0..<8]) == SavedContextHeader.magic
  }

  /// How many tokens a prompt and the context begin with in common.
  package func commonPrefix(with prompt: [Int]) -> Int {
    zip(tokens, prompt).prefix { Int($0) == $1 }.count
  }

  /// Refuses a context that was computed in another way than `identity` says.
  /// - Throws: ``SavedContextError`` with what differs.
  package func check(_ identity: ContextIdentity, configuration: DecoderConfiguration) throws {
    if let obstacle = header.identity.obstacle(to: identity) { throw SavedContextError(obstacle, path: path) }
    guard let type = KVCacheType(rawValue: identity.encoding), header.layers == configuration.layerCount,
      header.planes == type.planes(configuration)
    else { throw SavedContextError(.otherPlanes, path: path) }
  }

  // MARK: Checksums

  /// Checks the checksums of blocks that were not checked yet, with all threads.
  /// - Parameters:
  ///   - blocks: in ascending order.
  ///   - progress: called with the bytes looked at so far.
  /// - Returns: the first that is damaged, or nil.
  private func firstDamaged(_ blocks: [Int], pool: WorkerPool, progress: (Int) -> Void = { _ in }) -> Int? {
    let known = checked.withLock { $0 }
    let unknown = blocks.filter { !known.contains($0) }
    let size = SavedContextHeader.blockByteCount
    let table = SavedContext.table(file.bytes, places)
    guard !unknown.isEmpty, let base = file.bytes.baseAddress else { return nil }
    let bytes = SharedPointer(bytes: base)
    let expected = unknown.map {
      UInt32(littleEndian: table.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self))
    }
    let isGood = AlignedBuffer<UInt8>(count: unknown.count)
    // A part at a time, so that there is progress to tell of.
    let part = 256
    for first in stride(from: 0, to: unknown.count, by: part) {
      let range = first..<min(first + part, unknown.count)
      // From a disk, many pieces at once come faster than one after the other.
      for block in unknown[range] {
        let start = places.data + block * size
        file.advise(.willNeed, range: start..<min(start + size, places.end))
      }
      pool.run(range.count) { [places] index in
        let place = range.lowerBound + index
        let start = places.data + unknown[place] * size
        let block = UnsafeRawBufferPointer(start: bytes.raw + start, count: min(size, places.end - start))
        let crc = pool.kernels.crc32(block, continuing: 0) ?? Checksum.crc32(block)
        isGood[place] = crc == expected[place] ? 1 : 0
      }
      progress(range.upperBound * size)
    }
    let damaged = unknown.indices.first { isGood[$0] == 0 }
    checked.withLock { $0.formUnion(unknown.indices.lazy.filter { isGood[$0] == 1 }.map { unknown[$0] }) }
    return damaged.map { unknown[$0] }
  }

  private func damage(_ block: Int) -> SavedContextError {
    let offset = places.data + block * SavedContextHeader.blockByteCount
    return SavedContextError(.blockDamaged(block: block, byteOffset: offset), path: path)
  }

  /// Looks at every byte.
  /// - Parameter progress: called with the bytes looked at so far, and all of them.
  /// - Returns: the errors that were found; empty: the file is as it was written.
  package func problems(pool: WorkerPool = .shared, progress: (Int, Int) -> Void = { _, _ in })
    -> [SavedContextError]
  {
    var problems: [SavedContextError] = []
    let all = places.end - places.data
    if let block = firstDamaged(
      Array(0..<SavedContextHeader.blocks(in: all)), pool: pool, progress: { progress(min($0, all), all) })
    {
      problems.append(damage(block))
    }
    let ends = [
      (places.tokens + 4 * header.tokenCount, places.checksums),
      (places.checksums + SavedContext.table(file.bytes, places).count, places.data),
    ]
    var padding = ends
    header.forEachPlane { _, _, _, offset, bytes in
      let end = places.data + offset + bytes
      padding.append((end, places.data + offset + SavedContextHeader.padded(bytes)))
    }
    for (start, end) in padding {
      guard let byte = (start..<end).first(where: { file.bytes[$0] != 0 }) else { continue }
      problems.append(SavedContextError(.paddingNotZero(byteOffset: byte), path: path))
      break
    }
    return problems
  }

  // MARK: Use

  /// Planes of this size and more are mapped; smaller ones are copied.
  private static let leastMapped = 64 << 10
  /// A system gives a process some 65,000 mappings.
  private static let mostMapped = 20_000

  /// How many of `count` tokens can be loaded: whole units of every plane.
  package func loadable(_ count: Int) -> Int { header.planes.wholeTokens(min(count, tokens.count)) }

  /// Puts the first `count` tokens into a cache, whose tokens are forgotten.
  /// - Parameters:
  ///   - count: what ``loadable(_:)`` gave.
  ///   - cache: of the model that ``check(_:configuration:)`` was asked about; has room for the tokens.
  /// - Throws: ``SavedContextError/Reason/blockDamaged(block:byteOffset:)``; the cache is then empty.
  package func load(_ count: Int, into cache: KVCache, pool: WorkerPool = .shared) throws {
    precondition(count <= tokens.count && count <= cache.capacity && loadable(count) == count)
    precondition(cache.layerCount == header.layers)
    cache.truncate(to: 0)
    guard count > 0 else { return }
    let units = header.planes.map { $0.byteCount(count) }
    if let block = firstDamaged(blocks(ofFirst: units), pool: pool) { throw damage(block) }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    defer { if descriptor >= 0 { close(descriptor) } }
    // The name may be another file's by now; its pages are not the ones that were checked.
    let maps =
      descriptor >= 0 && file.isSameFile(descriptor)
      && header.layers * header.planes.reduce(0) { $0 + $1.count } <= SavedContext.mostMapped
    var copies: [(source: SharedPointer<UInt8>, target: DisjointWrites<UInt8>, byteCount: Int)] = []
    let mappable = maps ? cache.mappableBuffers : []
    var mapped = false
    header.forEachPlane { layer, kind, number, offset, _ in
      let target = cache.plane(kind, number: number, layer: layer)
      let start = places.data + offset
      if maps, map(start, units[kind], into: target, descriptor: descriptor, within: mappable) {
        mapped = true
        return
      }
      guard let source = file.bytes.baseAddress, let base = target.baseAddress, units[kind] > 0 else {
        return
      }
      copies.append((SharedPointer(bytes: source + start), DisjointWrites(bytes: base), units[kind]))
    }
    // First the old ones go: they belong to the same memory.
    cache.companions = []
    if mapped {
      cache.companions = mappable.map { FilePages($0, path: path) }
    }
    pool.run(copies.count) { [copies] in
      copies[$0].target.raw.copyMemory(from: copies[$0].source.raw, byteCount: copies[$0].byteCount)
    }
    cache.advance(by: count)
  }

  /// The blocks in which the first bytes of every plane are.
  private func blocks(ofFirst bytes: [Int]) -> [Int] {
    let size = SavedContextHeader.blockByteCount
    var blocks: [Int] = []
    header.forEachPlane { _, kind, _, offset, _ in
      guard bytes[kind] > 0 else { return }
      for block in offset / size...(offset + bytes[kind] - 1) / size where block != blocks.last {
        blocks.append(block)
      }
    }
    return blocks
  }

  /// Puts the pages of a plane's first bytes into the plane.
  /// - Returns: false when they have to be copied.
  private func map(
    _ start: Int, _ bytes: Int, into target: UnsafeMutableRawBufferPointer, descriptor: Int32,
    within buffers: [UnsafeRawBufferPointer]
  ) -> Bool {
    let page = FilePages.byteCount
    let whole = (bytes + page - 1) / page * page
    guard bytes >= SavedContext.leastMapped, start % page == 0, start + whole <= places.end,
      let base = target.baseAddress, Int(bitPattern: base) % page == 0, whole <= target.count,
      buffers.contains(where: { $0.holds(UnsafeRawPointer(base), whole) })
    else { return false }
    return FilePages.map(
      descriptor, offset: start, into: UnsafeMutableRawBufferPointer(start: base, count: whole))
  }
}

extension UnsafeRawBufferPointer {
  fileprivate func holds(_ start: UnsafeRawPointer, _ byteCount: Int) -> Bool {
    guard let baseAddress else { return false }
    return baseAddress <= start && start + byteCount <= baseAddress + count
  }
}
