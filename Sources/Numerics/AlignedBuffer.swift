import Foundation

/// Uninitialized memory aligned to 64 bytes (a cache line, an AVX-512 register), freed with the object.
package final class AlignedBuffer<Element: BitwiseCopyable>: @unchecked Sendable {
  package let pointer: UnsafeMutablePointer<Element>
  package let count: Int
  /// Length of the mapping when the memory is a file's; 0 when it is ordinary memory.
  private let mappedByteCount: Int

  /// Memory in a nameless file of `folder`, which the system may write out when it needs room; nil when the file cannot be
  /// made.
  package init?(count: Int, inFileOfFolder folder: String) {
    let bytes = max(64, count * MemoryLayout<Element>.stride)
    let path = "\(folder)/.zhinao-scratch-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    let descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    unlink(path)
    guard posix_fallocate(descriptor, 0, off_t(bytes)) == 0,
      let base = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), base != MAP_FAILED
    else { return nil }
    pointer = base.bindMemory(to: Element.self, capacity: max(1, count))
    self.count = count
    mappedByteCount = bytes
  }

  /// Large memory asks for huge pages: a quarter of the time of a large product went into clearing small ones.
  /// - Parameter isSparse: memory is touched here and there, perhaps never all of it: keep small pages.
  package init(count: Int, isSparse: Bool = false) {
    precondition(count >= 0)
    self.count = count
    mappedByteCount = 0
    let bytes = max(64, count * MemoryLayout<Element>.stride)
    var raw: UnsafeMutableRawPointer?
    let hugePage = 2 << 20
    let usesHugePages = !isSparse && bytes >= 2 * hugePage
    let status = posix_memalign(&raw, usesHugePages ? hugePage : 64, (bytes + 63) / 64 * 64)
    guard status == 0, let raw else { preconditionFailure("out of memory: \(bytes) bytes") }
    #if os(Linux)
      if usesHugePages { madvise(raw, bytes / hugePage * hugePage, MADV_HUGEPAGE) }
    #endif
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

  deinit {
    if mappedByteCount > 0 { munmap(pointer, mappedByteCount) } else { free(pointer) }
  }

  package var buffer: UnsafeMutableBufferPointer<Element> {
    UnsafeMutableBufferPointer(start: pointer, count: count)
  }
  package var array: [Element] { Array(buffer) }

  package subscript(index: Int) -> Element {
    get { buffer[index] }
    set { buffer[index] = newValue }
  }
}
