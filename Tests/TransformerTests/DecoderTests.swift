import Architecture
import Compute
import Foundation
import JSON
import TestSupport
import Testing
import Transformer

@Suite struct DecoderTests {
  static func tokens(_ count: Int, seed: UInt64 = 3) -> [Int] {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int.random(in: 0..<70, using: &generator) }
  }

  static func logits(_ decoder: Decoder, _ tokens: [Int], _ type: KVCacheType = .f32) -> [Float] {
    let hidden = decoder.hiddenStates(windows: [tokens], cacheType: type)
    return decoder.logits(hidden, rows: 0..<tokens.count).array
  }

  @Test(arguments: [
    (DecoderConfiguration.QKVLayout.interleaved, 4, 4), (.interleaved, 4, 2), (.separate, 6, 3),
    (.separate, 3, 1),
  ])
  func matchesTheDoublePrecisionReference(layout: DecoderConfiguration.QKVLayout, heads: Int, kvHeads: Int) {
    let model = SyntheticModel(layout: layout, heads: heads, kvHeads: kvHeads)
    let tokens = DecoderTests.tokens(41)
    let expected = model.referenceLogits(tokens).flatMap { $0 }
    let found = DecoderTests.logits(model.decoder(), tokens)
    let worst = zip(expected, found).map { abs($0 - Double($1)) }.max()!
    let largest = expected.map { abs($0) }.max()!
    #expect(worst <= largest * 2e-6, "largest difference \(worst), largest logit \(largest)")
  }

  /// Scores are computed in blocks of 48 x 512: a sequence over several blocks, with a head that fills no panel.
  @Test func longSequencesCrossBlocksCorrectly() {
    let model = SyntheticModel(layout: .separate, heads: 2, kvHeads: 1, headDim: 24, seed: 5)
    let tokens = DecoderTests.tokens(530)
    let expected = model.referenceLogits(tokens)
    let found = DecoderTests.logits(model.decoder(), tokens)
    for row in [0, 31, 32, 511, 512, 529] {
      let worst = (0..<70).map { abs(expected[row][$0] - Double(found[row * 70 + $0])) }.max()!
      #expect(worst < 5e-5, "row \(row): \(worst)")
    }
  }

  /// One token at a time, in pieces, beside other sequences, as panels or rows, on any number of threads: the same bits.
  @Test(arguments: KVCacheType.allCases, [AttentionArithmetic.exact, .fast])
  func everyWayOfRunningGivesTheSameBits(type: KVCacheType, attention: AttentionArithmetic) {
    let model = SyntheticModel(layout: .interleaved, heads: 4, kvHeads: 2)
    let tokens = DecoderTests.tokens(70)
    let whole = DecoderTests.logits(model.decoder(attention: attention), tokens, type)
    for threads in 1...3 {
      let decoder = model.decoder(panels: true, attention: attention, pool: WorkerPool(threads: threads))
      #expect(DecoderTests.logits(decoder, tokens, type) == whole)
      for pieces in [[70], [33, 37], [1, 32, 1, 36], [3, 5, 2, 8, 52], Array(repeating: 1, count: 70)] {
        let cache = decoder.makeCache(capacity: 70, type: type)
        var found: [Float] = []
        var at = 0
        for piece in pieces {
          let hidden = decoder.hiddenStates(Array(tokens[at..<at + piece]), cache: cache)
          found += decoder.logits(hidden, rows: 0..<piece).array
          at += piece
        }
        #expect(found == whole)
      }
      let other = DecoderTests.tokens(19, seed: 9)
      let hidden = decoder.hiddenStates(windows: [other, tokens, other], cacheType: type)
      #expect(decoder.logits(hidden, rows: 19..<89).array == whole)
    }
  }

  /// Blocks of keys in 4 bits: pieces that end within a block, at its end and beyond the tokens kept in half precision; single
  /// tokens; a cache that was copied; and one that was cut off, near its end and far before it.
  @Test(arguments: [AttentionArithmetic.exact, .fast])
  func blocksOfCodesDependOnPositionsAlone(attention: AttentionArithmetic) {
    let model = SyntheticModel(layout: .separate, heads: 4, kvHeads: 2, headDim: 20)
    let tokens = DecoderTests.tokens(700)
    let decoder = model.decoder(attention: attention, pool: WorkerPool(threads: 2))
    let whole = DecoderTests.logits(decoder, tokens, .int4)
    #expect(whole != DecoderTests.logits(decoder, tokens, .f16))
    func continued(_ cache: KVCache, _ pieces: [Int]) {
      for piece in pieces {
        let at = cache.count
        let hidden = decoder.hiddenStates(Array(tokens[at..<at + piece]), cache: cache)
        let found = decoder.logits(hidden, rows: 0..<piece).array
        #expect(found == Array(whole[at * 70..<(at + piece) * 70]), "\(piece) tokens from \(at) on")
      }
    }
    for pieces in [
      [64, 64, 572], [1, 200, 55, 300, 144], [63, 1, 1, 63, 572], [400] + Array(repeating: 1, count: 300),
    ] {
      continued(decoder.makeCache(capacity: 700, type: .int4), pieces)
    }
    let cache = decoder.makeCache(capacity: 700, type: .int4)
    continued(cache, [523])
    let copy = cache.copy(configuration: model.configuration, capacity: 690, pool: decoder.steps.pool)
    continued(copy, [5, 1, 40])
    // Of the blocks of positions 300 and 200 only codes are left; those of 470 and 400 are there as they were, and so is the
    // first one.
    for (length, left) in [(470, 470), (400, 400), (300, 256), (200, 192), (20, 20)] {
      cache.truncate(to: length)
      #expect(cache.count == left)
      continued(cache, [3, 1, 100])
      cache.truncate(to: left)
      continued(cache, [523 - left])
    }
    let prefix = decoder.makeCache(capacity: 300, type: .int4)
    _ = decoder.hiddenStates(Array(tokens[..<270]), cache: prefix)
    let states = decoder.hiddenStates([
      (Array(tokens[270..<420]), prefix), (Array(tokens[270..<290]), prefix),
    ])
    #expect(decoder.logits(states, rows: 0..<150).array == Array(whole[270 * 70..<420 * 70]))
    #expect(decoder.logits(states, rows: 150..<170).array == Array(whole[270 * 70..<290 * 70]))
  }

  /// bf16 keeps 8 bits of queries, keys, probabilities and values.
  @Test func fastAttentionIsNearExact() {
    let model = SyntheticModel(layout: .separate, heads: 6, kvHeads: 2, headDim: 24, seed: 5)
    let tokens = DecoderTests.tokens(530)
    let exact = DecoderTests.logits(model.decoder(), tokens)
    let fast = DecoderTests.logits(model.decoder(attention: .fast), tokens)
    let largest = exact.map { abs($0) }.max()!
    let worst = zip(exact, fast).map { abs($0 - $1) }.max()!
    #expect(worst > 0 && worst < largest * 1e-2, "largest difference \(worst) of \(largest)")
  }

  /// Tokens far enough on that threads share their attention: one head of keys for all queries, whose queries are cut among
  /// threads, and fewer or more heads of keys than threads.
  @Test(arguments: [(1, KVCacheType.f16), (1, .int8), (2, .f32), (3, .f16), (2, .int4)])
  func queriesThatShareKeysGiveTheSameBitsOnAnyNumberOfThreads(kvHeads: Int, type: KVCacheType) {
    let model = SyntheticModel(layout: .separate, heads: 6, kvHeads: kvHeads, headDim: 64)
    let tokens = DecoderTests.tokens(523)
    let whole = Array(DecoderTests.logits(model.decoder(), tokens, type)[(520 * 70)...])
    for threads in [1, 2, 3, 4, 8] {
      let decoder = model.decoder(pool: WorkerPool(threads: threads))
      let cache = decoder.makeCache(capacity: 523, type: type)
      _ = decoder.hiddenStates(Array(tokens[..<520]), cache: cache)
      let found = tokens[520...].flatMap { token in
        let hidden = decoder.hiddenStates([token], cache: cache)
        return decoder.logits(hidden, rows: 0..<1).array
      }
      #expect(found == whole, "\(threads) threads")
    }
  }

  /// A prompt in blocks of queries and keys, then single tokens whose queries share keys: the same bits on every instruction
  /// set, in one process.
  @Test(arguments: KVCacheType.allCases)
  func everyInstructionSetGivesTheSameBits(type: KVCacheType) throws {
    let model = SyntheticModel(layout: .separate, heads: 6, kvHeads: 2, headDim: 24)
    let tokens = DecoderTests.tokens(523)
    func logits(_ isa: InstructionSet, panels: Bool) throws -> [Float] {
      let pool = WorkerPool(threads: 2, kernels: try #require(Kernels(for: isa)))
      let decoder = model.decoder(panels: panels, pool: pool)
      let cache = decoder.makeCache(capacity: 523, type: type)
      let prompt = decoder.hiddenStates(Array(tokens[..<520]), cache: cache)
      return decoder.logits(prompt, rows: 0..<520).array
        + tokens[520...].flatMap { token in
          decoder.logits(decoder.hiddenStates([token], cache: cache), rows: 0..<1).array
        }
    }
    let expected = try logits(.scalar, panels: false).map(\.bitPattern)
    for isa in InstructionSet.runnable {
      for panels in [false, true] {
        #expect(try logits(isa, panels: panels).map(\.bitPattern) == expected, "\(isa)")
      }
    }
  }

  /// Half precision keeps 11 bits of keys and values, bytes 7 of the largest in a head; heads that fill no panel, and a
  /// sequence over several blocks of keys.
  @Test(arguments: [(KVCacheType.f16, 1.5e-3, 2), (.int8, 3e-2, 1), (.int4, 0.2, 0)])
  func narrowCachesAreNearAndSmall(type: KVCacheType, tolerance: Double, bytesPerElement: Int) {
    let model = SyntheticModel(layout: .separate, heads: 2, kvHeads: 1, headDim: 24, seed: 5)
    let tokens = DecoderTests.tokens(530)
    let decoder = model.decoder()
    let exact = DecoderTests.logits(decoder, tokens)
    let found = DecoderTests.logits(decoder, tokens, type)
    let largest = Double(exact.map { abs($0) }.max()!)
    let worst = zip(exact, found).map { Double(abs($0 - $1)) }.max()!
    #expect(worst > 0 && worst < largest * tolerance, "largest difference \(worst) of \(largest)")
    let c = decoder.configuration
    guard type != .int4 else {
      // Half a byte an element, two bytes for each of a key's scales and minima in a block and for those of each value; and five
      // blocks in half precision.
      let block = 64 * (24 + 32) / 2 + 2 * 2 * 24 + 2 * 2 * 64
      #expect(
        KVCache.byteCount(configuration: c, capacity: 640, type: type)
          == c.layerCount * (10 * block + 5 * 64 * (24 + 32) * 2))
      return
    }
    let bytes = KVCache.byteCount(configuration: c, capacity: 64, type: type)
    #expect(bytes == c.layerCount * 64 * ((24 + 32) * bytesPerElement + (type == .int8 ? 8 : 0)))
  }

  @Test func truncatedCacheContinuesAsIfTheRestHadNeverBeen() {
    let model = SyntheticModel(layout: .separate, heads: 3, kvHeads: 3)
    let decoder = model.decoder()
    let tokens = DecoderTests.tokens(40)
    let cache = decoder.makeCache(capacity: 64)
    _ = decoder.hiddenStates(Array(tokens[..<20]) + DecoderTests.tokens(17, seed: 8), cache: cache)
    cache.truncate(to: 20)
    let hidden = decoder.hiddenStates(Array(tokens[20...]), cache: cache)
    let whole = DecoderTests.logits(decoder, tokens)
    #expect(decoder.logits(hidden, rows: 0..<20).array == Array(whole[(20 * 70)...]))
  }
}

