import Foundation

/// Appends to a file from a thread of its own. At most a few pieces wait; then the caller does.
///
/// Whole pieces bypass the page cache where the file system allows it. Copying into new pages of the cache is the most
/// expensive step of a conversion, and it would evict the model that is being read.
final class BackgroundWriter: @unchecked Sendable {
  // Unchecked: one thread fills pieces, the queue alone uses `direct`, and `lock` guards what both use.
  private let descriptor: Int32
  private let path: String
  private let queue = DispatchQueue(label: "writer")
  /// Pieces that may wait to be written.
  private let room = DispatchSemaphore(value: 3)
  private let lock = NSLock()
  private var failure: FileError?
  /// Whole pieces, and where each begins in the file, in the order they were filled.
  private var waiting: [(memory: UnsafeMutableRawBufferPointer, start: Int)] = []
  /// Memory of pieces already written, for the next ones: fresh pages cost more than the copy.
  private var spare: [UnsafeMutableRawBufferPointer] = []
  /// Bytes that do not fill a piece yet; the file has them only after ``wait()``.
  private var piece: UnsafeMutableRawBufferPointer?
  private var filled = 0
  /// Where the piece begins in the file: a multiple of its size, as direct writing wants it.
  private var pieceStart = 0
  /// The same file without the page cache; -1 where there is no such thing. Used on the queue only.
  private var direct: Int32
  private static let pieceByteCount = 4 << 20

  #if arch(arm64)
    /// O_DIRECT, which Swift does not import.
    private static let pastTheCache: Int32 = 0o200000
  #else
    private static let pastTheCache: Int32 = 0o40000
  #endif

  /// - Parameters:
  ///   - descriptor: stays the caller's, and must be open as long as this object.
  ///   - filePath: of the open file; nil: write through the page cache.
  ///   - path: the file's final name, for messages.
  init(descriptor: Int32, filePath: String?, path: String) {
    self.descriptor = descriptor
    self.path = path
    #if os(Linux)
      direct = filePath.map { open($0, O_WRONLY | O_CLOEXEC | BackgroundWriter.pastTheCache) } ?? -1
    #else
      direct = -1
    #endif
  }

  deinit {
    if direct >= 0 { close(direct) }
    if let piece {
      piece.deallocate()
      // A semaphore must not end below the value it began with.
      room.signal()
    }
    for memory in spare { memory.deallocate() }
  }

  /// Takes a copy of `bytes`.
  /// - Throws: the error of an earlier piece, as soon as it is known.
  func write(_ bytes: UnsafeRawBufferPointer) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let memory = try currentPiece()
      let count = min(rest.count, memory.count - filled)
      UnsafeMutableRawBufferPointer(rebasing: memory[filled..<filled + count])
        .copyMemory(from: UnsafeRawBufferPointer(rebasing: rest.prefix(count)))
      rest = rest.dropFirst(count)
      filled += count
      if filled == memory.count { handOver(memory) }
    }
  }

  private func currentPiece() throws -> UnsafeMutableRawBufferPointer {
    if let piece { return piece }
    if let failure = lock.withLock({ failure }) { throw failure }
    room.wait()
    let memory =
      lock.withLock { spare.popLast() }
      ?? UnsafeMutableRawBufferPointer.allocate(byteCount: BackgroundWriter.pieceByteCount, alignment: 4096)
    piece = memory
    return memory
  }

  private func handOver(_ memory: UnsafeMutableRawBufferPointer) {
    let start = pieceStart
    piece = nil
    filled = 0
    pieceStart += memory.count
    lock.withLock { waiting.append((memory, start)) }
    queue.async { [self] in putFirst() }
  }

  /// Writes the piece that has waited longest; called on the queue only.
  private func putFirst() {
    let (memory, start) = lock.withLock { waiting.removeFirst() }
    defer {
      lock.withLock { spare.append(memory) }
      room.signal()
    }
    guard lock.withLock({ failure == nil }) else { return }
    do { try put(UnsafeRawBufferPointer(memory), at: start) } catch {
      lock.withLock { failure = error as? FileError }
    }
  }

  /// Returns when the file has everything handed over.
  func wait() throws {
    queue.sync {}
    if let failure = lock.withLock({ failure }) { throw failure }
    // What is more may still come: the piece stays, and is written again when it is full.
    if let piece { try putThroughCache(UnsafeRawBufferPointer(rebasing: piece[..<filled]), at: pieceStart) }
  }

  /// Changes bytes already taken.
  func overwrite(at offset: Int, with bytes: UnsafeRawBufferPointer) throws {
    try wait()
    try putThroughCache(bytes, at: offset)
    if let piece {
      let common = (offset..<offset + bytes.count).clamped(to: pieceStart..<pieceStart + filled)
      for at in common { piece[at - pieceStart] = bytes[at - offset] }
    }
  }

  private func put(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
    var done = 0
    while direct >= 0 && done < bytes.count {
      let n = pwrite(direct, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
      if n < 0 && errno == EINTR { continue }
      if n <= 0 || n % 4096 != 0 {
        // Not every file system does it, and a full disk is reported better by the ordinary way.
        close(direct)
        direct = -1
      }
      done += max(n, 0)
    }
    try putThroughCache(UnsafeRawBufferPointer(rebasing: bytes[done...]), at: offset + done)
  }

  private func putThroughCache(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
    guard let base = bytes.baseAddress else { return }
    var done = 0
    while done < bytes.count {
      let n = pwrite(descriptor, base + done, bytes.count - done, off_t(offset + done))
      if n < 0 && errno == EINTR { continue }
      guard n > 0 else { throw FileError.fromErrno(.inputOutput, path: path, doing: "cannot write") }
      done += n
    }
  }
}
