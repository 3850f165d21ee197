/// A path's folder and name, cut at the last slash by its bytes. Foundation's `NSString.deletingLastPathComponent` traps on
/// a path of one character.
package struct PathParts: Equatable, Sendable {
  /// `.` when the path is a name only.
  package let folder: String
  package let name: String

  /// - Parameter path: slashes at its end are ignored.
  package init(_ path: String) {
    let path = PathParts.withoutTrailingSlashes(path)
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else {
      (folder, name) = (".", path)
      return
    }
    let folder = String(path[..<slash])
    self.folder = folder.isEmpty ? "/" : PathParts.withoutTrailingSlashes(folder)
    name = String(path[path.utf8.index(after: slash)...])
  }

  package static func withoutTrailingSlashes(_ path: String) -> String {
    var bytes = path.utf8[...]
    while bytes.count > 1, bytes.last == UInt8(ascii: "/") { bytes = bytes.dropLast() }
    return String(bytes) ?? path
  }
}
