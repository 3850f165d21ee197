import Compute
import Contexts
import Files
import Foundation
import TestSupport
import Testing
import Transformer

@Suite struct SavedContextTests {
  static let identity = ContextIdentity(
    modelName: "m", fingerprint: "0f", arithmetic: "exact", encoding: "f32")

  /// A decoder, 80 tokens it read into a cache, and the file of the first 64 of them.
  struct Saved {
    let folder: TemporaryFolder
    let decoder: Decoder
    let tokens: [Int]
    let cache: KVCache
    var path: String { folder.file("a.zhctx") }

    init(_ type: KVCacheType, capacity: Int = 96, count: Int = 64) throws {
      folder = try TemporaryFolder()
      decoder = SyntheticModel(layout: .separate, heads: 4, kvHeads: 2).decoder()
      var random = SplitMix64(seed: 5)
      tokens = (0..<80).map { _ in Int.random(in: 0..<70, using: &random) }
      cache = decoder.makeCache(capacity: capacity, type: type)
      _ = decoder.hiddenStates(tokens, cache: cache)
      try SavedContextWriter.write(
        to: path, tokens: tokens[..<count], of: cache, planes: type.planes(decoder.configuration),
        identity: identity(type), generator: "test")
    }

    func identity(_ type: KVCacheType) -> ContextIdentity {
      var identity = SavedContextTests.identity
      identity.encoding = type.rawValue
      return identity
    }

    /// Logits of the rest of the tokens after what a cache holds.
    func logits(after cache: KVCache) -> [Float] {
      let rest = Array(tokens[cache.count...])
      let hidden = decoder.hiddenStates(rest, cache: cache)
      return decoder.logits(hidden, rows: rest.count - 1..<rest.count).array
    }
  }

  @Test(arguments: [KVCacheType.f32, .f16, .int8], [96, 5000])
  func aLoadedCacheContinuesWithTheSameBits(type: KVCacheType, capacity: Int) throws {
    let saved = try Saved(type, capacity: capacity)
    let context = try SavedContext(path: saved.path)
    try context.check(saved.identity(type), configuration: saved.decoder.configuration)
    #expect(context.tokens.map { Int($0) } == Array(saved.tokens[..<64]))
    #expect(context.commonPrefix(with: saved.tokens) == 64)
    #expect(context.commonPrefix(with: [saved.tokens[0], -1]) == 1)
    let plain = saved.decoder.makeCache(capacity: capacity, type: type)
    _ = saved.decoder.hiddenStates(Array(saved.tokens[..<64]), cache: plain)
    let expected = saved.logits(after: plain)
    for count in [64, 48, 16] {
      let cache = saved.decoder.makeCache(capacity: capacity, type: type)
      #expect(context.loadable(count + 15) == min(64, count))
      try context.load(count, into: cache)
      #expect(cache.count == count)
      #expect(saved.logits(after: cache) == expected, "\(count) tokens")
    }
    #expect(context.problems().isEmpty)
  }

