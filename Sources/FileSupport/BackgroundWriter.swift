import Foundation

/// Appends to a file from a thread of its own. At most a few pieces wait; then the caller does.
final class BackgroundWriter: @unchecked Sendable {
  private let descriptor: Int32
  private let path: String
  private let queue = DispatchQueue(label: "writer")
  /// Pieces that may wait to be written.
  private let room = DispatchSemaphore(value: 4)
  private let lock = NSLock()
  private var failure: FileError?
  /// Memory of pieces already written, for the next ones: fresh pages cost more than the copy.
  private var spare: [UnsafeMutableRawBufferPointer] = []
  /// Small pieces are not worth a copy and a hand-over.
  private static let smallest = 1 << 16

  init(descriptor: Int32, path: String) {
    self.descriptor = descriptor
    self.path = path
  }

  deinit { for memory in spare { memory.deallocate() } }

  /// Takes a copy of `bytes`.
  /// - Throws: the error of an earlier piece, as soon as it is known.
  func write(_ bytes: UnsafeRawBufferPointer) throws {
    guard bytes.count >= BackgroundWriter.smallest else {
      try wait()
      try append(bytes)
      return
    }
    if let failure = lock.withLock({ failure }) { throw failure }
    room.wait()
    let memory = takeMemory(bytes.count)
    memory.copyMemory(from: bytes)
    let piece = Piece(memory: memory, count: bytes.count)
    queue.async { [self] in
      defer {
        lock.withLock { spare.append(piece.memory) }
        room.signal()
      }
      guard lock.withLock({ failure == nil }) else { return }
      do { try append(UnsafeRawBufferPointer(rebasing: piece.memory[..<piece.count])) } catch {
        lock.withLock { failure = error as? FileError }
      }
    }
  }

  private struct Piece: @unchecked Sendable {
    let memory: UnsafeMutableRawBufferPointer
    let count: Int
  }

  private func takeMemory(_ count: Int) -> UnsafeMutableRawBufferPointer {
    let old = lock.withLock { spare.popLast() }
    if let old, old.count >= count { return old }
    old?.deallocate()
    return UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 4096)
  }

  /// Returns when everything handed over is written.
  func wait() throws {
    queue.sync {}
    if let failure = lock.withLock({ failure }) { throw failure }
  }

  private func append(_ bytes: UnsafeRawBufferPointer) throws {
    guard let base = bytes.baseAddress else { return }
    var done = 0
    while done < bytes.count {
      let n = Foundation.write(descriptor, base + done, min(bytes.count - done, 1 << 26))
      if n < 0 && errno == EINTR { continue }
      guard n > 0 else { throw FileError.fromErrno(.inputOutput, path: path, doing: "cannot write") }
      done += n
    }
  }
}
