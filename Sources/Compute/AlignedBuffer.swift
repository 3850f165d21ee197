import Foundation

/// Pages of two megabytes: a large product spent a quarter of its time on clearing small ones.
package enum HugePages {
  static let byteCount = 2 << 20

  /// Requests huge pages for the part of untouched memory that whole ones fit into.
  package static func ask(for memory: UnsafeMutableRawBufferPointer) {
    #if os(Linux)
      guard let base = memory.baseAddress else { return }
      let skipped = (byteCount - Int(bitPattern: base) % byteCount) % byteCount
      let whole = (memory.count - skipped) / byteCount * byteCount
      if whole > 0 { madvise(base + skipped, whole, MADV_HUGEPAGE) }
    #endif
  }
}

/// Uninitialized memory aligned to 64 bytes (a cache line, an AVX-512 register), freed with the object.
@usableFromInline package final class AlignedBuffer<Element: BitwiseCopyable>: @unchecked Sendable {
  // Unchecked: the memory stays where it is; threads that write elements at the same time write different ones.
  @usableFromInline package let pointer: UnsafeMutablePointer<Element>
  @usableFromInline package let count: Int
  /// Length of the mapping when the memory is a file's or fresh pages; 0 when it was allocated.
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

  /// Large memory asks for huge pages.
  /// - Parameter isSparse: memory is touched here and there, perhaps never all of it: keep small pages.
  package init(count: Int, isSparse: Bool = false) {
    precondition(count >= 0)
    self.count = count
    mappedByteCount = 0
    pointer = Self.allocate(count, isSparse: isSparse)
  }

  private static func allocate(_ count: Int, isSparse: Bool = false) -> UnsafeMutablePointer<Element> {
    let bytes = max(64, count * MemoryLayout<Element>.stride)
    var raw: UnsafeMutableRawPointer?
    let usesHugePages = !isSparse && bytes >= 2 * HugePages.byteCount
    let status = posix_memalign(&raw, usesHugePages ? HugePages.byteCount : 64, (bytes + 63) / 64 * 64)
    guard status == 0, let raw else { preconditionFailure("out of memory: \(bytes) bytes") }
    if usesHugePages { HugePages.ask(for: UnsafeMutableRawBufferPointer(start: raw, count: bytes)) }
    return raw.bindMemory(to: Element.self, capacity: max(1, count))
  }

  /// Large memory comes from the system as zeros, page by page to the thread that first touches one: clearing the inverse of
  /// 11008 columns beforehand kept one thread busy for a quarter of the time of its computation.
  package init(zeros count: Int) {
    precondition(count >= 0)
    self.count = count
    let bytes = count * MemoryLayout<Element>.stride
    if bytes >= Self.leastFresh, let fresh = Self.freshPages(bytes) {
      mappedByteCount = bytes
      pointer = fresh.bindMemory(to: Element.self, capacity: count)
      return
    }
    mappedByteCount = 0
    pointer = Self.allocate(count)
    memset(pointer, 0, bytes)
  }

  /// Zeros of which memory is taken page by page as they are touched, in small pages. Large ones begin at a page's boundary and
  /// belong to nobody else, so that pages of a file may take the place of their own.
  package init(reserving count: Int) {
    precondition(count >= 0)
    self.count = count
    let bytes = count * MemoryLayout<Element>.stride
    if bytes >= Self.leastReserved {
      let base = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0)
      guard let base, base != MAP_FAILED else { preconditionFailure("out of memory: \(bytes) bytes") }
      mappedByteCount = bytes
      pointer = base.bindMemory(to: Element.self, capacity: count)
      return
    }
    mappedByteCount = 0
    pointer = Self.allocate(count, isSparse: true)
    memset(pointer, 0, bytes)
  }

  /// Less is not worth a mapping of its own.
  private static var leastReserved: Int { 256 << 10 }

  /// Whether the memory is made of pages of its own (``init(reserving:)``, ``init(zeros:)``).
  package var ownsItsPages: Bool { mappedByteCount > 0 }

  /// From so many bytes on glibc takes memory from the system for every allocation (its DEFAULT_MMAP_THRESHOLD_MAX); less is
  /// likely to be at hand.
  private static var leastFresh: Int { 32 << 20 }

  /// Zeros from a huge page's boundary on; nil when the system gives none.
  private static func freshPages(_ bytes: Int) -> UnsafeMutableRawPointer? {
    let hugePage = HugePages.byteCount
    let whole = bytes + hugePage
    guard let base = mmap(nil, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0),
      base != MAP_FAILED
    else { return nil }
    let skipped = (hugePage - Int(bitPattern: base) % hugePage) % hugePage
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let end = (skipped + bytes + page - 1) / page * page
    if skipped > 0 { munmap(base, skipped) }
    if end < whole { munmap(base + end, whole - end) }
    HugePages.ask(for: UnsafeMutableRawBufferPointer(start: base + skipped, count: bytes))
    return base + skipped
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

  @inlinable package var buffer: UnsafeMutableBufferPointer<Element> {
    UnsafeMutableBufferPointer(start: pointer, count: count)
  }
  package var array: [Element] { Array(buffer) }

  @inlinable package subscript(index: Int) -> Element {
    get { buffer[index] }
    set { buffer[index] = newValue }
  }
}
