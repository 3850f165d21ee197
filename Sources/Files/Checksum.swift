import CZlib
import Crypto
import Foundation

/// CRC-32 (zlib's: polynomial 0xEDB88320, reflected) and SHA-256 of bytes in memory and of whole files.
package enum Checksum {
  /// CRC-32 of `bytes`, continuing from `crc` (0 starts a new one).
  package static func crc32(_ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0) -> UInt32 {
    guard let base = bytes.baseAddress else { return crc }
    return UInt32(
      truncatingIfNeeded: crc32_z(
        uLong(crc), base.assumingMemoryBound(to: UInt8.self), z_size_t(bytes.count)))
  }

  /// CRC-32 of two adjoining pieces from their own checksums.
  package static func combined(_ first: UInt32, _ second: UInt32, secondByteCount: Int) -> UInt32 {
    UInt32(truncatingIfNeeded: crc32_combine(uLong(first), uLong(second), secondByteCount))
  }

  /// Lower-case hexadecimal SHA-256.
  package static func sha256(_ bytes: UnsafeRawBufferPointer) -> String {
    var hasher = SHA256()
    let step = 1 << 24
    var offset = 0
    while offset < bytes.count {
      let end = min(bytes.count, offset + step)
      hasher.update(bufferPointer: UnsafeRawBufferPointer(rebasing: bytes[offset..<end]))
      offset = end
    }
    return hexadecimal(hasher.finalize())
  }

  package static func sha256(ofFile path: String) throws -> String {
    // Straight from the page cache: copying would cost a fifth of hashing. Pages are given back, or all would count as memory.
    let file = try MappedFile(path: path)
    var hasher = SHA256()
    let step = 1 << 22
    file.advise(.sequential, range: 0..<file.byteCount)
    for start in stride(from: 0, to: file.byteCount, by: step) {
      let range = start..<min(file.byteCount, start + step)
      hasher.update(bufferPointer: UnsafeRawBufferPointer(rebasing: file.bytes[range]))
      file.advise(.dontNeed, range: range)
    }
    return hexadecimal(hasher.finalize())
  }

  private static func hexadecimal(_ digest: SHA256.Digest) -> String {
    digest.map { byte in
      let text = String(byte, radix: 16)
      return byte < 16 ? "0" + text : text
    }.joined()
  }
}
