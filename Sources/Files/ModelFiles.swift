import Foundation

/// The small files that belong to a model (configuration, tokenizer, chat template), wherever they are kept: in the
/// model's folder, or inside a packed model.
package protocol ModelFiles: Sendable {
  /// Where the files are, for messages: a folder, or a packed file.
  var location: String { get }
  /// Names of all files held, relative to `location`, sorted.
  var names: [String] { get }
  /// Content of the file `name` (relative, `/` separated, for example `vocab/360.tiktoken`), or nil when there is none.
  func bytes(named name: String) throws -> [UInt8]?
}

extension ModelFiles {
  /// A name for messages: `FOLDER/NAME`, or `FILE: NAME` for a packed model.
  package func label(of name: String) -> String {
    self is FolderFiles ? "\(location)/\(name)" : "\(location): \(name)"
  }
}

/// The files of a folder.
package struct FolderFiles: ModelFiles {
  package let location: String
  package init(_ folder: String) {
    location = folder.withoutTrailingSlashes
  }

  package var names: [String] {
    let all = FileManager.default.subpaths(atPath: location) ?? []
    return all.filter { name in
      var isFolder: ObjCBool = false
      return FileManager.default.fileExists(atPath: "\(location)/\(name)", isDirectory: &isFolder)
        && !isFolder.boolValue
    }.sorted { $0.bytes < $1.bytes }
  }

  package func bytes(named name: String) throws -> [UInt8]? {
    let path = "\(location)/\(name)"
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let file = try MappedFile(path: path)
    return withExtendedLifetime(file) { Array(file.bytes) }
  }
}

/// Files held in memory, as a packed model embeds them.
package struct EmbeddedFiles: ModelFiles {
  package let location: String
  package let contents: [ByteText: [UInt8]]
  package init(location: String, contents: [ByteText: [UInt8]]) {
    self.location = location
    self.contents = contents
  }
  package var names: [String] { contents.keys.sorted().map(\.text) }
  package func bytes(named name: String) throws -> [UInt8]? { contents[name] }
}
