import Contexts
import Foundation
import Generation
import Models
import Synchronization
import TestSupport
import Testing
import Tokenization
import Transformer

/// Engines with a folder of saved contexts.
@Suite struct SavedPrefixTests {
  final class Log: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    func count(_ text: String) -> Int { lines.withLock { $0.count { $0.contains(text) } } }
  }

  let decoder: Decoder
  let tokenizer: any Tokenizer

  init() throws {
    let model = try OpenedModel(path: Fixture.tinyZhinao)
    decoder = try model.decoder()
    tokenizer = try model.tokenizer()
  }

  private func engine(_ folder: ContextFolder?, caches: Int = 2) -> GenerationEngine {
    let saved = folder.map {
      SavedPrefixes(
        folder: $0,
        identities: [ContextIdentity(modelName: "m", fingerprint: "f", arithmetic: "exact", encoding: "f16")],
        configuration: decoder.configuration, type: .f16, generator: "test")
    }
    return GenerationEngine(
      model: decoder, tokenizer: tokenizer,
      limits: SchedulerLimits(
        parallel: caches, queue: 100, contextLimit: 1500, budgetTokens: 1500 * caches, caches: caches),
      cacheType: .f16, saved: saved)
  }

  private func document(_ seed: UInt64, _ count: Int) -> [Int] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int.random(in: 0..<2900, using: &random) }
  }

  private func ask(_ engine: GenerationEngine, _ prompts: [[Int]]) async throws -> [Outcome] {
    let tickets = try prompts.map {
      try engine.submit([GenerationRequest(prompt: $0, maximumNewTokens: 12)])
    }
    var outcomes: [Outcome] = []
    for ticket in tickets { outcomes += await ticket.outcomes() }
    return outcomes
  }

  /// Waits until what is being written is there, and takes no more requests.
  private func stop(_ engine: GenerationEngine) {
    engine.saved?.finish()
    engine.drain(until: .now + .seconds(60))
  }

  @Test func aPrefixIsReadOnceAlsoAfterARestart() async throws {
    let place = try TemporaryFolder()
    let log = Log()
    let text = document(1, 700)
    let plain = try await ask(engine(nil), [text + [7, 8], text + [9], Array(text[..<600]) + [3, 3, 3]])
    var folder = try ContextFolder(path: place.path, limitBytes: 1 << 30, log: log.add)
    let first = engine(folder)
    let one = try await ask(first, [text + [7, 8]])
    #expect(one[0].tokens == plain[0].tokens && one[0].summary?.reusedTokens == 0)
    stop(first)
    #expect(folder.statistics.saved == 1 && log.count("688 tokens saved to") == 1)

    folder = try ContextFolder(path: place.path, limitBytes: 1 << 30, log: log.add)
    let second = engine(folder)
    // Two begin with the file; one that waits for a cache may find even more in it.
    let rest = try await ask(second, [text + [9], text + [7, 8], Array(text[..<600]) + [3, 3, 3]])
    #expect(rest.map(\.tokens) == [1, 0, 2].map { plain[$0].tokens })
    let reused = rest.map { $0.summary?.reusedTokens ?? 0 }
    #expect(reused[0] == 688 && reused[1] >= 688 && reused[2] >= 592, "\(reused)")
    #expect(folder.statistics.hits > 0 && folder.statistics.loadedTokens >= 688)
    // Nothing new was worth a file.
    stop(second)
    #expect(folder.statistics.saved == 0 && folder.statistics.files == 1)
  }

  @Test func aDamagedFileIsReadAgain() async throws {
    let place = try TemporaryFolder()
    let log = Log()
    let text = document(2, 600)
    var folder = try ContextFolder(path: place.path, limitBytes: 1 << 30, log: log.add)
    let first = engine(folder)
    let expected = try await ask(first, [text])
    stop(first)
    let name = try #require(
      FileManager.default.contentsOfDirectory(atPath: place.path).first { $0.hasSuffix(".zhctx") })
    var bytes = try Data(contentsOf: URL(fileURLWithPath: place.file(name)))
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: URL(fileURLWithPath: place.file(name)))
    folder = try ContextFolder(path: place.path, limitBytes: 1 << 30, log: log.add)
    let second = engine(folder)
    let again = try await ask(second, [text])
    #expect(again[0].tokens == expected[0].tokens && again[0].summary?.reusedTokens == 0)
    #expect(log.count("differs from its checksum") == 1 && folder.statistics.skipped == 1)
    stop(second)
  }

  /// Caches change hands while their beginnings are being written; no file has tokens of one text with keys of another.
  @Test func filesHoldWhatTheySayUnderLoad() async throws {
    let place = try TemporaryFolder()
    let folder = try ContextFolder(path: place.path, limitBytes: 1 << 30) { _ in }
    let busy = engine(folder, caches: 1)
    let texts = (10..<18).map { document($0, 560) }
    let expected = try await ask(engine(nil, caches: 1), texts)
    #expect(try await ask(busy, texts + texts).map(\.tokens) == (expected + expected).map(\.tokens))
    stop(busy)
    let reopened = try ContextFolder(path: place.path, limitBytes: 1 << 30) { _ in }
    #expect(reopened.statistics.files > 0 && reopened.statistics.skipped == 0)
    #expect(try await ask(engine(reopened, caches: 1), texts).map(\.tokens) == expected.map(\.tokens))
    #expect(reopened.statistics.hits > 0)
  }

  // MARK: Plans

  @Test func aPromptsTimeIsTheSumOverItsTokens() {
    let speed = PromptSpeed(secondsPerToken: 0.01, secondsPerPair: 1e-6)
    #expect(abs(speed.seconds(0..<1000) - (10 + 0.5)) < 1e-9)
    let parts = speed.seconds(0..<300) + speed.seconds(300..<1000)
    #expect(abs(parts - speed.seconds(0..<1000)) < 1e-9)
    #expect(speed.seconds(5..<5) == 0)
  }

  @Test func measuringLeavesNothingBehind() {
    let tokens = document(4, 1200)
    let speed = PromptSpeed.measured(decoder, tokens: tokens, type: .f16)
    #expect(speed.secondsPerToken > 0 && speed.secondsPerPair >= 0)
    #expect(speed.seconds(0..<1200).isFinite)
  }
}
