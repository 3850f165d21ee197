import Compute
import Files
import Foundation
import JSON
import Safetensors
import Synchronization
import Tensors
import TestSupport
import Testing

@testable import Retrieval

/// Makes vectors of the bytes of a text, and can be made to fail after some calls.
private final class StandInEmbedder: PassageEmbedder {
  struct Stopped: Error {}
  let dimensions: Int
  private let callsLeft: Mutex<Int>

  init(dimensions: Int = 33, calls: Int = .max) {
    self.dimensions = dimensions
    callsLeft = Mutex(calls)
  }

  static func vector(_ text: String, _ dimensions: Int) -> [Float] {
    var random = SplitMix64(seed: text.utf8.reduce(7) { $0 &* 31 &+ UInt64($1) })
    return (0..<dimensions).map { _ in Float.random(in: -1...1, using: &random) }
  }

  func vectors(of texts: [String]) throws -> EmbeddedTexts {
    let left = callsLeft.withLock { left in
      left -= 1
      return left
    }
    guard left >= 0 else { throw Stopped() }
    let vectors = texts.flatMap { Self.vector($0, dimensions) }
    return EmbeddedTexts(
      vectors: AlignedBuffer(vectors), tokenCount: texts.count,
      truncatedCount: texts.count { $0.utf8.count > 20 })
  }
}

@Suite struct VectorIndexTests {
  private static func corpus(_ folder: TemporaryFolder, count: Int) throws -> CorpusFile {
    let path = folder.file("corpus.jsonl")
    var text = ""
    for i in 0..<count {
      // Every seventh is a copy of the first.
      let body = i % 7 == 0 ? "the same" : "passage \(i) \(String(repeating: "x", count: i % 11))"
      text +=
        #"{"_id": "d\#(i)", "title": "\#(i % 3 == 0 && i % 7 != 0 ? "Title" : "")", "text": "\#(body)"}"#
        + "\n"
      if i % 50 == 0 { text += "\n" }
    }
    try AtomicFile.write(text, to: path)
    return try CorpusFile(path: path)
  }

  private static func settings(_ type: VectorType, _ dimensions: Int = 33) -> IndexSettings {
    IndexSettings(dimensions: dimensions, vectorType: type, normalizes: true, maximumLength: 512)
  }

  private static func builder(
    _ output: String, _ corpus: CorpusFile, _ embedder: StandInEmbedder, _ type: VectorType = .fp32,
    model: String = "f", replacing: Bool = false
  ) -> VectorIndexBuilder {
    VectorIndexBuilder(
      output: output, corpus: corpus, embedder: embedder, settings: settings(type),
      model: IndexedModel(path: "/m", fingerprint: model), generator: "test", replacing: replacing)
  }

