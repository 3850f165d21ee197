import Compute
import Files
import Foundation
import JSON
import Safetensors
import Tensors

/// Makes an index of a corpus (`Formats/vector-index.md`).
///
/// Vectors are made in chunks of passages, which `FOLDER.partial` keeps: a run that was killed goes on after the last whole chunk and
/// ends with the same bytes. The folder appears whole or not at all.
package struct VectorIndexBuilder {
  /// Passages of one chunk.
  static let chunk = 512

  /// Where the vectors begin in their file: a line of a cache, or every load of a search would touch two.
  private static let alignment = 64

  private let output: String
  private let corpus: CorpusFile
  private let embedder: any PassageEmbedder
  private let settings: IndexSettings
  private let model: IndexedModel
  private let generator: String
  private let replaces: Bool

  /// Where vectors are kept until the index is whole.
  private var partial: String { output + ".partial" }

  /// - Parameters:
  ///   - output: folder of the index.
  ///   - embedder: its vectors have the dimensions of `settings`.
  ///   - replacing: whether an existing folder may be replaced.
  package init(
    output: String, corpus: CorpusFile, embedder: any PassageEmbedder, settings: IndexSettings,
    model: IndexedModel, generator: String, replacing: Bool = false
  ) {
    precondition(embedder.dimensions == settings.dimensions)
    self.output = PathParts.withoutTrailingSlashes(output)
    self.corpus = corpus
    self.embedder = embedder
    self.settings = settings
    self.model = model
    self.generator = generator
    replaces = replacing
  }

  package struct Progress: Sendable {
    package var passages: Int
    /// Tokens of the passages embedded by this run.
    package var tokens: Int
  }

  /// Makes the index, or finishes what an earlier run began.
  /// - Parameter progress: called after each chunk; the first call says how many passages were there already.
  /// - Throws: ``VectorIndexError``, ``FileError``, and what the embedder throws.
  package func build(progress: (Progress) -> Void = { _ in }) throws -> IndexManifest {
    let manager = FileManager.default
    let parent = PathParts(output).folder
    do { try manager.createDirectory(atPath: parent, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: output, reason: .cannotCreate(error.localizedDescription))
    }
    // Said before hours of work, not after them.
    if let existing = try? manager.contentsOfDirectory(atPath: output), !existing.isEmpty, !replaces {
      throw FileError(.cannotWrite, path: output, reason: .folderNotEmpty)
    }
    let lock = try OutputLock(output: output)
    let corpusFile = IndexManifest.File(
      name: PathParts(corpus.path).name, byteCount: corpus.byteCount, sha256: try corpus.digest())
    try openPartial(corpusFile)
    let chunks = (corpus.count + VectorIndexBuilder.chunk - 1) / VectorIndexBuilder.chunk
    var truncated = 0
    var state = Progress(passages: 0, tokens: 0)
    for index in 0..<chunks {
      let range = index * VectorIndexBuilder.chunk..<min((index + 1) * VectorIndexBuilder.chunk, corpus.count)
      if let kept = try keptChunk(index, count: range.count) {
        truncated += kept.truncated
      } else {
        if state.passages == range.lowerBound, state.tokens == 0 { progress(state) }
        let made = try embed(range)
        try save(made, chunk: index, count: range.count)
        truncated += made.truncatedCount
        state.tokens += made.tokenCount
      }
      state.passages = range.upperBound
      progress(state)
    }
    let manifest = try withExtendedLifetime(lock) {
      try assemble(chunks: chunks, truncated: truncated, corpusFile: corpusFile)
    }
    VectorIndexBuilder.remove(partial: partial, chunks: chunks)
    return manifest
  }

  // MARK: What is kept of a run

  private static let recipeName = "recipe.json"

  /// Passages that an interrupted run left embedded, for messages.
  package static func keptPassages(output: String) -> Int {
    let partial = PathParts.withoutTrailingSlashes(output) + ".partial"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: partial)) ?? []
    return names.filter { $0.hasPrefix("vectors-") && $0.hasSuffix(".safetensors") }.count * chunk
  }

  private func openPartial(_ corpusFile: IndexManifest.File) throws {
    let identity: [(String, JSONValue)] =
      [
        ("format version", .init(IndexManifest.version)), ("model", .string(model.fingerprint)),
        ("corpus", .string(corpusFile.sha256)), ("chunk", .init(VectorIndexBuilder.chunk)),
      ] + settings.json.members.map { ($0.key, $0.value) }
    let manager = FileManager.default
    let path = "\(partial)/\(VectorIndexBuilder.recipeName)"
    if manager.fileExists(atPath: path) {
      let found = try JSONValue.parse(file: path).objectValue ?? JSONObject()
      for (key, value) in identity where found[key] != value {
        throw VectorIndexError(
          .otherJob(
            key: key, found: VectorIndexBuilder.brief(found[key]), expected: VectorIndexBuilder.brief(value)),
          path: output)
      }
      return
    }
    // Without a recipe nobody knows what chunks were computed from.
    try? manager.removeItem(atPath: partial)
    do { try manager.createDirectory(atPath: partial, withIntermediateDirectories: true) } catch {
      throw FileError(.cannotWrite, path: partial, reason: .cannotCreate(error.localizedDescription))
    }
    try AtomicFile.write(JSONValue.object(JSONObject(identity)).serialized(indent: 2) + "\n", to: path)
  }

  private static func brief(_ value: JSONValue?) -> String {
    (value?.serialized() ?? "nothing").bytes.prefix(scalars: 40)
  }

  private static func chunkPath(_ index: Int, in partial: String) -> String {
    "\(partial)/vectors-\(index).safetensors"
  }

  private static let truncatedKey = "truncated"

  /// A chunk that an earlier run finished; nil: there is none.
  private func keptChunk(_ index: Int, count: Int) throws -> (file: SafetensorsFile, truncated: Int)? {
    let path = VectorIndexBuilder.chunkPath(index, in: partial)
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    let file = try SafetensorsFile(path: path)
    let truncated = file.metadata.first { $0.key == VectorIndexBuilder.truncatedKey }.flatMap { Int($0.value) }
    guard let truncated, (0...count).contains(truncated),
      plans(count: count).allSatisfy({ plan in
        file.tensor(plan.name).map { $0.dtype == plan.dtype && $0.shape == plan.shape } ?? false
      })
    else {
      throw FileError(.badContent, path: path, detail: "is not a chunk of this index; remove \(partial)")
    }
    return (file, truncated)
  }

  /// From the last chunk down and the recipe last, so that what a process leaves that is killed meanwhile can be gone on with.
  private static func remove(partial: String, chunks: Int) {
    for index in (0..<chunks).reversed() { unlink(chunkPath(index, in: partial)) }
    try? FileManager.default.removeItem(atPath: partial)
  }

  // MARK: Vectors

  private func plans(count: Int) -> [TensorPlan] {
    let vectors = TensorPlan(VectorIndex.vectorsName, settings.vectorType.dtype, [count, settings.dimensions])
    return settings.vectorType == .int8 ? [vectors, TensorPlan(VectorIndex.scalesName, .f32, [count])] : [vectors]
  }

  private func embed(_ range: Range<Int>) throws -> EmbeddedTexts {
    let passages = try range.map { try corpus.passage($0) }
    let made = try embedder.vectors(of: passages.map(\.embedded))
    let width = settings.dimensions
    for row in 0..<range.count {
      for component in 0..<width where !made.vectors[row * width + component].isFinite {
        throw VectorIndexError(
          .vectorNotFinite(passage: range.lowerBound + row, id: passages[row].id), path: output)
      }
    }
    return made
  }

  private func save(_ made: EmbeddedTexts, chunk index: Int, count: Int) throws {
    let width = settings.dimensions
    let kernels = Kernels.best
    let codes = AlignedBuffer<Int8>(count: settings.vectorType == .int8 ? count * width : 0)
    let halves = AlignedBuffer<UInt16>(count: settings.vectorType == .fp16 ? count * width : 0)
    let scales = AlignedBuffer<Float>(count: settings.vectorType == .int8 ? count : 0)
    let bytes: UnsafeRawBufferPointer
    switch settings.vectorType {
    case .fp32: bytes = UnsafeRawBufferPointer(made.vectors.buffer)
    case .fp16:
      kernels.narrow(halves.pointer, from: made.vectors.pointer, type: .f16, count: count * width)
      bytes = UnsafeRawBufferPointer(halves.buffer)
    case .int8:
      for row in 0..<count {
        scales[row] = kernels.quantizeVector(
          codes.pointer + row * width, from: made.vectors.pointer + row * width, count: width)
      }
      bytes = UnsafeRawBufferPointer(codes.buffer)
    }
    try withExtendedLifetime((made, codes, halves)) {
      try SafetensorsWriter.write(
        to: VectorIndexBuilder.chunkPath(index, in: partial), tensors: plans(count: count),
        metadata: [(VectorIndexBuilder.truncatedKey, "\(made.truncatedCount)")]
      ) { plan, emit in
        try emit(plan.name == VectorIndex.scalesName ? UnsafeRawBufferPointer(scales.buffer) : bytes)
      }
    }
  }

  // MARK: The folder

  private func assemble(chunks: Int, truncated: Int, corpusFile: IndexManifest.File) throws -> IndexManifest {
    let folder = try AtomicFolder(path: output, replacing: replaces)
    try SafetensorsWriter.write(
      to: folder.stagedPath(VectorIndex.vectorsFileName), tensors: plans(count: corpus.count),
      metadata: [("format", "pt")], alignment: VectorIndexBuilder.alignment
    ) { plan, emit in
      for index in 0..<chunks {
        let count = min(VectorIndexBuilder.chunk, corpus.count - index * VectorIndexBuilder.chunk)
        guard let kept = try keptChunk(index, count: count), let tensor = kept.file.tensor(plan.name) else {
          throw FileError(
            .badContent, path: partial, detail: "lost a chunk while the index was written; run the same command again")
        }
        try withExtendedLifetime(kept.file) { try emit(kept.file.bytes(of: tensor)) }
      }
    }
    let passages = try AtomicFile(path: folder.stagedPath(VectorIndex.passagesFileName))
    let offsets = try AtomicFile(path: folder.stagedPath(VectorIndex.offsetsFileName))
    // Written in pieces: a call for each line costs more than the line.
    var (lines, places): ([UInt8], [UInt8]) = ([], [])
    var end = 0
    func place(_ offset: Int) { withUnsafeBytes(of: UInt64(offset).littleEndian) { places += $0 } }
    func flush(_ least: Int) throws {
      if lines.count >= least {
        try passages.write(lines)
        lines.removeAll(keepingCapacity: true)
      }
      if places.count >= least {
        try offsets.write(places)
        places.removeAll(keepingCapacity: true)
      }
    }
    place(0)
    try corpus.forEachLine { line in
      lines += line
      lines.append(UInt8(ascii: "\n"))
      end += line.count + 1
      place(end)
      try flush(1 << 20)
    }
    try flush(1)
    try passages.commit()
    try offsets.commit()
    let files = try VectorIndex.fileNames.map { name in
      let path = folder.stagedPath(name)
      return IndexManifest.File(
        name: name, byteCount: try MappedFile(path: path).byteCount, sha256: try Checksum.sha256(ofFile: path))
    }
    let manifest = IndexManifest(
      generator: generator, passageCount: corpus.count, emptyCount: corpus.emptyCount, truncatedCount: truncated,
      settings: settings, model: model, corpus: corpusFile, files: files)
    try AtomicFile.write(manifest.text, to: folder.stagedPath(IndexManifest.name))
    try folder.commit()
    return manifest
  }
}
