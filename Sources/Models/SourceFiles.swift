import Files
import Foundation
import JSON
import Synchronization

/// The files a model was read from, and their SHA-256: what `provenance.sources` of a `.zhinao` file says.
package struct SourceFiles: Sendable {
  package struct Entry: Equatable, Sendable {
    /// Relative to the model's folder; for a packed model, the file's own name.
    package var name: String
    package var path: String
    package var byteCount: Int
  }
  package let entries: [Entry]

  /// All files that shaped the model: weights and their index, configuration, tokenizer.
  package init(_ model: OpenedModel) {
    var entries: [Entry] = []
    func add(_ name: String, _ path: String) {
      let size = (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
      entries.append(Entry(name: name, path: path, byteCount: size))
    }
    for path in model.store.weightFiles { add(PathParts(path).name, path) }
    // A packed file or a GGUF file holds the small files itself.
    if model.kind == .checkpoint || model.kind == .autoGPTQ {
      for name in model.files.names
      where ModelFileNames.belongsToModel(name) || name.bytes.hasSuffix(".safetensors.index.json") {
        add(name, "\(model.files.location)/\(name)")
      }
    }
    self.entries = entries.sorted { $0.name.bytes < $1.name.bytes }
  }

  /// The record, with `digests` in the order of the entries; nil: zeros, as long as digests are.
  package func json(_ digests: [String]?) -> JSONValue {
    .array(
      entries.enumerated().map { index, entry in
        [
          "name": .string(entry.name), "bytes": .init(entry.byteCount),
          "sha256": .string(digests?[index] ?? String(repeating: "0", count: 64)),
        ]
      })
  }

  /// Computes the digests on a thread of its own, beside whatever else happens to the files.
  package func startHashing() -> Hashing { Hashing(entries) }

  package final class Hashing: Sendable {
    private let result = Mutex<Result<[String], any Error>?>(nil)
    private let done = DispatchSemaphore(value: 0)

    init(_ entries: [Entry]) {
      let thread = Thread { [self] in
        let found = Result { try entries.map { try Checksum.sha256(ofFile: $0.path) } }
        result.withLock { $0 = found }
        done.signal()
      }
      thread.stackSize = 1 << 20
      thread.start()
    }

    /// Waits for the digests. Call once.
    package func digests() throws -> [String] {
      done.wait()
      return try result.withLock { try $0?.get() ?? [] }
    }
  }
}
