import CSignals
import Foundation

/// Memory that holds pages of a file among others, for the handler of SIGBUS: it then says which file could not be read.
package final class FilePages: Sendable {
  private let base: UInt

  /// - Parameters:
  ///   - memory: outlives the object.
  ///   - path: of the file.
  package init(_ memory: UnsafeRawBufferPointer, path: String) {
    base = memory.baseAddress.map { UInt(bitPattern: $0) } ?? 0
    if let start = memory.baseAddress { _ = zn_mapped_file_add(start, memory.count, path) }
  }

  deinit {
    if let start = UnsafeRawPointer(bitPattern: base) { zn_mapped_file_remove(start) }
  }

  /// Puts pages of a file in the place of pages of memory. What is written to them stays in this process.
  /// - Parameters:
  ///   - memory: whole pages that belong to a private mapping; their content is lost.
  ///   - offset: in the file, at a page's boundary; the file has all of the pages.
  /// - Returns: false when the system does not do it; the memory is then as it was.
  package static func map(_ descriptor: Int32, offset: Int, into memory: UnsafeMutableRawBufferPointer)
    -> Bool
  {
    let flags = MAP_PRIVATE | MAP_FIXED
    let base = mmap(
      memory.baseAddress, memory.count, PROT_READ | PROT_WRITE, flags, descriptor, off_t(offset))
    return base != MAP_FAILED
  }

  /// Bytes of a page of memory.
  package static let byteCount = Int(sysconf(Int32(_SC_PAGESIZE)))
}
