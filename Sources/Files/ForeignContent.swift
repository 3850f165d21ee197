/// What stands in place of a file of weights, a configuration or a tokenizer, when its first bytes make that clear: what a
/// download left behind, or a file in another format. Readers name it instead of the rule of their own format that it breaks.
package enum ForeignContent: Equatable, Sendable, CaseIterable {
  case gitLFSPointer
  case webPage
  /// What a hub answers instead of a file.
  case hubMessage
  case utf16
  case zstandard
  case gzip
  case zip
  case parquet

  private static let hubMessages = [
    "Entry not found", "Repository not found", "Invalid username or password", "Access to model",
    "{\"error\":",
  ]

  /// Nil: nothing tells.
  package init?(_ bytes: UnsafeRawBufferPointer) {
    switch ForeignFormat(Array(bytes.prefix(512))) {
    case .gitLFSPointer: self = .gitLFSPointer
    case .utf16: self = .utf16
    case .zstandard: self = .zstandard
    case .zip: self = .zip
    case .parquet: self = .parquet
    default:
      if bytes.starts(with: [0x1F, 0x8B]) {
        self = .gzip
        return
      }
      let start = String(decoding: bytes.prefix(64), as: UTF8.self).bytes
      let page = start.trimmed.lowercased().bytes
      if page.hasPrefix("<!doctype html") || page.hasPrefix("<html") {
        self = .webPage
      } else if ForeignContent.hubMessages.contains(where: start.hasPrefix) {
        self = .hubMessage
      } else {
        return nil
      }
    }
  }
}

extension ForeignContent: CustomStringConvertible {
  /// The end of a sentence whose subject is the file: what it is, and what to do.
  package var description: String {
    switch self {
    case .gitLFSPointer:
      "is a Git LFS pointer, not the file itself; fetch the file with git lfs pull in the folder"
    case .webPage:
      "is a web page, not the file itself; download it again, signed in where the model asks for it"
    case .hubMessage: "is an error message of a hub, not the file itself; download it again"
    case .utf16: "is UTF-16 text, as PowerShell writes it; save it as UTF-8"
    case .zstandard: "is compressed with Zstandard; decompress it first: zstd -d FILE"
    case .gzip: "is compressed with gzip; decompress it first: gunzip FILE"
    case .zip:
      "is a ZIP archive, as pickled PyTorch checkpoints are; unpack it, or convert the checkpoint to safetensors"
    case .parquet: "is a Parquet file, which holds a data set and no weights"
    }
  }
}
