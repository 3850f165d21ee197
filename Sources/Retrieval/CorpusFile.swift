import Files
import JSON

/// A corpus in BEIR's form: a JSON object with `_id` (or `id`), `title` and `text` on each line of a mapped file. All lines are checked when
/// it is opened.
package final class CorpusFile: Sendable {
  package struct Passage: Equatable, Sendable {
    package var id: String
    package var title: String
    package var text: String

    /// What is embedded: title and text, as BEIR joins them.
    package var embedded: String { (title + " " + text).bytes.trimmed }
  }

  package let path: String
  /// Lines with nothing to embed.
  package let emptyCount: Int
  private let file: MappedFile
  /// The bytes of each passage's line, in order, and the line's number.
  private let lines: [(range: Range<Int>, number: Int)]

  package var count: Int { lines.count }
  package var byteCount: Int { file.byteCount }

  /// A line longer than this is refused: no passage is as long.
  private static let longestLine = 64 << 20

  /// - Parameter progress: called with the bytes read so far.
  /// - Throws: ``VectorIndexError`` with the line that is not what it should be.
  /// - Complexity: O(bytes).
  package init(path: String, progress: (_ byteCount: Int) -> Void = { _ in }) throws {
    self.path = path
    let file = try MappedFile(path: path)
    self.file = file
    var lines: [(Range<Int>, Int)] = []
    var seen: [ByteText: Int] = [:]
    var empty = 0
    try withExtendedLifetime(file) {
      if let foreign = ForeignContent(file.bytes) {
        throw FileError(.badContent, path: path, detail: foreign.description)
      }
      var number = 0
      var start = 0
      while start < file.byteCount {
        number += 1
        var end = start
        while end < file.byteCount, file.bytes[end] != UInt8(ascii: "\n") { end += 1 }
        let range = CorpusFile.withoutSpace(start..<end, of: file.bytes)
        if !range.isEmpty {
          let passage = try CorpusFile.parse(file.bytes, range, number: number, path: path)
          if let earlier = seen.updateValue(number, forKey: passage.id.bytes) {
            throw VectorIndexError(.repeatedID(line: number, id: passage.id, earlier: earlier), path: path)
          }
          if passage.embedded.isEmpty { empty += 1 }
          lines.append((range, number))
        }
        start = end + 1
        if number % 1024 == 0 { progress(min(start, file.byteCount)) }
      }
    }
    guard !lines.isEmpty else { throw VectorIndexError(.noPassages, path: path) }
    progress(file.byteCount)
    self.lines = lines
    emptyCount = empty
  }

  /// The line without JSON's white space at its ends.
  private static func withoutSpace(_ range: Range<Int>, of bytes: UnsafeRawBufferPointer) -> Range<Int> {
    func isSpace(_ byte: UInt8) -> Bool { byte == 32 || byte == 9 || byte == 13 }
    var (start, end) = (range.lowerBound, range.upperBound)
    while start < end, isSpace(bytes[start]) { start += 1 }
    while end > start, isSpace(bytes[end - 1]) { end -= 1 }
    return start..<end
  }

  private static func parse(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, number: Int, path: String)
    throws
    -> Passage
  {
    guard range.count <= longestLine else {
      throw VectorIndexError(
        .badLine(number, "has \(range.count) bytes, more than the \(longestLine) accepted"), path: path)
    }
    let json: JSONValue
    do throws(JSONError) {
      json = try JSONValue.parse(UnsafeRawBufferPointer(rebasing: bytes[range]), maximumDepth: 64)
    } catch { throw VectorIndexError(.badLine(number, error.description), path: path) }
    return try passage(json, document: "\(path), line \(number)")
  }

  /// The passage of one line.
  /// - Throws: ``JSONFieldError``.
  package static func passage(_ json: JSONValue, document: String) throws -> Passage {
    let fields = try JSONFields(json, document: document)
    // C-MTEB's name of the id.
    let key = fields.isPresent("_id") || !fields.isPresent("id") ? "_id" : "id"
    let id: String
    if let number = fields[key]?.intValue {
      // Some tools write ids as numbers.
      id = "\(number)"
    } else {
      id = try fields.requiredString(key)
    }
    guard !id.isEmpty else { throw fields.refusal(key, "is empty; every passage needs an id") }
    return Passage(id: id, title: try fields.string("title") ?? "", text: try fields.requiredString("text"))
  }

  /// Passage `index`, in the order of the file.
  package func passage(_ index: Int) throws -> Passage {
    try withExtendedLifetime(file) {
      try CorpusFile.parse(file.bytes, lines[index].range, number: lines[index].number, path: path)
    }
  }

  /// Calls `body` with the bytes of each passage's line, without its line feed.
  func forEachLine(_ body: (UnsafeRawBufferPointer) throws -> Void) rethrows {
    try withExtendedLifetime(file) {
      for (range, _) in lines { try body(UnsafeRawBufferPointer(rebasing: file.bytes[range])) }
    }
  }

  /// SHA-256 of the file.
  package func digest() throws -> String { try Checksum.sha256(ofFile: path) }
}
