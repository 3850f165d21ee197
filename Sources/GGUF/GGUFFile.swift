import Files
import JSON

/// A GGUF file, or all parts of one that was split, mapped into memory; every rule of the format is checked when it is opened
/// (`Formats/gguf.md`), so that no later access can leave the files.
package final class GGUFFile: Sendable {
  /// The files that hold it; of several, the first has the metadata.
  package let parts: [MappedFile]
  package let version: Int
  /// In the file's order.
  package let metadata: [(key: String, value: GGUFValue)]
  /// In the order of the parts and, within one, of their data.
  package let tensors: [GGUFTensor]
  private let values: [ByteText: Int]
  private let index: [ByteText: Int]

  package var path: String { parts[0].path }
  /// Bytes of all parts.
  package var byteCount: Int { parts.reduce(0) { $0 + $1.byteCount } }

  /// Whether a file starts as GGUF files do.
  package static func isGGUF(path: String) -> Bool {
    guard let file = try? MappedFile(path: path) else { return false }
    return withExtendedLifetime(file) { file.bytes.starts(with: GGUFReader.magic) }
  }

  /// - Parameter path: the file, or any part of one that was split.
  /// - Throws: ``FileError`` when a file cannot be opened, ``GGUFError`` when it breaks a rule (F1 to F13).
  package init(path: String) throws {
    let contents = try GGUFPart.all(of: GGUFPart(path: path))
    parts = contents.map(\.file)
    version = contents[0].version
    metadata = contents[0].metadata
    tensors = contents.flatMap(\.tensors)
    values = Dictionary(uniqueKeysWithValues: metadata.enumerated().map { ($0.element.key.bytes, $0.offset) })
    index = Dictionary(uniqueKeysWithValues: tensors.enumerated().map { ($0.element.name.bytes, $0.offset) })
  }

  /// Gives the resident pages back to the system; they come again from its cache when touched.
  package func releasePages() { for part in parts { part.releasePages() } }

  package func tensor(_ name: String) -> GGUFTensor? { index[name].map { tensors[$0] } }

  /// The tensor's bytes; valid while this object lives.
  package func bytes(of tensor: GGUFTensor) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: parts[tensor.part].bytes[tensor.range])
  }

  // MARK: Metadata

  package subscript(key: String) -> GGUFValue? { values[key].map { metadata[$0].value } }

  private func wrong(_ key: String, _ expected: String) -> GGUFError {
    GGUFError(.metadataMismatch(key: key, expected: expected), path: path)
  }

  /// Each of these gives nil when the key is missing, and throws when its value is of another kind.
  package func string(_ key: String) throws -> String? {
    guard let value = self[key] else { return nil }
    guard case .string(let text) = value else { throw wrong(key, "a string") }
    return text
  }

  package func integer(_ key: String) throws -> Int? {
    guard let value = self[key] else { return nil }
    guard case .integer(let number?) = value else { throw wrong(key, "a whole number") }
    return number
  }

  package func flag(_ key: String) throws -> Bool? {
    guard let value = self[key] else { return nil }
    guard case .bool(let flag) = value else { throw wrong(key, "true or false") }
    return flag
  }

  /// The number's shortest spelling: 1e-05 for the single-precision number next to it.
  package func number(_ key: String) throws -> JSONValue? {
    switch self[key] {
    case nil: return nil
    case .float32(let number) where number.isFinite: return .number("\(number)")
    case .float64(let number) where number.isFinite: return .number("\(number)")
    case .integer(let number?): return .init(number)
    default: throw wrong(key, "a finite number")
    }
  }

  package func strings(_ key: String) throws -> [String]? {
    try elements(key, "strings", type: .string) { cursor, _, index in
      try cursor.string("element \(index) of \(key)")
    }
  }

  package func integers(_ key: String) throws -> [Int]? {
    try elements(key, "whole numbers", type: nil) { cursor, type, _ in
      guard case .integer(let number) = try cursor.value(type, of: key, depth: 0) else { return nil }
      return number
    }
  }

  package func floats(_ key: String) throws -> [Float]? {
    try elements(key, "single-precision numbers", type: .float32) { cursor, type, _ in
      guard case .float32(let number) = try cursor.value(type, of: key, depth: 0) else { return nil }
      return number
    }
  }

  /// - Parameters:
  ///   - kind: what the elements are, for messages.
  ///   - type: of the elements; nil: any that `read` takes.
  ///   - read: nil when an element is of another kind.
  private func elements<Element>(
    _ key: String, _ kind: String, type: GGUFValueType?,
    read: (inout GGUFCursor, GGUFValueType, Int) throws -> Element?
  ) throws -> [Element]? {
    guard let value = self[key] else { return nil }
    guard case .array(let array) = value, type == nil || array.elementType == type else {
      throw wrong(key, "an array of \(kind)")
    }
    return try withExtendedLifetime(parts) {
      var cursor = GGUFCursor(bytes: parts[0].bytes, offset: array.range.lowerBound, path: path)
      return try (0..<array.count).map { index in
        guard let element = try read(&cursor, array.elementType, index) else {
          throw wrong(key, "an array of \(kind)")
        }
        return element
      }
    }
  }
}
