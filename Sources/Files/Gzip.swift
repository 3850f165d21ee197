import CZlib
import Foundation

/// Reading of files that may be gzip'd.
package enum Gzip {
  /// The file's content, decompressed when it starts with the gzip magic `1f 8b` (several members are joined).
  ///
  /// - Parameter maximumByteCount: decompression stops with an error beyond it, so that a small hostile file cannot
  ///   fill the memory.
  package static func contents(ofFile path: String, maximumByteCount: Int = 1 << 32) throws -> [UInt8] {
    let file = try MappedFile(path: path)
    return try withExtendedLifetime(file) {
      guard file.byteCount >= 2, file.bytes[0] == 0x1F, file.bytes[1] == 0x8B else {
        guard file.byteCount <= maximumByteCount else {
          throw FileError(
            .badContent, path: path, reason: .tooLarge(found: file.byteCount, limit: maximumByteCount))
        }
        return Array(file.bytes)
      }
      return try decompress(file.bytes, path: path, maximumByteCount: maximumByteCount)
    }
  }

  private static func decompress(_ input: UnsafeRawBufferPointer, path: String, maximumByteCount: Int) throws
    -> [UInt8]
  {
    func bad(_ reason: FileError.Reason) -> FileError { FileError(.badContent, path: path, reason: reason) }
    var stream = z_stream()
    // 15 + 16: the largest window, gzip framing only.
    guard inflateInit2_(&stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      throw FileError(.inputOutput, path: path, reason: .gzipUnavailable("zlib cannot start"))
    }
    defer { inflateEnd(&stream) }
    var output: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 18)
    var consumed = 0
    while true {
      let available = min(input.count - consumed, 1 << 30)
      stream.next_in = UnsafeMutablePointer(
        mutating: (input.baseAddress! + consumed).assumingMemoryBound(to: UInt8.self))
      stream.avail_in = uInt(available)
      let (status, produced) = chunk.withUnsafeMutableBufferPointer { buffer in
        stream.next_out = buffer.baseAddress
        stream.avail_out = uInt(buffer.count)
        let status = inflate(&stream, Z_NO_FLUSH)
        return (status, buffer.count - Int(stream.avail_out))
      }
      consumed += available - Int(stream.avail_in)
      guard output.count + produced <= maximumByteCount else {
        throw bad(.decompressesToTooMuch(limit: maximumByteCount))
      }
      output.append(contentsOf: chunk[0..<produced])
      switch status {
      case Z_STREAM_END:
        if consumed == input.count { return output }
        guard inflateReset(&stream) == Z_OK else { throw bad(.gzipUnavailable("zlib cannot continue")) }
      case Z_OK, Z_BUF_ERROR:
        if produced == 0 && consumed == input.count {
          throw bad(.gzipIncomplete)
        }
      default:
        let reason = stream.msg.map { String(cString: $0) } ?? "code \(status)"
        throw bad(.gzipInvalid(byteOffset: consumed, reason))
      }
    }
  }
}
