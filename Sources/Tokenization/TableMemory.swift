/// The memory of a lookup table: written while the table is made, only read from then on.
///
/// Allocated by hand, so that a lookup through ``pointer`` counts no references.
final class TableMemory<Element: BitwiseCopyable>: @unchecked Sendable {
  // Unchecked: a table is complete before any other thread sees it.
  /// Valid as long as the object.
  let pointer: UnsafeMutablePointer<Element>
  let count: Int

  /// Uninitialized elements.
  init(count: Int) {
    pointer = .allocate(capacity: count)
    self.count = count
  }

  init(repeating element: Element, count: Int) {
    pointer = .allocate(capacity: count)
    pointer.initialize(repeating: element, count: count)
    self.count = count
  }

  deinit { pointer.deallocate() }
}
