import Foundation

/// Working memory of the calling thread, kept between uses so that inner loops do not allocate.
package enum Scratch {
  private final class Arena {
    /// One for each level of nesting.
    var buffers: [AlignedBuffer<Float>] = []
    var depth = 0
  }

  private static let key: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key) { value in
      if let value { Unmanaged<Arena>.fromOpaque(value).release() }
    }
    return key
  }()

  /// Calls `body` with `count` uninitialized floats, aligned to 64 bytes. Nested uses get memory of their own.
  package static func withFloats<Result>(_ count: Int, _ body: (UnsafeMutablePointer<Float>) throws -> Result)
    rethrows -> Result
  {
    let arena: Arena
    if let existing = pthread_getspecific(key) {
      arena = Unmanaged<Arena>.fromOpaque(existing).takeUnretainedValue()
    } else {
      arena = Arena()
      pthread_setspecific(key, Unmanaged.passRetained(arena).toOpaque())
    }
    let level = arena.depth
    // From a megabyte on, room enough to be given huge pages; those that are not touched cost nothing.
    let capacity = count < 1 << 18 ? max(count, 1 << 16) : max(count, 1 << 20)
    if level == arena.buffers.count {
      arena.buffers.append(AlignedBuffer<Float>(count: capacity))
    } else if arena.buffers[level].count < count {
      arena.buffers[level] = AlignedBuffer<Float>(count: capacity)
    }
    arena.depth += 1
    defer { arena.depth -= 1 }
    return try body(arena.buffers[level].pointer)
  }
}
