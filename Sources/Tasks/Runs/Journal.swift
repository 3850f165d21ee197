import Files
import Foundation
import JSON
import Synchronization

/// The items of one task that one model has finished, on disk: what a killed run did is not done again.
///
/// A JSON Lines file. The first line says what was measured, with which settings, on which model and which data; the name of the
/// file holds a digest of that, so that a folder keeps any number of journals and none is taken for another. Each further line
/// is an ``ItemRecord``. A line that was cut off by a kill is dropped.
package final class Journal: Sendable {
  package let path: String?
  private let state: Mutex<State>

  private struct State {
    var records: [ByteText: ItemRecord] = [:]
    var file: FileHandle?
    var lock: OutputLock?
  }

  /// A journal that is not kept.
  package init() {
    path = nil
    state = Mutex(State())
  }

  /// Opens the journal of `identity` in `folder`, which is made when there is none.
  /// - Parameters:
  ///   - name: what people recognize it by: task and model.
  ///   - identity: what results depend on; the same journal is found again only by the same.
  /// - Throws: ``FileError``, also when another process writes it; ``TaskError`` when a line in the middle is damaged.
  package init(folder: String, name: String, identity: JSONObject) throws {
    let head = JSONValue.object(identity).serialized()
    let digest = Array(head.utf8).withUnsafeBytes { Checksum.sha256($0) }
    let path = "\(folder)/\(Journal.fileName(name))-\(digest.bytes.prefix(scalars: 16)).jsonl"
    self.path = path
    do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: folder, detail: "cannot create: \(error.localizedDescription)")
    }
    var state = State(lock: try OutputLock(output: path))
    var kept = 0
    if FileManager.default.fileExists(atPath: path) {
      kept = try Journal.read(path, head: head, into: &state.records)
    }
    let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
    guard descriptor >= 0 else { throw FileError.fromErrno(.cannotWrite, path: path, doing: "cannot open") }
    let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    guard ftruncate(descriptor, off_t(kept)) == 0 else {
      throw FileError.fromErrno(.cannotWrite, path: path, doing: "cannot shorten")
    }
    state.file = file
    self.state = Mutex(state)
    if kept == 0 { try write(head) }
  }

  /// Letters, digits, dots and hyphens of a name.
  private static func fileName(_ name: String) -> String {
    let kept = name.unicodeScalars.map { scalar -> Character in
      let isPlain =
        ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar)
        || scalar == "." || scalar == "-"
      return isPlain ? Character(scalar) : "-"
    }
    return String(kept.prefix(80))
  }

  /// - Returns: the bytes of whole lines, which are kept.
  private static func read(_ path: String, head: String, into records: inout [ByteText: ItemRecord]) throws
    -> Int
  {
    let file = try MappedFile(path: path)
    return try withExtendedLifetime(file) {
      var (start, number) = (0, 0)
      while let end = file.bytes[start...].firstIndex(of: UInt8(ascii: "\n")) {
        number += 1
        let line = UnsafeRawBufferPointer(rebasing: file.bytes[start..<end])
        if number == 1 {
          guard line.elementsEqual(head.utf8) else {
            throw TaskError(
              .badJournal(line: 1, detail: "is not the description its name stands for"), path: path)
          }
        } else {
          do {
            let record = try ItemRecord(JSONValue.parse(line), document: "\(path), line \(number)")
            records[record.id.bytes] = record
          } catch let error as JSONError {
            throw TaskError(.badJournal(line: number, detail: error.description), path: path)
          }
        }
        start = end + 1
      }
      return start
    }
  }

  /// Items that are finished.
  package var count: Int { state.withLock(\.records.count) }

  /// The finished item with this id.
  package func record(_ id: String) -> ItemRecord? { state.withLock { $0.records[id.bytes] } }

  /// Adds a finished item.
  /// - Throws: ``FileError``.
  package func append(_ record: ItemRecord) throws {
    if path != nil { try write(record.json.serialized()) }
    state.withLock { $0.records[record.id.bytes] = record }
  }

  /// Deletes the file. The journal takes nothing more.
  package func discard() {
    guard let path else { return }
    state.withLock { state in
      state.file = nil
      try? FileManager.default.removeItem(atPath: path)
      state.lock = nil
    }
  }

  private func write(_ line: String) throws {
    try state.withLock { state in
      guard let file = state.file else { return }
      do { try file.write(contentsOf: Data((line + "\n").utf8)) } catch {
        throw FileError(.cannotWrite, path: path ?? "", detail: error.localizedDescription)
      }
    }
  }
}
