import CSignals
import Foundation

/// A whole file mapped read-only into memory; nothing is read until it is touched.
///
/// The mapping lives as long as the object: whoever keeps a pointer into `bytes` keeps the object too.
package final class MappedFile: @unchecked Sendable {
  // Unchecked: the mapping is read-only and lasts as long as the object.
  package let path: String
  /// The file's content. Empty files give an empty buffer.
  package let bytes: UnsafeRawBufferPointer
  /// Which file it is, whatever name it has by now; nil for memory.
  private let identity: (device: UInt64, inode: UInt64)?

  package var byteCount: Int { bytes.count }

  /// - Throws: ``FileError`` when the path is missing, unreadable, or not an ordinary file.
  package init(path: String) throws {
    self.path = path
    // Without waiting for whoever might write into a pipe: it is refused below.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw FileError.fromErrno(.cannotOpen, path: path, doing: "cannot open") }
    defer { close(descriptor) }
    var info = stat()
    guard fstat(descriptor, &info) == 0 else {
      throw FileError.fromErrno(.cannotOpen, path: path, doing: "cannot stat")
    }
    guard info.st_mode & S_IFMT == S_IFREG else {
      throw FileError(.cannotOpen, path: path, reason: .notAnOrdinaryFile)
    }
    identity = (UInt64(info.st_dev), UInt64(info.st_ino))
    let count = Int(info.st_size)
    guard count > 0 else {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let base = mmap(nil, count, PROT_READ, MAP_SHARED, descriptor, 0), base != MAP_FAILED else {
      throw FileError.fromErrno(.inputOutput, path: path, doing: "cannot map \(count) bytes")
    }
    bytes = UnsafeRawBufferPointer(start: base, count: count)
    // When a read of this memory fails, the handler of SIGBUS says which file it was.
    _ = zn_mapped_file_add(base, count, path)
  }

  /// Memory that holds the content of a file inside another one.
  /// - Throws: ``FileError`` when there is no memory for it.
  package init(contents: [UInt8], path: String) throws {
    self.path = path
    identity = nil
    guard !contents.isEmpty else {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    let mapped = mmap(nil, contents.count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let base = mapped, base != MAP_FAILED else {
      throw FileError.fromErrno(
        .inputOutput, path: path, doing: "cannot get \(contents.count) bytes of memory")
    }
    contents.withUnsafeBytes { base.copyMemory(from: $0.baseAddress!, byteCount: contents.count) }
    bytes = UnsafeRawBufferPointer(start: base, count: contents.count)
  }

  /// Whether a descriptor is of the same file.
  package func isSameFile(_ descriptor: Int32) -> Bool {
    var info = stat()
    guard let identity, fstat(descriptor, &info) == 0 else { return false }
    return identity == (UInt64(info.st_dev), UInt64(info.st_ino))
  }

  deinit {
    if let base = bytes.baseAddress {
      zn_mapped_file_remove(base)
      munmap(UnsafeMutableRawPointer(mutating: base), bytes.count)
    }
  }

  /// How a range is about to be used, for the kernel's read-ahead.
  package enum Advice { case sequential, willNeed, dontNeed }

  /// Tells the kernel how `range` is about to be used. Only speed and residency change.
  package func advise(_ advice: Advice, range: Range<Int>) {
    guard let base = bytes.baseAddress, !range.isEmpty else { return }
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let start = range.lowerBound / page * page
    let end = min(bytes.count, range.upperBound)
    let flag: Int32 =
      switch advice {
      case .sequential: MADV_SEQUENTIAL
      case .willNeed: MADV_WILLNEED
      case .dontNeed: MADV_DONTNEED
      }
    madvise(UnsafeMutableRawPointer(mutating: base + start), end - start, flag)
  }

  /// Gives the resident pages back to the system; they come again from its cache when touched.
  package func releasePages() { advise(.dontNeed, range: 0..<byteCount) }
}
