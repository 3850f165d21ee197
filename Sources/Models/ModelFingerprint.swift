import Files

/// Tells models apart without reading all their weights: SHA-256 over the small files, and of each file of weights its name, its
/// size and pieces of it. Models that differ by training differ in nearly every byte, so that any piece shows it.
package enum ModelFingerprint {
  /// Files up to this size are read whole.
  private static let wholeByteCount = 4 << 20
  private static let pieceCount = 64
  private static let pieceByteCount = 16 << 10

  package static func of(_ model: OpenedModel) throws -> String {
    var text = ""
    for entry in SourceFiles(model).entries {
      let file = try MappedFile(path: entry.path)
      withExtendedLifetime(file) {
        // A packed file is the same model under any name.
        let isPacked = model.kind == .packed || model.kind == .gguf
        text += "\(isPacked ? "model" : entry.name) \(file.byteCount) \(digest(of: file.bytes))\n"
      }
    }
    return Array(text.utf8).withUnsafeBytes { Checksum.sha256($0) }
  }

  private static func digest(of bytes: UnsafeRawBufferPointer) -> String {
    guard bytes.count > wholeByteCount else { return Checksum.sha256(bytes) }
    var pieces: [UInt8] = []
    for piece in 0..<pieceCount {
      let start = (bytes.count - pieceByteCount) / (pieceCount - 1) * piece
      pieces += bytes[start..<start + pieceByteCount]
    }
    return pieces.withUnsafeBytes { Checksum.sha256($0) }
  }
}