@Suite struct RotaryEmbeddingTests {
  /// `golden/rotary.json`: 50 digits, at positions up to 360,000, for the bases of the family.
  @Test func anglesAreExactAtEveryPosition() throws {
    let golden = try JSONValue.parse(Array(Fixture.data("golden/rotary.json")))
    let width = try #require(golden["rotary_dim"]?.intValue)
    let pairs = try #require(golden["pairs"]?.arrayValue).compactMap(\.intValue)
    let cases = try #require(golden["cases"]?.arrayValue)
    #expect(cases.count == 39 && pairs.count == 12)
    var largest: Float = 0
    var embeddings: [Double: RotaryEmbedding] = [:]
    for one in cases {
      let theta = try #require(one["theta"]?.doubleValue)
      let position = try #require(one["position"]?.intValue)
      let rotary =
        embeddings[theta] ?? RotaryEmbedding(RotaryParameters(theta: theta, rotaryDim: width))
      embeddings[theta] = rotary
      rotary.prepare(position..<position + 1)
      let (cosines, sines) = rotary.angles(at: position)
      for (name, found) in [("cosines", cosines), ("sines", sines)] {
        let expected = try #require(one[name]?.arrayValue).compactMap(\.doubleValue)
        for (pair, reference) in zip(pairs, expected) {
          // Rounded to the nearest: half a unit in the last place, and the rounding of the double before it.
          let error = Float(abs(Double(found[pair]) - reference) / Double(Float(reference).ulp))
          largest = max(largest, error)
          #expect(error <= 0.51, "θ \(theta), position \(position), pair \(pair), \(name): \(error) ulp")
        }
      }
    }
    #expect(largest > 0)
  }

