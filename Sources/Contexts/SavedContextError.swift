import Files

/// Why a saved context cannot be read, or not be used.
package struct SavedContextError: DiagnosedError, Equatable {
  /// One case per rule of `Formats/saved-context.md`.
  package enum Reason: Equatable, Sendable {
    // MARK: Reading
    /// C1: the file begins with other bytes.
    case notAContext
    /// C1: a transfer in text mode changed the first bytes.
    case textModeDamage
    /// C2: the file ends inside the preamble.
    case truncatedPreamble(byteCount: Int)
    /// C2: the preamble is not what was written.
    case preambleChecksum
    /// C2: bytes of the preamble that mean nothing yet are not zero.
    case reservedBytes
    /// C3
    case unknownVersion(major: UInt16, minor: UInt16, read: UInt16)
    /// C4: the file is longer or shorter than it says.
    case lengthMismatch(found: Int, declared: UInt64)
    /// C5: the header ends outside the file, or not at a page's boundary.
    case headerLength(Int)
    case headerChecksum
    /// C6: the header is no JSON object with the members it must have; the end of a sentence.
    case badHeader(String)
    /// C7: tokens, checksums and planes do not fill the file.
    case sizeMismatch(expected: Int, found: Int)
    /// C8, C9: the tokens, or the table of checksums.
    case sectionChecksum(String)
    /// C10: bytes of a block of keys and values; the block begins at this byte of the file.
    case blockDamaged(block: Int, byteOffset: Int)
    /// The rest of a page behind the tokens, the checksums or a plane is not zero.
    case paddingNotZero(byteOffset: Int)

    // MARK: Using it
    /// C11: another model computed it; both names.
    case otherModel(saved: String, used: String)
    /// C11: with other adapters, or with the same in another strength.
    case otherAdapters(saved: Int, used: Int)
    case otherArithmetic(saved: String, used: String)
    case otherEncoding(saved: String, used: String)
    /// C11: planes that the encoding does not have for this model.
    case otherPlanes
    /// C11: by a program whose arithmetic gives other bits.
    case otherRevision(saved: Int, used: Int)
  }
  package let reason: Reason
  package let path: String

  package init(_ reason: Reason, path: String) {
    (self.reason, self.path) = (reason, path)
  }

  package var category: FailureCategory { .badInput }

  /// Whether the file is whole, but belongs to something else.
  package var isMisfit: Bool {
    switch reason {
    case .otherModel, .otherAdapters, .otherArithmetic, .otherEncoding, .otherPlanes, .otherRevision: true
    default: false
    }
  }

  package var description: String { "\(path): \(detail)" }

  private var detail: String {
    let again = "save the context again"
    switch reason {
    case .notAContext: return "is not a saved context"
    case .textModeDamage: return "was changed by a transfer in text mode; copy it as a binary file"
    case .truncatedPreamble(let count): return "ends after \(count) bytes, inside its preamble; \(again)"
    case .preambleChecksum: return "the preamble differs from its checksum; \(again)"
    case .reservedBytes: return "reserved bytes of the preamble are not zero; \(again)"
    case .unknownVersion(let major, let minor, let read):
      return "is a saved context of version \(major).\(minor); this program reads version \(read)"
    case .lengthMismatch(let found, let declared):
      return "has \(found) bytes and says it has \(declared); it was cut off or changed, \(again)"
    case .headerLength(let count): return "declares a header of \(count) bytes, which does not fit; \(again)"
    case .headerChecksum: return "the header differs from its checksum; \(again)"
    case .badHeader(let what): return "the header \(what); \(again)"
    case .sizeMismatch(let expected, let found):
      return "tokens, checksums and planes are \(expected) bytes, the file has \(found); \(again)"
    case .sectionChecksum(let what): return "the \(what) differ from their checksum; \(again)"
    case .blockDamaged(let block, let offset):
      return "block \(block) of keys and values, from byte \(offset) on, differs from its checksum; \(again)"
    case .paddingNotZero(let offset): return "padding at byte \(offset) is not zero; \(again)"
    case .otherModel(let saved, let used):
      return "was computed with another model (\(saved)), not with \(used); use that model, or \(again)"
    case .otherAdapters(let saved, let used):
      return saved == used
        ? "was computed with other adapters (--lora) or other factors; use those, or \(again)"
        : "was computed with \(SavedContextError.adapters(saved)), not with \(SavedContextError.adapters(used)); use the same --lora, or \(again)"
    case .otherArithmetic(let saved, let used):
      return "was computed with --arithmetic \(saved), not \(used); use that arithmetic, or \(again)"
    case .otherEncoding(let saved, let used):
      return "holds keys and values in \(saved), not in \(used); use --kv-cache \(saved), or \(again)"
    case .otherPlanes:
      return "holds keys and values of another layout than this program gives the model; \(again)"
    case .otherRevision(let saved, let used):
      return
        "was computed by a version of this program whose arithmetic gives other bits (revision \(saved); this one has "
        + "\(used)); \(again)"
    }
  }

  private static func adapters(_ count: Int) -> String { count == 1 ? "1 adapter" : "\(count) adapters" }
}
