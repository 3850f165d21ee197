/// Formats that are no UTF-8 text, known by how their files begin.
package enum ForeignFormat: String, CaseIterable, Sendable {
  case parquet = "a Parquet file"
  case arrow = "an Arrow file"
  case zstandard = "compressed with Zstandard"
  case zip = "a ZIP archive"
  case xz = "compressed with xz"
  case bzip2 = "compressed with bzip2"
  case sevenZip = "a 7z archive"
  case lz4 = "compressed with LZ4"
  case tar = "a tar archive"
  case pickle = "a Python pickle"
  case numPy = "a NumPy array"
  case hdf5 = "an HDF5 file"
  case avro = "an Avro file"
  case sqlite = "an SQLite database"
  case pdf = "a PDF document"
  case gguf = "a GGUF file"
  case utf16 = "UTF-16 text"
  case utf32 = "UTF-32 text"
  case gitLFSPointer = "a Git LFS pointer, not the file itself"

  /// The format of a file that begins with these bytes, or nil: perhaps text.
  package init?(_ bytes: [UInt8]) {
    func begins(_ start: [UInt8]) -> Bool { bytes.starts(with: start) }
    func begins(_ text: String) -> Bool { bytes.starts(with: text.utf8) }
    /// Whether the byte at this place is a control character, or none of ASCII: the letters before it are no word.
    func isBinary(_ place: Int) -> Bool {
      bytes.count > place
        && (bytes[place] > 0x7E || (bytes[place] < 0x20 && !(9...13).contains(bytes[place])))
    }
    let found: ForeignFormat? =
      if begins("PAR1") && isBinary(4) { .parquet } else if begins("ARROW1") && isBinary(6) { .arrow }
      // A stream of messages: the marker of one, and its length.
      else if begins([0xFF, 0xFF, 0xFF, 0xFF]) { .arrow } else if begins([0x28, 0xB5, 0x2F, 0xFD]) {
        .zstandard
      } else if begins([0x50, 0x4B, 3, 4]) || begins([0x50, 0x4B, 5, 6]) {
        .zip
      } else if begins([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0]) {
        .xz
      } else if begins("BZh") && bytes.dropFirst(4).starts(with: [0x31, 0x41, 0x59, 0x26, 0x53, 0x59]) {
        .bzip2
      } else if begins([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C]) {
        .sevenZip
      } else if begins([0x04, 0x22, 0x4D, 0x18]) {
        .lz4
      } else if bytes.dropFirst(257).starts(with: "ustar".utf8) {
        .tar
      } else if bytes.count > 1 && bytes[0] == 0x80 && (2...5).contains(bytes[1]) {
        .pickle
      } else if begins([0x93] + Array("NUMPY".utf8)) { .numPy } else if begins([0x89] + Array("HDF".utf8)) {
        .hdf5
      } else if begins(Array("Obj".utf8) + [1]) { .avro } else if begins("SQLite format 3\0") {
        .sqlite
      } else if begins("%PDF-") { .pdf } else if begins("GGUF") && isBinary(4) {
        .gguf
      } else if begins([0xFF, 0xFE, 0, 0]) || begins([0, 0, 0xFE, 0xFF]) {
        .utf32
      } else if begins([0xFF, 0xFE]) || begins([0xFE, 0xFF]) {
        .utf16
      } else if begins("version https://git-lfs.") { .gitLFSPointer } else { nil }
    guard let found else { return nil }
    self = found
  }

  /// What makes text of such a file, as a clause of its own. A path that a shell would read otherwise is left out.
  package func remedy(path: String) -> String {
    let isPlain = path.utf8.allSatisfy { !"'\"\\$`!\n".utf8.contains($0) }
    let file = isPlain && !path.isEmpty ? path : "FILE"
    let lines = ForeignFormat.withoutExtension(file) + ".jsonl"
    return switch self {
    case .parquet:
      "make JSON Lines of it: python3 -c \"import pandas; pandas.read_parquet('\(file)').to_json('\(lines)', "
        + "orient='records', lines=True, force_ascii=False)\""
    case .arrow:
      "make JSON Lines of it: python3 -c \"import datasets; datasets.Dataset.from_file('\(file)').to_json('\(lines)', "
        + "force_ascii=False)\""
    case .zstandard: "decompress it with zstd -d '\(file)'"
    case .zip: "unpack it with unzip '\(file)'"
    case .xz: "decompress it with xz -dk '\(file)'"
    case .bzip2: "decompress it with bzip2 -dk '\(file)'"
    case .sevenZip: "unpack it with 7z x '\(file)'"
    case .lz4: "decompress it with lz4 -dk '\(file)'"
    case .tar: "unpack it with tar -xf '\(file)'"
    case .utf16: "convert it with iconv -f UTF-16 -t UTF-8 '\(file)'"
    case .utf32: "convert it with iconv -f UTF-32 -t UTF-8 '\(file)'"
    case .gitLFSPointer: "fetch the file with git lfs pull in the folder"
    case .pdf: "take its text with pdftotext '\(file)'"
    case .pickle, .numPy, .hdf5, .avro, .sqlite, .gguf: "write what it holds as JSON Lines or as plain text"
    }
  }

  private static func withoutExtension(_ path: String) -> String {
    let name = PathParts(path).name
    guard let dot = name.utf8.lastIndex(of: UInt8(ascii: ".")), dot > name.utf8.startIndex else {
      return path
    }
    return String(Substring(path.utf8.dropLast(name.utf8.distance(from: dot, to: name.utf8.endIndex))))
  }
}

/// Files of UTF-8 text.
package enum TextFile {
  private static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]

  /// The bytes of a text file, gzip'd or not, without a byte order mark. They may still be no UTF-8.
  /// - Throws: ``FileError``; ``FileError/Reason/foreign(_:)`` when it is clear that the file is something else.
  package static func bytes(ofFile path: String) throws -> [UInt8] {
    let bytes = try Gzip.contents(ofFile: path)
    if let format = ForeignFormat(bytes) {
      throw FileError(.badContent, path: path, reason: .foreign(format))
    }
    return bytes.starts(with: byteOrderMark) ? Array(bytes.dropFirst(byteOrderMark.count)) : bytes
  }
}
