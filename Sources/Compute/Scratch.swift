import Foundation

/// Working memory of the calling thread, kept between uses so that inner loops do not allocate.
package enum Scratch {
  /// The memory of each level of nesting. It is raw memory instead of objects, because it is requested a thousand times for
  /// each token, and reference counting took 5 % of a small model's time.
  private struct Arena {
    static let mostLevels = 16
    var depth = 0
    let levels: UnsafeMutablePointer<Level>

    init() {
      levels = .allocate(capacity: Arena.mostLevels)
      levels.initialize(repeating: Level(), count: Arena.mostLevels)
    }
    func free() {
      for level in 0..<Arena.mostLevels { levels[level].owner?.release() }
      levels.deallocate()
    }
  }

  private struct Level {
    var owner: Unmanaged<AlignedBuffer<Float>>?
    var memory: UnsafeMutablePointer<Float>?
    var count = 0

    mutating func makeRoom(for needed: Int) -> UnsafeMutablePointer<Float> {
      if let memory, count >= needed { return memory }
      owner?.release()
      // From a megabyte on, room enough to be given huge pages; those that are not touched cost nothing.
      let buffer = AlignedBuffer<Float>(count: needed < 1 << 18 ? max(needed, 1 << 16) : max(needed, 1 << 20))
      (owner, memory, count) = (.passRetained(buffer), buffer.pointer, buffer.count)
      return buffer.pointer
    }
  }

  private static let key: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key) { value in
      guard let arena = value?.assumingMemoryBound(to: Arena.self) else { return }
      arena.pointee.free()
      arena.deallocate()
    }
    return key
  }()

  private static func makeArena() -> UnsafeMutablePointer<Arena> {
    let arena = UnsafeMutablePointer<Arena>.allocate(capacity: 1)
    arena.initialize(to: Arena())
    pthread_setspecific(key, arena)
    return arena
  }

  /// Calls `body` with `count` uninitialized floats, aligned to 64 bytes. Nested uses get memory of their own.
  package static func withFloats<Result>(_ count: Int, _ body: (UnsafeMutablePointer<Float>) throws -> Result)
    rethrows -> Result
  {
    let arena = pthread_getspecific(key)?.assumingMemoryBound(to: Arena.self) ?? makeArena()
    let level = arena.pointee.depth
    precondition(level < Arena.mostLevels, "scratch memory is nested too deeply")
    let memory = arena.pointee.levels[level].makeRoom(for: count)
    arena.pointee.depth = level + 1
    defer { arena.pointee.depth = level }
    return try body(memory)
  }
}
