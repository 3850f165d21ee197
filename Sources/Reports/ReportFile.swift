import Files
import Foundation

/// A report as a file: the name says which format.
package struct ReportFile: Sendable, Equatable {
  package enum Format: String, CaseIterable, Sendable {
    case html
    case markdown = "md"
  }

  package var path: String
  package var format: Format

  /// - Throws: ``ReportFileError`` for a name that ends in neither `.html` nor `.md`: call it before work starts.
  package init(path: String, option: String) throws(ReportFileError) {
    let found = Format.allCases.first { format in
      let name = PathParts(path).name
      return name.utf8.count > format.rawValue.utf8.count + 1
        && name.lowercased().bytes.hasSuffix(".\(format.rawValue)")
    }
    guard let found else { throw ReportFileError(option: option, path: path) }
    self.path = path
    self.format = found
  }

  /// Refuses a file that exists, unless it may be replaced, and a folder that cannot be written: call it before work starts.
  package func checkWritable(overwrites: Bool) throws(FileError) {
    try ReportFile.checkWritable(path, overwrites: overwrites)
  }

  /// The same of a file of any format.
  package static func checkWritable(_ path: String, overwrites: Bool) throws(FileError) {
    let manager = FileManager.default
    var isFolder: ObjCBool = false
    if manager.fileExists(atPath: path, isDirectory: &isFolder) {
      guard !isFolder.boolValue else { throw FileError(.cannotWrite, path: path, detail: "is a folder") }
      guard overwrites else {
        throw FileError(.cannotWrite, path: path, detail: "exists; remove it or pass --overwrite")
      }
    }
    let folder = PathParts(path).folder
    guard manager.isWritableFile(atPath: folder) else {
      throw FileError(
        .cannotWrite, path: path, detail: "cannot be created: \(folder) is not a writable folder")
    }
  }

  /// Writes the file whole or not at all.
  package func write(_ report: Report) throws {
    try AtomicFile.write(format == .html ? report.html : report.markdown, to: path)
  }
}

/// A name that does not say which format a report should have.
package struct ReportFileError: DiagnosedError, Equatable {
  package var option: String
  package var path: String

  package var category: FailureCategory { .usage }
  package var description: String { "\(option) \(path): expected a name that ends in .html or .md." }
}
