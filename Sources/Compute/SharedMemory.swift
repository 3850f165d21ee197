/// Memory that all tasks of a loop may read.
///
/// Swift does not let a `@Sendable` closure capture a bare pointer, because it cannot see who else uses the memory. Wrapping the
/// pointer in this type is the author's statement that nobody writes to the memory while a task may read it, and that its
/// owner outlives the loop.
package struct SharedPointer<Pointee>: @unchecked Sendable, Hashable {
  // Unchecked: whoever makes one promises that nobody writes to the memory while it is shared.
  package let pointer: UnsafePointer<Pointee>

  @inlinable package init(_ pointer: UnsafePointer<Pointee>) { self.pointer = pointer }
  @inlinable package init(_ pointer: UnsafeMutablePointer<Pointee>) { self.pointer = UnsafePointer(pointer) }

  @inlinable package static func + (base: Self, offset: Int) -> UnsafePointer<Pointee> {
    base.pointer + offset
  }
  @inlinable package subscript(index: Int) -> Pointee { pointer[index] }
}

extension SharedPointer<UInt8> {
  /// Bytes of any element type.
  @inlinable package init(bytes: UnsafeRawPointer) {
    pointer = bytes.assumingMemoryBound(to: UInt8.self)
  }

  @inlinable package var raw: UnsafeRawPointer { UnsafeRawPointer(pointer) }
}

/// Memory of which every task of a loop writes a part of its own.
///
/// The counterpart of ``SharedPointer`` for outputs: making one states that no two tasks write the same element, that no task
/// reads what another one writes during the loop, and that the memory's owner outlives the loop.
package struct DisjointWrites<Pointee>: @unchecked Sendable, Hashable {
  // Unchecked: whoever makes one promises that the tasks write disjoint parts.
  package let pointer: UnsafeMutablePointer<Pointee>

  @inlinable package init(_ pointer: UnsafeMutablePointer<Pointee>) { self.pointer = pointer }

  @inlinable package static func + (base: Self, offset: Int) -> UnsafeMutablePointer<Pointee> {
    base.pointer + offset
  }
  @inlinable package subscript(index: Int) -> Pointee {
    get { pointer[index] }
    nonmutating set { pointer[index] = newValue }
  }
}

extension DisjointWrites<UInt8> {
  /// Bytes of any element type.
  @inlinable package init(bytes: UnsafeMutableRawPointer) {
    pointer = bytes.assumingMemoryBound(to: UInt8.self)
  }

  @inlinable package var raw: UnsafeMutableRawPointer { UnsafeMutableRawPointer(pointer) }
}
