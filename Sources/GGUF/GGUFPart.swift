import Files
import Foundation

/// One file of a GGUF model, which may be split over several (llama.cpp's `llama-gguf-split`): each has a header of its own,
/// with the number of the part, and tensors.
struct GGUFPart {
  let file: MappedFile
  let version: Int
  let metadata: [(key: String, value: GGUFValue)]
  private(set) var tensors: [GGUFTensor]

  init(path: String) throws {
    let file = try MappedFile(path: path)
    var reader = GGUFReader(bytes: file.bytes, path: path)
    try withExtendedLifetime(file) { try reader.read() }
    self.file = file
    version = reader.version
    metadata = reader.metadata
    tensors = reader.tensors
  }

  private func integer(_ key: String) -> Int? {
    guard case .integer(let number)? = metadata.first(where: { $0.key.hasSameBytes(as: key) })?.value else {
      return nil
    }
    return number
  }
  /// From 0 on; nil: none that can be.
  private var number: Int? {
    integer("split.no").flatMap { (0..<GGUFPart.mostParts).contains($0) ? $0 : nil }
  }
  private var count: Int { integer("split.count") ?? 1 }

  private func bad(_ reason: GGUFError.Reason, tensor: String? = nil) -> GGUFError {
    GGUFError(reason, path: file.path, tensor: tensor)
  }

  /// All parts of the model that `part` belongs to, in order (F13).
  static func all(of part: GGUFPart) throws -> [GGUFPart] {
    guard part.count > 1 else { return [part] }
    let given = PathParts(part.file.path)
    guard let number = part.number, part.count <= GGUFPart.mostParts, number < part.count,
      let prefix = given.name.bytes.dropping(suffix: GGUFPart.ending(number, of: part.count))
    else {
      throw part.bad(.badPartName(expected: "NAME" + GGUFPart.ending(part.number ?? 0, of: part.count)))
    }
    var parts: [GGUFPart] = []
    var names: Set<ByteText> = []
    for index in 0..<part.count {
      let path = "\(given.folder)/\(prefix)\(GGUFPart.ending(index, of: part.count))"
      guard index == number || FileManager.default.fileExists(atPath: path) else {
        throw part.bad(.partMissing(name: PathParts(path).name, number: index + 1, count: part.count))
      }
      var other = index == number ? part : try GGUFPart(path: path)
      guard other.number == index, other.count == part.count else {
        throw other.bad(
          .wrongPart(found: other.number.map { $0 + 1 }, expected: index + 1, count: part.count))
      }
      for i in other.tensors.indices {
        other.tensors[i].part = index
        guard names.insert(other.tensors[i].name.bytes).inserted else {
          throw other.bad(.inTwoParts, tensor: other.tensors[i].name)
        }
      }
      parts.append(other)
    }
    if let expected = parts[0].integer("split.tensors.count"), expected != names.count {
      throw parts[0].bad(.partsIncomplete(found: names.count, expected: expected))
    }
    return parts
  }

  /// The format's own limit: counts of parts have 16 bits.
  private static let mostParts = 65535

  /// The end of the name of a part: `-00002-of-00003.gguf`.
  private static func ending(_ index: Int, of count: Int) -> String {
    func five(_ number: Int) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
    }
    return "-\(five(index + 1))-of-\(five(count)).gguf"
  }
}
