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
  /// A name for messages: `FOLDER/NAME`, or `FILE: NAME` for a packed model.
  func label(of name: String) -> String
}

extension ModelFiles {
  package func label(of name: String) -> String { "\(location): \(name)" }
}

/// The files of a folder.
package struct FolderFiles: ModelFiles {
  package let location: String
  package init(_ folder: String) {
    location = folder.withoutTrailingSlashes
  }

  package func label(of name: String) -> String { "\(location)/\(name)" }

  /// Symbolic links count as what they lead to: hubs make folders of links, and some tools link the folder itself.
  package var names: [String] {
    var found: [String] = []
    collect("", into: &found, depth: 0)
    return found.sorted { $0.bytes < $1.bytes }
  }

  /// Folders deeper than a model's files ever are, links in a circle among them, are not entered.
  private static let deepest = 4

  private func collect(_ prefix: String, into found: inout [String], depth: Int) {
    guard depth <= FolderFiles.deepest else { return }
    // A slash at the end follows a link to the folder.
    for entry in (try? FileManager.default.contentsOfDirectory(atPath: "\(location)/\(prefix)")) ?? [] {
      let name = prefix + entry
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: "\(location)/\(name)", isDirectory: &isFolder) else {
        // A link that leads nowhere is refused when somebody wants the file.
        if linkTarget(name) != nil { found.append(name) }
        continue
      }
      if isFolder.boolValue {
        collect(name + "/", into: &found, depth: depth + 1)
      } else {
        found.append(name)
      }
    }
  }

  /// What a link leads to; nil: it is none.
  private func linkTarget(_ name: String) -> String? {
    try? FileManager.default.destinationOfSymbolicLink(atPath: "\(location)/\(name)")
  }

  package func bytes(named name: String) throws -> [UInt8]? {
    let path = "\(location)/\(name)"
    guard FileManager.default.fileExists(atPath: path) else {
      guard let target = linkTarget(name) else { return nil }
      throw FileError(.badContent, path: path, reason: .danglingLink(target: target))
    }
    let file = try MappedFile(path: path)
    return withExtendedLifetime(file) { Array(file.bytes) }
  }
}

/// The files of a model, some of them with other content.
package struct OverlaidFiles: ModelFiles {
  private let base: any ModelFiles
  private let changes: [ByteText: [UInt8]]

  package init(_ base: any ModelFiles, changes: [ByteText: [UInt8]]) {
    self.base = base
    self.changes = changes
  }

  package var location: String { base.location }
  package var names: [String] { base.names }
  package func bytes(named name: String) throws -> [UInt8]? { try changes[name] ?? base.bytes(named: name) }
  package func label(of name: String) -> String { base.label(of: name) }
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
