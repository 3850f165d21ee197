import Files
import Foundation
import JSON

/// The texts that a needle is hidden in.
package struct NeedleTexts: Sendable {
  package static let layout =
    "a folder of .txt files, one .txt file, or a .jsonl file with a text as \"content\" on each line (the vendor uses Paul Graham's essays and "
    + "Chinese novels)"

  package var texts: [String]
  package var files: [DataFile]

  /// A folder of `.txt` files in the order of their names, one text file, or a `.json` or `.jsonl` file with an object on each line
  /// whose `content` (or `text`) is a novel, as the vendor's `novel.json`.
  ///
  /// Line ends are kept as they are. The vendor's code joins essays in the order of the file system, which differs from machine to
  /// machine.
  /// - Throws: ``FileError`` with the file and line that is not what it should be.
  package init(path: String) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw FileError(
        .cannotOpen, path: path,
        detail: "no such file or folder; expected \(NeedleTexts.layout)")
    }
    texts = []
    files = []
    let paths: [String]
    if isFolder.boolValue {
      paths = FolderFiles(path).names.filter { $0.bytes.hasSuffix(".txt") }.map { "\(path)/\($0)" }
      guard !paths.isEmpty else {
        throw FileError(.badContent, path: path, detail: "has no .txt files")
      }
    } else {
      paths = [path]
    }
    for path in paths {
      files.append(DataFile(try MappedFile(path: path)))
      if path.bytes.hasSuffix(".json") || path.bytes.hasSuffix(".jsonl") {
        texts += try NeedleTexts.novels(path)
      } else {
        let file = try MappedFile(path: path)
        guard let text = withExtendedLifetime(file, { String(validating: file.bytes, as: UTF8.self) }) else {
          throw FileError(.badContent, path: path, detail: "is not UTF-8 text")
        }
        texts.append(text)
      }
    }
  }

  private static func novels(_ path: String) throws -> [String] {
    let file = try MappedFile(path: path)
    var found: [String] = []
    try withExtendedLifetime(file) {
      var number = 0
      for line in file.bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
        number += 1
        if line.allSatisfy({ [32, 9, 13].contains($0) }) { continue }
        let label = "\(path), line \(number)"
        let json: JSONValue
        do throws(JSONError) {
          json = try JSONValue.parse(UnsafeRawBufferPointer(rebasing: line), maximumDepth: 64)
        } catch {
          throw FileError(.badContent, path: label, detail: error.description)
        }
        let fields = try JSONFields(json, document: label)
        found.append(try fields.string("content") ?? fields.requiredString("text"))
      }
    }
    guard !found.isEmpty else { throw FileError(.badContent, path: path, detail: "has no texts") }
    return found
  }
}