  /// Pages are made where they are needed, in any order, and stay.
  @Test func positionsArePreparedInAnyOrder() {
    let parameters = RotaryParameters(theta: 5e7, rotaryDim: 32)
    let (forward, backward) = (RotaryEmbedding(parameters), RotaryEmbedding(parameters))
    forward.prepare(0..<5000)
    backward.prepare(4990..<5000)
    backward.prepare(1000..<1100)
    for position in [1000, 1023, 1024, 1099, 4990, 4999] {
      let (a, b) = (forward.angles(at: position), backward.angles(at: position))
      for pair in 0..<16 {
        #expect(a.cosines[pair] == b.cosines[pair] && a.sines[pair] == b.sines[pair])
      }
    }
  }

  /// The rule of transformers' `_compute_llama3_parameters` at θ 500,000, head 128, factor 8, 1, 4, context 8192.
  @Test func llama3ScalingKeepsShortAndStretchesLongWavelengths() {
    let scaling = RotaryParameters.Scaling.llama3(
      factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 8192)
    let plain = RotaryEmbedding(RotaryParameters(theta: 500_000, rotaryDim: 128)).inverseFrequencies
    let scaled = RotaryEmbedding(RotaryParameters(theta: 500_000, scaling: scaling, rotaryDim: 128))
      .inverseFrequencies
    for (index, (a, b)) in zip(plain, scaled).enumerated() {
      let wavelength = 2 * Double.pi / Double(a)
      if wavelength < 2048 {
        #expect(b == a, "frequency \(index)")
      } else if wavelength > 8192 {
        #expect(b == a / 8, "frequency \(index)")
      } else {
        #expect(b < a && b > a / 8, "frequency \(index)")
      }
    }
    #expect(plain[0] == 1)
  }
}
