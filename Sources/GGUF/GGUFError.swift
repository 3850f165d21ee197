import Files

/// Why a GGUF file was refused: which rule it breaks, and at which tensor.
package struct GGUFError: DiagnosedError, Equatable {
  /// One case per rule; F1 to F13 are those of `Formats/gguf.md`. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    /// Something else stands where the file should be.
    case foreign(ForeignContent)
    /// F1: the file does not begin as GGUF files do.
    case notGGUF
    /// F1: the file ends inside a value.
    case truncated(byteCount: Int, what: String)
    /// F2
    case unknownVersion(UInt32)
    /// F3: a count of things that do not fit into what follows.
    case countTooLarge(UInt64, what: String, remaining: Int)
    /// F4
    case notUTF8(what: String)
    /// F4: a key is empty, too long, or there twice.
    case badKey(String, index: Int)
    /// F5: a truth value other than 0 and 1.
    case badBool(UInt8, what: String)
    /// F5
    case unknownValueType(UInt32, key: String)
    /// F6
    case arrayTooDeep(key: String, limit: Int)
    /// F7
    case badAlignment(key: String)
    /// F8: a name is empty, too long, or there twice.
    case badTensorName(index: Int)
    /// F8
    case badRank(UInt32)
    /// F8
    case unknownTensorType(UInt32)
    /// F9: a dimension that no computer here can count to.
    case dimensionTooLarge(UInt64)
    /// F9: the product of the shape overflows, or rows are not whole blocks.
    case badShape([Int], blockSize: Int)
    /// F9: the bytes overflow.
    case shapeTooLarge([Int])
    /// F10: the tensor ends outside the file. Bytes of the file.
    case endsOutside(byteCount: Int, start: Int, available: Int)
    /// F11: the tensor does not follow the one before it. Bytes of the data.
    case notContiguous(start: UInt64, expected: Int, alignment: Int)
    /// F12
    case excess(byteCount: Int, alignment: Int)
    /// F12: another GGUF file follows, as when the parts of a split model were joined byte by byte.
    case joined
    /// F13: a part of a split model whose name does not say which.
    case badPartName(expected: String)
    /// F13: a part is not beside the others.
    case partMissing(name: String, number: Int, count: Int)
    /// F13: the file is another part than its name says; nil: none.
    case wrongPart(found: Int?, expected: Int, count: Int)
    /// F13
    case inTwoParts
    /// F13: the parts together have another number of tensors than the first says.
    case partsIncomplete(found: Int, expected: Int)
    /// A metadata value is of another kind than its reader needs.
    case metadataMismatch(key: String, expected: String)
  }
  package var reason: Reason
  package var path: String
  package var tensor: String?

  package init(_ reason: Reason, path: String, tensor: String? = nil) {
    self.reason = reason
    self.path = path
    self.tensor = tensor
  }

  package var category: FailureCategory { .badInput }

  package var description: String { "\(path): \(tensor.map { "tensor \($0) " } ?? "")\(reason)" }
}

extension GGUFError.Reason: CustomStringConvertible {
  /// The end of a sentence whose subject is the tensor or the file, with the number of the rule.
  package var description: String {
    switch self {
    case .foreign(let content): content.description
    case .notGGUF: "is not a GGUF file: it does not start with GGUF, version and two counts (F1)"
    case .truncated(let count, let what): "is truncated: it ends at byte \(count), inside \(what) (F1)"
    case .unknownVersion(let found):
      "has GGUF version \(found)\([2, 3].contains(found.byteSwapped) ? ": it is big-endian" : ""); read are 2 and 3, "
        + "little-endian (F2)"
    case .countTooLarge(let declared, let what, let remaining):
      "claims \(declared) for \(what), which do not fit in the \(remaining) bytes that follow (F3)"
    case .notUTF8(let what): "\(what) is not valid UTF-8 (F4)"
    case .badKey(let key, let index):
      "key \(index) of the metadata (\"\(key.bytes.prefix(scalars: 64))\") is empty, too long, or there twice (F4)"
    case .badBool(let byte, let what): "\(what) is \(byte), but a bool is 0 or 1 (F5)"
    case .unknownValueType(let number, let key): "metadata \(key) has type \(number); types are 0 to 12 (F5)"
    case .arrayTooDeep(let key, let limit): "metadata \(key) has arrays more than \(limit) deep (F6)"
    case .badAlignment(let key): "\(key) is not a power of two from 8 to 2^20 (F7)"
    case .badTensorName(let index): "tensor \(index) has a name that is empty, too long, or used twice (F8)"
    case .badRank(let rank): "has \(rank) dimensions, 1 to 4 expected (F8)"
    case .unknownTensorType(let number):
      "has type \(GGUFTensorType.description(ofUnknown: number)); read are "
        + "\(GGUFTensorType.allCases.map(\.name).joined(separator: " ")) (F8)"
    case .dimensionTooLarge(let dimension): "has a dimension of \(dimension) (F9)"
    case .badShape(let shape, let blockSize):
      "has shape \(shape), whose product overflows, or whose rows are not whole blocks of \(blockSize) (F9)"
    case .shapeTooLarge(let shape): "has shape \(shape), which is larger than any file (F9)"
    case .endsOutside(let count, let start, let available):
      "needs \(count) bytes from byte \(start), the file has \(available): it is truncated (F10)"
    case .notContiguous(let start, let expected, let alignment):
      "starts at byte \(start) of the data, \(expected) expected: tensors follow one another, each at a multiple of "
        + "\(alignment) (F11)"
    case .excess(let count, let alignment):
      "has \(count) bytes after the last tensor, less than \(alignment) expected (F12)"
    case .joined:
      "is several GGUF files in one: the parts of a split model do not become one by cat; give one of the parts, all in one "
        + "folder, or join them with llama-gguf-split --merge (F12)"
    case .badPartName(let expected):
      "is a part of a split model, whose name must end as \(expected); the other parts are found by it (F13)"
    case .partMissing(let name, let number, let count):
      "is a part of a split model; part \(number) of \(count), \(name), is not beside it (F13)"
    case .wrongPart(let found, let expected, let count):
      "says it is \(found.map { "part \($0)" } ?? "no part"), but its name says part \(expected) of \(count) (F13)"
    case .inTwoParts: "is in two parts of the split model (F13)"
    case .partsIncomplete(let found, let expected):
      "and the other parts hold \(found) tensors, \(expected) expected (F13)"
    case .metadataMismatch(let key, let expected): "metadata \(key) is not \(expected)"
    }
  }
}
