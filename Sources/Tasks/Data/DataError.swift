import Files
import Foundation

/// Why the data of a task cannot be used. Every message names the file and, where there is one, the line and the column.
package struct DataError: DiagnosedError, Equatable {
  /// One case per rule. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    /// Nothing is at the path. `layout` says which files a task reads, `licence` under which terms they are published.
    case notFound(task: String, layout: String, licence: String)
    /// The folder has none of these files, which are written relative to it.
    case missingFiles([String], layout: String, licence: String, canNameSubjects: Bool = false)
    case unknownSubjects([String], known: [String])
    case unknownSplit(String, known: [String])
    case tooLarge(limit: Int)
    case lineTooLong(limit: Int)
    case notUTF8
    case openQuote
    case fieldCount(found: Int, expected: String)
    case missingColumn(expected: String)
    case badAnswer(found: String, expected: String)
    case repeatedID(String, earlier: Int)
    case noItems
    /// The file has no answers, as C-Eval's test split.
    case noAnswers(expected: String)
    /// A rule of one reader, as the end of a sentence whose subject is the line.
    case refused(String)

    // MARK: Requests
    case tooFewExamples(subject: String, found: Int, wanted: Int, expected: String)
    case unknownMode(task: String, mode: String, known: [String])
    case unknownMetrics([String], known: [String])
  }
  package var reason: Reason
  package var path: String
  package var line: Int?
  package var column: String?

  package init(_ reason: Reason, path: String, line: Int? = nil, column: String? = nil) {
    (self.reason, self.path, self.line, self.column) = (reason, path, line, column)
  }

  package var category: FailureCategory {
    switch reason {
    case .notFound: .cannotOpenInput
    case .unknownSubjects, .unknownSplit, .unknownMode, .unknownMetrics: .usage
    default: .badInput
    }
  }

  package var description: String {
    let place =
      path + (line.map { ", line \($0)" } ?? "") + (column.map { ", column \($0)" } ?? "")
    return "\(place): \(detail)"
  }

  private var detail: String {
    switch reason {
    case .notFound(let task, let layout, let licence):
      "is not there. \(task) reads \(layout). Nothing is downloaded; its publishers give it out under \(licence)"
    case .missingFiles(let names, let layout, let licence, let canNameSubjects):
      "has no \(DataError.list(names)). Expected: \(layout). Nothing is downloaded; the data are given out under \(licence)"
        + (canNameSubjects ? ". To evaluate only some subjects, name them with --subjects" : "")
    case .unknownSubjects(let names, let known):
      "has no subject \(DataError.list(names)); there are \(DataError.list(known, most: 80))"
    case .unknownSplit(let name, let known):
      "there is no split \(name); there are \(known.joined(separator: ", "))"
    case .tooLarge(let limit): "has more than the \(limit) bytes accepted"
    case .lineTooLong(let limit): "has more than the \(limit) bytes accepted"
    case .notUTF8: "is not UTF-8 text; save the file as UTF-8"
    case .openQuote: "opens a quoted field that never ends"
    case .fieldCount(let found, let expected): "has \(found) columns, expected \(expected)"
    case .missingColumn(let expected): "is missing; expected \(expected)"
    case .badAnswer(let found, let expected):
      "is \"\(found.bytes.prefix(scalars: 80))\", expected \(expected)"
    case .repeatedID(let id, let earlier):
      "repeats the id \(id.bytes.prefix(scalars: 80)) of line \(earlier); every id must be unique"
    case .noItems: "has no items"
    case .noAnswers(let expected): "has no answers; \(expected)"
    case .refused(let detail): detail
    case .tooFewExamples(let subject, let found, let wanted, let expected):
      "has \(found) examples for \(subject), and \(wanted) were asked for; expected: \(expected)"
    case .unknownMetrics(let names, let known):
      "there is no metric \(DataError.list(names)); there are \(known.joined(separator: ", "))"
    case .unknownMode(let task, let mode, let known):
      "\(task) has no mode \(mode); it has \(known.joined(separator: ", "))"
    }
  }

  private static func list(_ names: [String], most: Int = 6) -> String {
    names.count <= most
      ? names.joined(separator: ", ")
      : names.prefix(most).joined(separator: ", ") + " and \(names.count - most) more"
  }
}

/// A file that was read, for reports.
package struct DataFile: Equatable, Sendable {
  package var path: String
  package var byteCount: Int
  package var sha256: String

  package init(path: String, byteCount: Int, sha256: String) {
    (self.path, self.byteCount, self.sha256) = (path, byteCount, sha256)
  }

  init(_ file: MappedFile) {
    path = file.path
    byteCount = file.byteCount
    sha256 = withExtendedLifetime(file) { Checksum.sha256(file.bytes) }
  }
}

extension MappedFile {
  /// Opens a file of text.
  /// - Throws: ``FileError``, also for something that is not text at all; ``DataError`` when it is too large.
  static func text(_ path: String, mostBytes: Int = 1 << 30) throws -> MappedFile {
    let file = try MappedFile(path: path)
    try withExtendedLifetime(file) {
      guard file.byteCount <= mostBytes else { throw DataError(.tooLarge(limit: mostBytes), path: path) }
      if let foreign = ForeignContent(file.bytes) {
        let detail =
          foreign == .parquet
          ? "is a Parquet file, which is not read; write it as JSON Lines, for example with Dataset.to_json of Hugging Face's datasets"
          : foreign.description
        throw FileError(.badContent, path: path, detail: detail)
      }
    }
    return file
  }
}
