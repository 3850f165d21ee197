import Compute
import Files
import Foundation
import JSON
import Models
import Safetensors
import Tensors

/// Vectors and texts of a corpus, mapped into memory: exact search by inner product (`Formats/vector-index.md`).
package final class VectorIndex: Sendable {
  static let vectorsFileName = "embeddings.safetensors"
  static let passagesFileName = "passages.jsonl"
  static let offsetsFileName = "passages.offsets"
  static let fileNames = [vectorsFileName, passagesFileName, offsetsFileName]
  static let vectorsName = "embeddings"
  static let scalesName = "scales"

  package let path: String
  package let manifest: IndexManifest
  private let vectorsFile: SafetensorsFile
  private let passagesFile: MappedFile
  private let offsetsFile: MappedFile
  /// `[count, dimensions]` of the manifest's type.
  let vectors: UnsafeBytes
  /// `[count]` of floats; nil unless the type is int8.
  let scales: UnsafeBytes?

  package var count: Int { manifest.passageCount }
  package var dimensions: Int { manifest.settings.dimensions }
  /// Bytes that a search reads.
  package var vectorByteCount: Int { vectors.count + (scales?.count ?? 0) }

  /// A passage that was found.
  package struct Hit: Equatable, Sendable {
    /// Its place in the corpus.
    package var index: Int
    /// The inner product with the query.
    package var score: Float
  }

  /// Maps the files and checks their structure; no vector is read.
  /// - Throws: ``VectorIndexError``.
  package init(path folder: String) throws {
    let path = PathParts.withoutTrailingSlashes(folder)
    self.path = path
    func bad(_ file: String, _ detail: String) -> VectorIndexError {
      VectorIndexError(.damaged(file: file, detail), path: path)
    }
    guard FileManager.default.fileExists(atPath: path) else {
      throw FileError(.cannotOpen, path: path, detail: "no such folder")
    }
    guard let bytes = try FolderFiles(path).bytes(named: IndexManifest.name) else {
      throw VectorIndexError(.notAnIndex, path: path)
    }
    let manifest = try IndexManifest(bytes, folder: path)
    self.manifest = manifest
    let sizes = Dictionary(manifest.files.map { ($0.name.bytes, $0.byteCount) }) { first, _ in first }
    func mapped(_ name: String) throws -> MappedFile {
      let file = try MappedFile(path: "\(path)/\(name)")
      guard sizes[name] == file.byteCount else {
        throw bad(name, "has \(file.byteCount) bytes, expected \(sizes[name].map { "\($0)" } ?? "no such file")")
      }
      return file
    }
    passagesFile = try mapped(VectorIndex.passagesFileName)
    offsetsFile = try mapped(VectorIndex.offsetsFileName)
    let count = manifest.passageCount
    guard offsetsFile.byteCount == 8 * (count + 1) else {
      throw bad(VectorIndex.offsetsFileName, "has \(offsetsFile.byteCount) bytes, expected \(8 * (count + 1))")
    }
    _ = try mapped(VectorIndex.vectorsFileName)
    let file = try SafetensorsFile(path: "\(path)/\(VectorIndex.vectorsFileName)")
    vectorsFile = file
    func tensor(_ name: String, _ dtype: DType, _ shape: [Int]) throws -> UnsafeBytes {
      guard let tensor = file.tensor(name), tensor.dtype == dtype, tensor.shape == shape else {
        throw bad(VectorIndex.vectorsFileName, "has no tensor \(name) of \(dtype.rawValue) with shape \(shape)")
      }
      return UnsafeBytes(file.bytes(of: tensor), owner: file)
    }
    let type = manifest.settings.vectorType
    vectors = try tensor(VectorIndex.vectorsName, type.dtype, [count, manifest.settings.dimensions])
    scales = type == .int8 ? try tensor(VectorIndex.scalesName, .f32, [count]) : nil
  }

  /// Refuses a model whose vectors mean something else.
  /// - Throws: ``VectorIndexError/Reason/otherModel(_:)``.
  package func check(_ model: OpenedModel) throws {
    guard try ModelFingerprint.of(model) == manifest.model.fingerprint else {
      throw VectorIndexError(.otherModel(model.path), path: path)
    }
  }

  /// Looks at every byte.
  /// - Parameter progress: called with the bytes looked at so far, and all of them.
  /// - Returns: sentences that say what differs from what was written; empty: nothing does.
  package func problems(progress: (Int, Int) -> Void = { _, _ in }) throws -> [String] {
    let all = manifest.files.reduce(0) { $0 + $1.byteCount }
    var done = 0
    var found: [String] = []
    for file in manifest.files {
      guard VectorIndex.fileNames.contains(file.name) else {
        found.append("\(path)/\(IndexManifest.name): names the unknown file \(file.name)")
        continue
      }
      if try Checksum.sha256(ofFile: "\(path)/\(file.name)") != file.sha256 {
        found.append("\(path)/\(file.name): differs from its checksum")
      }
      done += file.byteCount
      progress(done, all)
    }
    return found
  }

  // MARK: Passages

  /// The passage at `index` of the corpus.
  /// - Throws: ``VectorIndexError/Reason/damaged(file:_:)`` when its line is not what was written.
  package func passage(_ index: Int) throws -> CorpusFile.Passage {
    precondition(index >= 0 && index < count)
    func offset(_ index: Int) -> UInt64 {
      UInt64(littleEndian: offsetsFile.bytes.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self))
    }
    let (start, end) = (offset(index), offset(index + 1))
    // A line ends with its line feed.
    guard start < end, end <= UInt64(passagesFile.byteCount) else {
      throw VectorIndexError(
        .damaged(file: VectorIndex.offsetsFileName, "passage \(index) ends outside the passages"), path: path)
    }
    let line = UnsafeRawBufferPointer(rebasing: passagesFile.bytes[Int(start)..<Int(end) - 1])
    do {
      return try withExtendedLifetime(passagesFile) {
        try CorpusFile.passage(try JSONValue.parse(line, maximumDepth: 64), document: "line")
      }
    } catch {
      throw VectorIndexError(
        .damaged(file: VectorIndex.passagesFileName, "passage \(index) cannot be read (\(error))"), path: path)
    }
  }

  /// Gives resident pages back to the system.
  package func releasePages() { vectorsFile.file.releasePages() }
}
