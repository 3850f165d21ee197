import Foundation

/// Uninitialized memory aligned to 64 bytes (a cache line, an AVX-512 register), freed with the object.
package final class AlignedBuffer<Element: BitwiseCopyable>: @unchecked Sendable {
  package let pointer: UnsafeMutablePointer<Element>
  package let count: Int

  package init(count: Int) {
    precondition(count >= 0)
    self.count = count
    let bytes = max(64, count * MemoryLayout<Element>.stride)
    var raw: UnsafeMutableRawPointer?
    let status = posix_memalign(&raw, 64, (bytes + 63) / 64 * 64)
    guard status == 0, let raw else { preconditionFailure("out of memory: \(bytes) bytes") }
    pointer = raw.bindMemory(to: Element.self, capacity: max(1, count))
  }

  package convenience init(zeros count: Int) {
    self.init(count: count)
    memset(pointer, 0, count * MemoryLayout<Element>.stride)
  }

  package convenience init(_ elements: [Element]) {
    self.init(count: elements.count)
    elements.withUnsafeBufferPointer { source in
      if let base = source.baseAddress { pointer.update(from: base, count: source.count) }
    }
  }

  deinit { free(pointer) }

  package var buffer: UnsafeMutableBufferPointer<Element> {
    UnsafeMutableBufferPointer(start: pointer, count: count)
  }
  package var array: [Element] { Array(buffer) }

  package subscript(index: Int) -> Element {
    get { buffer[index] }
    set { buffer[index] = newValue }
  }
}
