import Compute

/// Bytes that an object keeps alive: a mapped file, or a buffer.
package struct UnsafeBytes: Sendable {
  private let start: SharedPointer<UInt8>?
  package let count: Int
  package let owner: any AnyObject & Sendable

  package init(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) {
    start = bytes.baseAddress.map { SharedPointer(bytes: $0) }
    count = bytes.count
    self.owner = owner
  }

  package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start?.raw, count: count) }
}
