import Foundation

/// Working memory of the calling thread, kept between uses so that inner loops do not allocate.
package enum Scratch {
  private final class Arena {
    var buffer = AlignedBuffer<Float>(count: 1 << 16)
    var inUse = false
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
    guard !arena.inUse else {
      let own = AlignedBuffer<Float>(count: count)
      return try withExtendedLifetime(own) { try body(own.pointer) }
    }
    if arena.buffer.count < count { arena.buffer = AlignedBuffer<Float>(count: count) }
    arena.inUse = true
    defer { arena.inUse = false }
    return try body(arena.buffer.pointer)
  }
}
