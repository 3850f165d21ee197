/// Ids put out so far. An array would ask at every id whether it is shared and has room; here the one who appends says
/// beforehand how many ids there may be.
struct IDBuffer: ~Copyable {
  private var ids: UnsafeMutablePointer<Int32>
  private(set) var count = 0
  private var capacity: Int

  init(capacity: Int) {
    self.capacity = capacity
    ids = .allocate(capacity: capacity)
  }

  deinit { ids.deallocate() }

  /// Makes room for `more` ids.
  @inline(__always)
  mutating func reserve(_ more: Int) {
    if capacity - count < more { grow(more) }
  }

  @inline(never)
  private mutating func grow(_ more: Int) {
    capacity = max(capacity * 2, count + more)
    let larger = UnsafeMutablePointer<Int32>.allocate(capacity: capacity)
    larger.update(from: ids, count: count)
    ids.deallocate()
    ids = larger
  }

  @inline(__always)
  subscript(index: Int) -> Int32 { ids[index] }

  /// There is room.
  @inline(__always)
  mutating func append(_ id: Int32) {
    ids[count] = id
    count += 1
  }

  /// Takes back the last ones.
  mutating func truncate(to shorter: Int) {
    precondition(shorter <= count)
    count = shorter
  }

  /// Appends the first `count` of three ids. All three are stored, because a branch would often be mispredicted.
  @inline(__always)
  mutating func append(_ three: (Int32, Int32, Int32), count used: Int32) {
    ids[count] = three.0
    ids[count + 1] = three.1
    ids[count + 2] = three.2
    count += Int(used)
  }

  /// Appends `count` ids again that start at `first`.
  @inline(__always)
  mutating func append(again first: Int, count repeated: Int) {
    for i in first..<first + repeated { append(ids[i]) }
  }

  var array: [Int] {
    [Int](unsafeUninitializedCapacity: count) { buffer, initialized in
      for i in 0..<count { buffer[i] = Int(ids[i]) }
      initialized = count
    }
  }
}
