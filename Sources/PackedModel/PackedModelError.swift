import Files
import JSON
import Tensors

/// Why a `.zhinao` file was refused: which rule of `Formats/packed-model.md` it breaks, and where.
package struct PackedModelError: DiagnosedError, Equatable {
  /// One case per way to break a rule. `what` is a file or a tensor inside, with its name. Tests match on this; people read
  /// `description`.
  package enum Reason: Equatable, Sendable {
    /// P1
    case notPacked
    /// Something else stands where the file should be.
    case foreign(ForeignContent)
    /// P1: the magic number shows that line ends were changed on the way.
    case textModeDamage
    /// P1: the file ends inside the preamble.
    case truncatedPreamble(byteCount: Int)
    /// P2
    case preambleChecksum
    /// P2
    case reservedBytes
    /// P3
    case unknownVersion(major: UInt16, minor: UInt16, read: UInt16)
    /// P4. Sizes in bytes.
    case lengthMismatch(found: Int, declared: UInt64)
    /// P5
    case headerLength(Int)
    /// P5
    case headerChecksum
    /// P6
    case headerNotJSON(JSONError)
    /// P6
    case noFormat
    /// P6
    case noFilesOrTensors
    /// P7: offset, length or checksum is missing or outside the file.
    case badPlace(what: String)
    /// P8. The name's JSON text.
    case badFileName(String)
    /// P8
    case noTensorName
    /// P8
    case appearsTwice(what: String)
    /// P9
    case badShape(what: String)
    /// P9: shape and encoding disagree with the length. Sizes in bytes.
    case byteCountMismatch(what: String, found: Int, expected: Int)
    /// P9
    case unknownDType(what: String)
    /// P9
    case notPanels(what: String, DType, shape: [Int])
    /// P9
    case badIntegers(what: String)
    /// P9. The encoding's JSON text.
    case unknownEncoding(what: String, String)
    /// P9
    case empty(tensor: String)
    /// P10. Bytes of the file.
    case misaligned(what: String, start: Int, alignment: Int)
    /// P10. Bytes of the file.
    case overlap(what: String, start: Int)
    /// P11: an input channel is there twice, or does not exist.
    case notAPermutation(tensor: String, input: Int)
    /// P14: the self-check record does not begin with its magic number.
    case noSelfCheckMagic
    /// P14: the self-check record is of a model of another shape.
    case selfCheckDoesNotFit
    /// P14: the self-check record has tokens that the model has no rows for.
    case selfCheckTokens
  }
  package var reason: Reason
  package var path: String

  package init(_ reason: Reason, path: String) {
    self.reason = reason
    self.path = path
  }

  package var category: FailureCategory { .badInput }

  /// Number of the broken rule.
  package var rule: Int {
    switch reason {
    case .notPacked, .foreign, .textModeDamage, .truncatedPreamble: 1
    case .preambleChecksum, .reservedBytes: 2
    case .unknownVersion: 3
    case .lengthMismatch: 4
    case .headerLength, .headerChecksum: 5
    case .headerNotJSON, .noFormat, .noFilesOrTensors: 6
    case .badPlace: 7
    case .badFileName, .noTensorName, .appearsTwice: 8
    case .badShape, .byteCountMismatch, .unknownDType, .notPanels, .badIntegers, .unknownEncoding, .empty: 9
    case .misaligned, .overlap: 10
    case .notAPermutation: 11
    case .noSelfCheckMagic, .selfCheckDoesNotFit, .selfCheckTokens: 14
    }
  }

  package var description: String { "\(path): \(reason) (P\(rule))" }
}

extension PackedModelError.Reason: CustomStringConvertible {
  /// The end of a sentence whose subject is the file.
  package var description: String {
    switch self {
    case .notPacked: "is not a .zhinao file"
    case .foreign(let content): content.description
    case .textModeDamage: "was damaged by a text-mode transfer; copy it again as binary"
    case .truncatedPreamble(let count): "is truncated: \(count) bytes"
    case .preambleChecksum: "the preamble's checksum does not match: its first bytes are damaged"
    case .reservedBytes: "the preamble's reserved bytes are not zero"
    case .unknownVersion(let major, let minor, let read):
      "has format version \(major).\(minor); this tool reads \(read).x: use a newer one"
    case .lengthMismatch(let found, let declared):
      declared > UInt64(found)
        ? "is truncated: \(found) of \(declared) bytes" : "has \(UInt64(found) - declared) bytes too many"
    case .headerLength(let count): "the header's length, \(count), is not possible"
    case .headerChecksum: "the header's checksum does not match: it is damaged"
    case .headerNotJSON(let error): "the header is \(error.description)"
    case .noFormat: "the header has no format \"zhinao\""
    case .noFilesOrTensors: "the header has no files and tensors"
    case .badPlace(let what): "\(what) has no offset, bytes and crc32 inside the file"
    case .badFileName(let text): "a file inside has no usable name: \(text)"
    case .noTensorName: "a tensor has no name"
    case .appearsTwice(let what): "\(what) appears twice"
    case .badShape(let what): "\(what) has no shape"
    case .byteCountMismatch(let what, let found, let expected):
      "\(what) has \(found) bytes, its shape and encoding need \(expected)"
    case .unknownDType(let what): "\(what) has no known dtype"
    case .notPanels(let what, let dtype, let shape):
      "\(what) cannot be in panels: it is \(dtype.rawValue) \(shape)"
    case .badIntegers(let what): "\(what) has no valid bits, group_size, symmetric and permuted"
    case .unknownEncoding(let what, let text): "\(what) has encoding \(text), which is not known"
    case .empty(let tensor): "tensor \(tensor) is empty"
    case .misaligned(let what, let start, let alignment):
      "\(what) starts at byte \(start), not a multiple of \(alignment)"
    case .overlap(let what, let start): "\(what) starts at byte \(start), inside what comes before it"
    case .notAPermutation(let tensor, let input):
      "tensor \(tensor): the permutation is not one, at input \(input)"
    case .noSelfCheckMagic: "the self-check record does not start with ZNSC"
    case .selfCheckDoesNotFit: "the self-check record does not fit the model"
    case .selfCheckTokens: "the self-check record has tokens the model does not know"
    }
  }
}