  /// A 4-bit cache is saved in whole blocks. What is behind them is read again, and then nothing differs from a cache that was never
  /// saved, wherever the text ends, and whatever the cache held before.
  @Test(arguments: [AttentionArithmetic.exact, .fast], [640, 5000])
  func aFourBitCacheContinuesWithTheSameBits(attention: AttentionArithmetic, capacity: Int) throws {
    let folder = try TemporaryFolder()
    let decoder = SyntheticModel(layout: .separate, heads: 4, kvHeads: 2).decoder(attention: attention)
    let planes = KVCacheType.int4.planes(decoder.configuration)
    var random = SplitMix64(seed: 8)
    let text = (0..<600).map { _ in Int.random(in: 0..<70, using: &random) }
    var identity = Self.identity
    identity.encoding = "int4"
    func cache(_ tokens: ArraySlice<Int>) -> KVCache {
      let cache = decoder.makeCache(capacity: capacity, type: .int4)
      if !tokens.isEmpty { _ = decoder.hiddenStates(Array(tokens), cache: cache) }
      return cache
    }
    func states(_ tokens: ArraySlice<Int>, after cache: KVCache) -> [Float] {
      decoder.hiddenStates(Array(tokens), cache: cache).array
    }
    for count in [0, 1, 63, 64, 65, 127, 128, 129, 191, 192, 319, 320, 321, 383, 448, 500] {
      let saved = cache(text[..<count])
      let whole = planes.wholeTokens(count)
      #expect(whole == count / 64 * 64)
      // What a cache that went on has of the text's end.
      let width = decoder.configuration.hiddenSize
      let expected = states(text[count..<count + 90], after: saved)
      guard whole > 0 else { continue }
      let path = folder.file("\(count).zhctx")
      // It has more tokens by now, as in a server that writes while an answer is generated.
      try SavedContextWriter.write(
        to: path, tokens: text[..<whole], of: saved, planes: planes, identity: identity, generator: "test")
      let context = try SavedContext(path: path)
      try context.check(identity, configuration: decoder.configuration)
      #expect(context.problems().isEmpty)
      for used in [whole, 64] {
        let other = cache(text[100..<477])
        try context.load(used, into: other)
        #expect(other.count == used)
        let rest = states(text[used..<count + 90], after: other)
        #expect(Array(rest.suffix(90 * width)) == expected, "\(count) tokens, \(used) loaded")
        // Going back to where the file ends, into it, and into its first block.
        for place in [used, used - 1, used - 64, 40] where place >= 0 {
          try context.load(used, into: other)
          other.truncate(to: place)
          #expect(place - other.count <= 63)
          let again = states(text[other.count..<count + 90], after: other)
          #expect(
            Array(again.suffix(90 * width)) == expected, "\(count) tokens, \(used) loaded, back to \(place)")
        }
      }
    }
  }

  /// Large planes are mapped; what is written behind them, and over them, does not reach the file.
  @Test(arguments: KVCacheType.allCases)
  func pagesOfTheFileAreNotChanged(type: KVCacheType) throws {
    let folder = try TemporaryFolder()
    let decoder = SyntheticModel(layout: .separate, heads: 4, kvHeads: 4).decoder()
    var random = SplitMix64(seed: 6)
    let tokens = (0..<8200).map { _ in Int.random(in: 0..<70, using: &random) }
    let cache = decoder.makeCache(capacity: 20_000, type: type)
    for start in stride(from: 0, to: 8192, by: 512) {
      _ = decoder.hiddenStates(Array(tokens[start..<start + 512]), cache: cache)
    }
    let path = folder.file("a.zhctx")
    var identity = Self.identity
    identity.encoding = type.rawValue
    try SavedContextWriter.write(
      to: path, tokens: tokens[..<8192], of: cache, planes: type.planes(decoder.configuration),
      identity: identity, generator: "test")
    let before = try Checksum.sha256(ofFile: path)
    let context = try SavedContext(path: path)
    let other = decoder.makeCache(capacity: 20_000, type: type)
    try context.load(8192, into: other)
    #expect(!other.companions.isEmpty, "nothing was mapped")
    let rest = Array(tokens[8192...])
    let expected = decoder.hiddenStates(rest, cache: cache).array
    #expect(decoder.hiddenStates(rest, cache: other).array == expected)
    // Other tokens over the mapped ones.
    other.truncate(to: 100)
    _ = decoder.hiddenStates(Array(tokens[..<512].reversed()), cache: other)
    #expect(try Checksum.sha256(ofFile: path) == before)
    // Loaded again, also after the file has lost its name.
    try FileManager.default.removeItem(atPath: path)
    try context.load(8192, into: other)
    #expect(decoder.hiddenStates(rest, cache: other).array == expected)
  }

  @Test func theSameContextGivesTheSameBytes() throws {
    let saved = try Saved(.int8)
    let again = saved.folder.file("b.zhctx")
    try SavedContextWriter.write(
      to: again, tokens: saved.tokens[..<64], of: saved.cache,
      planes: KVCacheType.int8.planes(saved.decoder.configuration), identity: saved.identity(.int8),
      generator: "test")
    #expect(try Checksum.sha256(ofFile: again) == Checksum.sha256(ofFile: saved.path))
  }

  @Test func aCancelledFileLeavesNothing() throws {
    let saved = try Saved(.f32)
    let other = saved.folder.file("c.zhctx")
    let bytes = try SavedContextWriter.write(
      to: other, tokens: saved.tokens[..<64], of: saved.cache,
      planes: KVCacheType.f32.planes(saved.decoder.configuration), identity: saved.identity(.f32),
      generator: "test", isCancelled: { true })
    #expect(bytes == nil)
    #expect(try FileManager.default.contentsOfDirectory(atPath: saved.folder.path) == ["a.zhctx"])
  }

  // MARK: What does not fit

  @Test func misfitsAreNamed() throws {
    let saved = try Saved(.f32)
    let context = try SavedContext(path: saved.path)
    func reason(_ change: (inout ContextIdentity) -> Void) throws -> SavedContextError.Reason? {
      var identity = Self.identity
      change(&identity)
      do {
        try context.check(identity, configuration: saved.decoder.configuration)
        return nil
      } catch let error as SavedContextError {
        #expect(error.isMisfit && "\(error)".hasPrefix(saved.path))
        return error.reason
      }
    }
    #expect(try reason { _ in } == nil)
    #expect(try reason { $0.modelName = "n" } == nil)
    #expect(try reason { ($0.modelName, $0.fingerprint) = ("n", "0e") } == .otherModel(saved: "m", used: "n"))
    #expect(try reason { $0.arithmetic = "fast" } == .otherArithmetic(saved: "exact", used: "fast"))
    #expect(try reason { $0.encoding = "f16" } == .otherEncoding(saved: "f32", used: "f16"))
    #expect(
      try reason { $0.adapters = [.init(digest: "a", factor: 1)] } == .otherAdapters(saved: 0, used: 1))
    let revision = ArithmeticRevision.current
    #expect(try reason { $0.revision += 1 } == .otherRevision(saved: revision, used: revision + 1))
    var other = SyntheticModel(layout: .separate, heads: 4, kvHeads: 4).decoder().configuration
    #expect(throws: SavedContextError(.otherPlanes, path: saved.path)) {
      try context.check(Self.identity, configuration: other)
    }
    other = saved.decoder.configuration
    #expect(throws: Never.self) { try context.check(Self.identity, configuration: other) }
  }

  // MARK: Damage

  /// Reads a changed copy to its end.
  private func firstProblem(_ bytes: [UInt8], _ saved: Saved) throws -> SavedContextError.Reason? {
    let path = saved.folder.file("changed.zhctx")
    // Another file each time: a mapped one must not change.
    try? FileManager.default.removeItem(atPath: path)
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    do {
      return try SavedContext(path: path).problems().first?.reason
    } catch let error as SavedContextError {
      return error.reason
    }
  }

  /// Every byte counts: whichever changes, reading it in full says so.
  @Test(arguments: [(KVCacheType.int8, 16), (.int4, 64)])
  func everyChangedByteIsSeen(type: KVCacheType, count: Int) throws {
    let saved = try Saved(type, count: count)
    let good = Array(try Fixture.contents(saved.path))
    #expect(try firstProblem(good, saved) == nil)
    var random = SplitMix64(seed: 7)
    let places = Set(0..<400).union((0..<400).map { _ in Int.random(in: 0..<good.count, using: &random) })
    for place in places {
      var bad = good
      bad[place] ^= UInt8.random(in: 1...255, using: &random)
      #expect(try firstProblem(bad, saved) != nil, "byte \(place)")
    }
  }

  @Test func theRuleThatIsBrokenIsNamed() throws {
    let saved = try Saved(.f32)
    let good = Array(try Fixture.contents(saved.path))
    func reason(_ change: (inout [UInt8]) -> Void) throws -> SavedContextError.Reason? {
      var bytes = good
      change(&bytes)
      return try firstProblem(bytes, saved)
    }
    #expect(try reason { $0 = Array("hello, world".utf8) } == .notAContext)
    #expect(try reason { $0 = [] } == .notAContext)
    #expect(try reason { $0[4] = 0x0A } == .textModeDamage)
    #expect(try reason { $0 = Array($0[..<32]) } == .truncatedPreamble(byteCount: 32))
    #expect(try reason { $0[9] = 1 } == .preambleChecksum)
    #expect(try reason { $0[40] = 1 } == .reservedBytes)
    #expect(
      try reason { $0.removeLast() }
        == .lengthMismatch(found: good.count - 1, declared: UInt64(good.count)))
    #expect(try reason { $0[70] ^= 1 } == .headerChecksum)
    #expect(try reason { $0[4096] ^= 1 } == .sectionChecksum("tokens"))
    #expect(try reason { $0[8192] ^= 1 } == .sectionChecksum("checksums"))
    #expect(try reason { $0[5000] = 1 } == .paddingNotZero(byteOffset: 5000))
    #expect(try reason { $0[12288] ^= 1 } == .blockDamaged(block: 0, byteOffset: 12288))
    #expect(
      try reason { SavedContextTests.seal(&$0) { $0[8] = 2 } }
        == .unknownVersion(major: 2, minor: 0, read: 1))
    #expect(try reason { SavedContextTests.seal(&$0) { $0[12] = 0 } } == .headerLength(0x0F00))
  }

  /// Headers with right checksums that say what is not so.
  @Test(arguments: [
    ("\"layers\":2", "\"layers\":3"), ("\"layers\":2", "\"layers\":0"),
    ("arithmetic_revision\":1", "arithmetic_revision\":0"),
    ("arithmetic_revision", "arithmetic_division"), ("\"tokens\":64", "\"tokens\":63"),
    ("\"tokens\":64", "\"tokens\":-1"), ("\"tokens\":64", "\"tokens\":1e18"),
    ("\"unit_tokens\":16", "\"unit_tokens\":-1"),
    ("\"count\":2", "\"count\":65537"),
    ("\"count\":2", "\"count\":65536"), ("\"unit_bytes\":", "\"unit_bytes\":9"),
    ("\"block_bytes\":1048576", "\"block_bytes\":1"), ("zhinao-context", "zhinao-contort"),
    ("\"adapters\":[]", "\"adapters\":[1]"), ("\"planes\":[", "\"planes\":7,\"x\":["), ("{", "["),
  ])
  func hostileHeadersAreRefused(text: String, replacement: String) throws {
    let saved = try Saved(.f32)
    var bytes = Array(try Fixture.contents(saved.path))
    let header = String(decoding: bytes[64..<4096], as: UTF8.self)
    #expect(header.contains(text))
    let range = try #require(header.range(of: text))
    let changed = header.replacingCharacters(in: range, with: replacement)
    let kept = Array(changed.utf8.prefix(4032))
    bytes.replaceSubrange(64..<4096, with: kept + [UInt8](repeating: 32, count: 4032 - kept.count))
    Self.seal(&bytes) { _ in }
    let reason = try #require(try firstProblem(bytes, saved))
    switch reason {
    case .badHeader, .sizeMismatch: break
    default: Issue.record("\(reason)")
    }
  }

  /// Makes the checksums of preamble and header right after a change.
  static func seal(_ bytes: inout [UInt8], _ change: (inout [UInt8]) -> Void) {
    change(&bytes)
    func put(_ value: UInt32, at offset: Int) {
      withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(offset..<offset + 4, with: $0) }
    }
    put(bytes[64..<4096].withUnsafeBytes { Checksum.crc32($0) }, at: 24)
    put(bytes[0..<28].withUnsafeBytes { Checksum.crc32($0) }, at: 28)
  }
}

extension Fixture {
  static func contents(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }
}