  private static func bytes(_ folder: String) throws -> [String: Data] {
    var files: [String: Data] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
      files[name] = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(name)"))
    }
    return files
  }

  // MARK: Making and searching

  @Test(arguments: VectorType.allCases, [1, 700, 1300]) func findsWhatAFullSortFinds(
    type: VectorType, count: Int
  )
    throws
  {
    let folder = try TemporaryFolder()
    let corpus = try Self.corpus(folder, count: count)
    let manifest = try Self.builder(folder.file("index"), corpus, StandInEmbedder(), type).build()
    #expect(manifest.passageCount == count)
    #expect(!FileManager.default.fileExists(atPath: folder.file("index.partial")))
    let index = try VectorIndex(path: folder.file("index"))
    #expect(try index.problems().isEmpty)
    #expect(index.manifest == manifest)
    let queries = (0..<3).flatMap { StandInEmbedder.vector("query \($0)", 33) }
    let buffer = AlignedBuffer(queries)
    let found = try index.search(buffer.pointer, queryCount: 3, top: 12)
    for query in 0..<3 {
      // In double precision, from the floats; coded vectors differ by their rounding.
      let exact = try (0..<count).map { row -> Double in
        let vector = StandInEmbedder.vector(try corpus.passage(row).embedded, 33)
        return zip(vector, queries[query * 33..<(query + 1) * 33]).reduce(0) {
          $0 + Double($1.0) * Double($1.1)
        }
      }
      #expect(found[query].count == min(12, count))
      for hit in found[query] {
        let tolerance = type == .fp32 ? 1e-5 : type == .fp16 ? 1e-2 : 0.15
        #expect(abs(Double(hit.score) - exact[hit.index]) < tolerance)
      }
      if type == .fp32 {
        let best = exact.sorted(by: >).prefix(12)
        for (hit, score) in zip(found[query], best) { #expect(abs(Double(hit.score) - score) < 1e-5) }
      }
      for (a, b) in zip(found[query], found[query].dropFirst()) {
        #expect(a.score > b.score || (a.score == b.score && a.index < b.index))
      }
    }
    let passage = try index.passage(count - 1)
    #expect(try passage == corpus.passage(count - 1))
  }

  @Test func equalScoresComeInTheOrderOfTheCorpusWhateverTheThreads() throws {
    let folder = try TemporaryFolder()
    let corpus = try Self.corpus(folder, count: 2000)
    _ = try Self.builder(folder.file("index"), corpus, StandInEmbedder()).build()
    let index = try VectorIndex(path: folder.file("index"))
    let query = AlignedBuffer(StandInEmbedder.vector("the same", 33))
    let expected = (0..<20).map { $0 * 7 }
    var scores: [[VectorIndex.Hit]] = []
    for threads in [1, 2, 5] {
      let hits = try index.search(query.pointer, queryCount: 1, top: 20, pool: WorkerPool(threads: threads))[
        0]
      #expect(hits.map(\.index) == expected)
      scores.append(hits)
    }
    #expect(scores[0] == scores[1] && scores[1] == scores[2])
    let other = AlignedBuffer(
      StandInEmbedder.vector("q", 33) + StandInEmbedder.vector("the same", 33))
    #expect(try index.search(other.pointer, queryCount: 2, top: 20)[1] == scores[0])
  }

  @Test func valuesThatAreNotFiniteAreErrors() throws {
    let folder = try TemporaryFolder()
    let corpus = try Self.corpus(folder, count: 100)
    _ = try Self.builder(folder.file("index"), corpus, StandInEmbedder()).build()
    let query = AlignedBuffer(StandInEmbedder.vector("q", 33))
    let path = folder.file("index") + "/embeddings.safetensors"
    var data = try Data(contentsOf: URL(fileURLWithPath: path))
    withUnsafeBytes(of: Float.nan) { data.replaceSubrange(data.count - 4..<data.count, with: $0) }
    try data.write(to: URL(fileURLWithPath: path))
    let index = try VectorIndex(path: folder.file("index"))
    #expect(throws: VectorIndexError.self) { try index.search(query.pointer, queryCount: 1, top: 3) }
    #expect(try !index.problems().isEmpty)
    query[3] = .nan
    #expect(throws: VectorIndexError(.queryNotFinite, path: index.path)) {
      try index.search(query.pointer, queryCount: 1, top: 3)
    }
  }

  // MARK: Going on

  @Test(arguments: [0, 1, 2]) func goesOnToTheSameBytes(calls: Int) throws {
    let folder = try TemporaryFolder()
    let corpus = try Self.corpus(folder, count: 1300)
    _ = try Self.builder(folder.file("whole"), corpus, StandInEmbedder(), .int8).build()
    let output = folder.file("index")
    #expect(throws: StandInEmbedder.Stopped.self) {
      try Self.builder(output, corpus, StandInEmbedder(calls: calls), .int8).build()
    }
    #expect(!FileManager.default.fileExists(atPath: output))
    #expect(VectorIndexBuilder.keptPassages(output: output) == calls * VectorIndexBuilder.chunk)
    if calls > 0 {
      // Another job does not go on from these chunks.
      #expect(throws: VectorIndexError.self) {
        try Self.builder(output, corpus, StandInEmbedder(), .int8, model: "other").build()
      }
    }
    _ = try Self.builder(output, corpus, StandInEmbedder(calls: 3 - calls), .int8).build()
    #expect(try Self.bytes(output) == Self.bytes(folder.file("whole")))
    #expect(!FileManager.default.fileExists(atPath: output + ".partial"))
  }

  @Test func replacesOnlyWhenAsked() throws {
    let folder = try TemporaryFolder()
    let corpus = try Self.corpus(folder, count: 20)
    let output = folder.file("index")
    _ = try Self.builder(output, corpus, StandInEmbedder()).build()
    #expect(throws: FileError(.cannotWrite, path: output, reason: .folderNotEmpty)) {
      try Self.builder(output, corpus, StandInEmbedder(calls: 0)).build()
    }
    _ = try Self.builder(output, corpus, StandInEmbedder(), .fp16, replacing: true).build()
    #expect(try VectorIndex(path: output).manifest.settings.vectorType == .fp16)
  }

  // MARK: Damage

  @Test func everyChangedByteIsSeen() throws {
    let folder = try TemporaryFolder()
    let corpus = try Self.corpus(folder, count: 9)
    let output = folder.file("index")
    _ = try Self.builder(output, corpus, StandInEmbedder(), .int8).build()
    var random = SplitMix64(seed: 360)
    for (name, original) in try Self.bytes(output) {
      for _ in 0..<60 {
        var changed = original
        let at = Int.random(in: 0..<changed.count, using: &random)
        changed[at] ^= UInt8.random(in: 1...255, using: &random)
        let path = "\(output)/\(name)"
        try FileManager.default.removeItem(atPath: path)
        try changed.write(to: URL(fileURLWithPath: path))
        let isSeen: Bool
        do {
          isSeen = try !VectorIndex(path: output).problems().isEmpty
        } catch {
          #expect(!"\(error)".isEmpty)
          isSeen = true
        }
        #expect(isSeen, "\(name), byte \(at)")
      }
      try FileManager.default.removeItem(atPath: "\(output)/\(name)")
      try original.write(to: URL(fileURLWithPath: "\(output)/\(name)"))
    }
    #expect(try VectorIndex(path: output).problems().isEmpty)
  }

  // MARK: Corpora

  @Test(
    arguments: [
      ("{\"_id\": \"a\", \"text\": \"x\"}\n{\"_id\": \"a\", \"text\": \"y\"}\n", "line 2"),
      ("\n\n{\"_id\": \"a\"}\n", "line 3"), ("{\"_id\": \"\", \"text\": \"x\"}\n", "line 1"),
      ("{\"_id\": \"a\", \"text\": 3}\n", "line 1"), ("{\"_id\": \"a\", \"text\": \"x\"\n", "line 1"),
      ("[]\n", "line 1"), ("", "no passage"), ("\n \r\n", "no passage"),
      ("{\"_id\": \"a\", \"title\": [], \"text\": \"x\"}", "title"),
      ("version https://git-lfs.github.com/spec/v1\n", "LFS"),
    ])
  func badCorporaAreRefusedWithTheirLine(text: String, expected: String) throws {
    let folder = try TemporaryFolder()
    let path = folder.file("c.jsonl")
    try AtomicFile.write(text, to: path)
    do {
      _ = try CorpusFile(path: path)
      Issue.record("accepted \(text)")
    } catch {
      #expect("\(error)".bytes.contains(expected), "\(error)")
      #expect("\(error)".bytes.contains(path))
    }
  }

  @Test func passagesAreJoinedAsBEIRJoinsThem() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("c.jsonl")
    try AtomicFile.write(
      #"{"_id": 7, "title": " A", "text": "b \u3000", "metadata": {"x": [1]}}"# + "\r\n"
        + #"{"_id": "e", "text": "only"}"#, to: path)
    let corpus = try CorpusFile(path: path)
    #expect(corpus.count == 2)
    #expect(try corpus.passage(0).id == "7")
    #expect(try corpus.passage(0).embedded == "A b")
    #expect(try corpus.passage(1).embedded == "only")
    #expect(corpus.emptyCount == 0)
  }

  @Test func promptsAreFoundByTheirRole() {
    var settings = EmbeddingSettings()
    #expect(settings.prompt(for: .query) == nil)
    settings.prompts = ["query": "Q: ", "passage": "P: ", "other": "O: "]
    #expect(settings.prompt(for: .query)?.text == "Q: ")
    #expect(settings.prompt(for: .passage)?.name == "passage")
    settings.prompts = ["other": "O: "]
    settings.defaultPromptName = "other"
    #expect(settings.prompt(for: .query)?.text == "O: ")
  }
}
