import Contexts
import Files
import Foundation
import Synchronization
import TestSupport
import Testing
import Transformer

@Suite struct ContextFolderTests {
  final class Log: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
    func count(_ text: String) -> Int { all.count { $0.contains(text) } }
  }

  static let identity = SavedContextTests.identity
  let decoder = SyntheticModel(layout: .separate, heads: 4, kvHeads: 2).decoder()

  private func cache(_ tokens: [Int]) -> KVCache {
    let cache = decoder.makeCache(capacity: tokens.count, type: .f32)
    _ = decoder.hiddenStates(tokens, cache: cache)
    return cache
  }

  private func save(_ tokens: [Int], in folder: ContextFolder, as identity: ContextIdentity = identity) {
    folder.save(
      tokens, of: cache(tokens), planes: KVCacheType.f32.planes(decoder.configuration), identity: identity,
      generator: "test", isCancelled: { false }, copied: {})
  }

  private func tokens(_ seed: UInt64, _ count: Int = 32) -> [Int] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int.random(in: 0..<70, using: &random) }
  }

  private func files(_ folder: TemporaryFolder) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
  }

  @Test func theLongestCommonBeginningIsFoundAlsoAfterARestart() throws {
    let place = try TemporaryFolder()
    let log = Log()
    let folder = try ContextFolder(path: place.path, limitBytes: 1 << 30, log: log.add)
    let long = tokens(1, 64)
    save(Array(long[..<32]), in: folder)
    save(tokens(2), in: folder)
    #expect(folder.longestPrefix(of: long[...], identity: Self.identity)?.count == 32)
    // The longer one serves all that begin with the shorter.
    save(long, in: folder)
    #expect(folder.statistics.files == 2 && folder.statistics.saved == 3)
    #expect(try files(place).count == 2)
    for folder in [folder, try ContextFolder(path: place.path, limitBytes: 1 << 30, log: log.add)] {
      #expect(folder.longestPrefix(of: (long + [1])[...], identity: Self.identity)?.count == 64)
      #expect(folder.longestPrefix(of: (long[..<20] + [-1])[...], identity: Self.identity)?.count == 20)
      var other = Self.identity
      other.arithmetic = "fast"
      #expect(folder.longestPrefix(of: long[...], identity: other) == nil)
      #expect(folder.statistics.files == 2)
    }
  }

  @Test func whatWasUsedLeastRecentlyGoesFirst() throws {
    let place = try TemporaryFolder()
    let log = Log()
    var folder = try ContextFolder(path: place.path, limitBytes: 1 << 30, log: log.add)
    save(tokens(1), in: folder)
    let size = folder.statistics.bytes
    folder = try ContextFolder(path: place.path, limitBytes: 3 * size, log: log.add)
    for seed in [2, 3] as [UInt64] { save(tokens(seed), in: folder) }
    let first = try #require(folder.longestPrefix(of: tokens(1)[...], identity: Self.identity))
    // Times of files have a resolution.
    Thread.sleep(forTimeInterval: 0.05)
    folder.used(first.path, tokens: first.count)
    save(tokens(4), in: folder)
    func held(_ folder: ContextFolder) -> [UInt64] {
      [1, 2, 3, 4].filter {
        folder.longestPrefix(of: tokens($0)[...], identity: Self.identity)?.count ?? 0 > 8
      }
    }
    #expect(held(folder) == [1, 3, 4])
    #expect(folder.statistics.evicted == 1 && folder.statistics.hits == 1)
    #expect(log.count("is removed: it was used least recently") == 1)
    // A smaller limit at the next start keeps what was used last.
    folder = try ContextFolder(path: place.path, limitBytes: 2 * size, log: log.add)
    #expect(held(folder) == [1, 4])
    #expect(try files(place).count == 2)
    // What is larger than the limit is not written.
    folder = try ContextFolder(path: place.path, limitBytes: size / 2, log: log.add)
    #expect(try files(place).isEmpty)
    save(tokens(5), in: folder)
    #expect(try files(place).isEmpty && log.count("more than --context-cache-limit") == 1)
  }

  @Test func damagedAndForeignFilesAreNamedAndSkipped() throws {
    let place = try TemporaryFolder()
    let log = Log()
    var folder = try ContextFolder(path: place.path, limitBytes: 1 << 30, log: log.add)
    save(tokens(1), in: folder)
    var stranger = Self.identity
    (stranger.modelName, stranger.fingerprint) = ("other", "ff")
    save(tokens(2), in: folder, as: stranger)
    try AtomicFile.write("no context", to: place.file("x.zhctx"))
    try AtomicFile.write("notes", to: place.file("notes.txt"))
    folder = try ContextFolder(path: place.path, limitBytes: 1 << 30, log: log.add)
    #expect(log.count("x.zhctx: is not a saved context; the file is skipped") == 1)
    folder.reportStrangers(beside: [Self.identity])
    #expect(log.count("was computed with another model (other), not with m") == 1)
    #expect(folder.statistics.files == 2 && folder.statistics.skipped == 1)
    // Damage of keys and values shows when they are used.
    let path = try #require(folder.longestPrefix(of: tokens(1)[...], identity: Self.identity)).path
    var bytes = Array(try Fixture.contents(path))
    bytes[bytes.count - 1] ^= 1
    bytes[12288] ^= 1
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    let context = try SavedContext(path: path)
    let cache = decoder.makeCache(capacity: 64, type: .f32)
    do {
      try context.load(32, into: cache)
      Issue.record("a damaged block was used")
    } catch {
      folder.drop(path, because: error)
    }
    #expect(cache.count == 0)
    #expect(folder.longestPrefix(of: tokens(1)[...], identity: Self.identity) == nil)
    #expect(log.count("block 0 of keys and values") == 1)
    #expect(try files(place).count == 3)
  }

  @Test func onlyWhatIsWorthItIsSaved() throws {
    let place = try TemporaryFolder()
    let folder = try ContextFolder(path: place.path, limitBytes: 1 << 30) { _ in }
    let long = tokens(3, 4096)
    #expect(!folder.wants(long[..<511], identity: Self.identity))
    #expect(folder.wants(long[..<512], identity: Self.identity))
    save(Array(long[..<2048]), in: folder)
    #expect(!folder.wants(long[..<2560], identity: Self.identity))
    #expect(folder.wants(long[..<2736], identity: Self.identity))
  }
}
