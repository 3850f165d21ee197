import Compute
import Evaluation
import Files
import Models
import TestSupport
import Testing
import Tokenization

/// Where two models differ: most likely tokens, classes of tokens, positions, slices.
@Suite struct DivergenceProfileTests {
  // MARK: Most likely tokens

  /// Widths around a block of the search, with few different values, so that many are equal.
  @Test(arguments: [1, 3, 9, 10, 11, 255, 256, 257, 2560, 3001])
  func commonTokensAreThoseOfASort(width: Int) throws {
    let rows = 6
    var generator = SplitMix64(seed: UInt64(width))
    let logits = (0..<2).map { _ in
      (0..<rows * width).map { index in
        // One row of equal values, one that rises: each value displaces another.
        switch index / width {
        case 0: Float(1)
        case 1: Float(index % width) / 64
        default: Float(Int(generator.next() % 40)) / 4
        }
      }
    }
    func sorted(_ logits: [Float], _ row: Int) -> [Int] {
      let values = logits[row * width..<(row + 1) * width]
      return values.enumerated().sorted { ($1.element, $0.offset) < ($0.element, $1.offset) }.map(\.offset)
    }
    for isa in InstructionSet.runnable {
      for threads in 1...2 {
        let pool = WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa)))
        let compared = RowComparison(
          AlignedBuffer(logits[0]), AlignedBuffer(logits[1]), targets: Array(repeating: 0, count: rows)[...],
          pool: pool)
        #expect(compared.found == min(RowComparison.mostLikely, width))
        for row in 0..<rows {
          for k in 1...compared.found {
            let common = Set(sorted(logits[0], row).prefix(k)).intersection(sorted(logits[1], row).prefix(k))
            #expect(compared.common(row, k) == common.count, "row \(row), k \(k), \(isa)")
          }
        }
      }
    }
  }

  /// A constant that is added to all logits of one model changes nothing.
  @Test func aConstantIsNoDivergence() throws {
    var generator = SplitMix64(seed: 7)
    let logits = (0..<49_152).map { _ in Float(generator.next() % 4096) / 512 }
    let compared = RowComparison(
      AlignedBuffer(logits), AlignedBuffer(logits.map { $0 + 64 }), targets: [0], pool: WorkerPool(threads: 1)
    )
    // 64 times the roundings of a double and of log Σ exp.
    #expect(compared.divergences[0] < 1e-9)
    #expect(compared.agreements == 1)
  }

  // MARK: Classes of tokens

  @Test func classesFollowTheText() {
    // Text of a token, the token before it, its class.
    let cases: [(String, String?, TokenClass)] = [
      (" the", "x", .latinWordStart), ("The", nil, .latinWordStart), ("The", "\n", .latinWordStart),
      ("ing", "walk", .latinContinuation), ("rd", "3", .latinContinuation),
      ("'s", "Alice", .latinContinuation),
      ("’s", "Alice", .latinContinuation), ("(the", "x", .latinWordStart), ("love", "我", .latinWordStart),
      ("love", "<|end|>", .latinWordStart), ("é", "caf", .latinContinuation), ("ﬁ", " ", .latinWordStart),
      ("中国", "x", .ideographs), ("。中", "x", .ideographs), ("々", "x", .ideographs), ("〇", "x", .ideographs),
      ("42", "x", .digits), (" 4", "x", .digits), ("４", "x", .digits), (".", "x", .punctuation),
      ("'", "x", .punctuation), ("''", "x", .punctuation), (" =", "x", .punctuation),
      ("。", "x", .punctuation),
      ("🙂", "x", .punctuation), (" ", "x", .whitespace), ("\r\n\t", "x", .whitespace),
      ("\u{3000}", "x", .whitespace),
      ("<|end|>", "x", .special), ("привет", "x", .other), ("かな", "x", .other), ("\u{0}", "x", .other),
      ("\u{301}", "e", .other), ("", "x", .other),
    ]
    for (text, previous, expected) in cases {
      let tokenizer = FixedTokens([text, previous ?? ""].map { Array($0.utf8) })
      var texts = TokenTexts(tokenizer)
      #expect(
        texts.tokenClass(of: 0, after: previous == nil ? nil : 1) == expected,
        "\(text) after \(previous ?? "")")
    }
  }

  @Test func partsOfCharactersAreAClassOfTheirOwn() {
    var texts = TokenTexts(
      FixedTokens([[0xE4], [0xB8, 0xAD], [0x20, 0xE4, 0xB8], Array("é".utf8), [0xA9], [0x61]]))
    for id in [0, 1, 2, 4] { #expect(texts.tokenClass(of: id, after: 3) == .partialCharacter) }
    // A letter after the second part of é.
    #expect(texts.tokenClass(of: 5, after: 4) == .latinContinuation)
    // No token has these.
    for id in [-1, 6, .max] { #expect(texts.tokenClass(of: id, after: id) == .other) }
  }

  @Test func textsShowWhatCannotBeSeen() {
    let texts = TokenTexts(
      FixedTokens([
        Array("a\n\u{1B}[2J".utf8), [0xE4, 0xB8], Array("\u{202E}x\u{7F}".utf8),
        Array(repeating: 0x78, count: 5000),
      ]))
    #expect(texts.text(of: 0) == "a␊␛[2J")
    #expect(texts.text(of: 1) == "<E4><B8>")
    #expect(texts.text(of: 2) == "<U+202E>x␡")
    #expect(texts.text(of: 3) == String(repeating: "x", count: 40) + "…")
    #expect(texts.text(of: 9) == nil)
    #expect(texts.text(of: [0, 9, 1]) == "a␊␛[2J<id 9><E4><B8>")
    #expect(texts.text(of: [0, 3]) == "…" + String(repeating: "x", count: 72))
  }

  // MARK: The whole

  /// Two models with the same vocabulary, in windows of their own and in windows that overlap.
  @Test(arguments: [nil, 96] as [Int?])
  func partsAddUpToTheWhole(stride: Int?) throws {
    let reference = try OpenedModel(path: Fixture.tinyZhinao)
    let candidate = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa"))
    let tokenizer = try reference.tokenizer()
    let ids = try EvaluationText.ids(textFile: Fixture.tinyZhinao + "/eval.zh.txt", tokenizer: tokenizer)
    func measure(threads: Int, worst: Int, texts: TokenTexts?) throws -> Comparison {
      let pool = WorkerPool(threads: threads)
      return try Comparison.measure(
        reference: reference.decoder(pool: pool), candidate: candidate.decoder(pool: pool), ids: ids,
        protocol: WindowProtocol(length: 128, stride: stride, maximumWindows: 6), texts: texts, worst: worst)
    }
    let found = try measure(threads: 1, worst: 20, texts: TokenTexts(tokenizer))
    #expect(try found == measure(threads: 3, worst: 20, texts: TokenTexts(tokenizer)))
    let profile = try #require(found.profile)

    let groups = [
      profile.positions.map(\.sums), profile.slices.map(\.sums), try #require(profile.classes).map(\.sums),
    ]
    for sums in groups {
      let all = sums.dropFirst().reduce(into: sums[0]) { $0.merge($1) }
      #expect(all.count == found.tokensScored)
      // Sums of hundreds of numbers in another order.
      #expect(abs(all.meanKL / found.meanKL - 1) < 1e-12)
      #expect(abs(all.referencePerplexity / found.reference - 1) < 1e-12)
      #expect(abs(all.candidatePerplexity / found.candidate - 1) < 1e-12)
      #expect(abs(all.top1Agreement - found.top1Agreement) < 1e-12)
    }
    #expect(profile.overlaps.map(\.k) == [1, 5, 10])
    #expect(abs(profile.overlaps[0].mean - found.top1Agreement) < 1e-12)
    #expect(profile.positions.map(\.context) == [1...15, 16...63, 64...127])
    // As many tokens in each, or one more, and in the order of the text.
    let counts = profile.slices.map(\.sums.count)
    #expect(counts.count == min(64, found.tokensScored / 16))
    #expect((counts.max() ?? 0) - (counts.min() ?? 0) <= 1)
    #expect(
      zip(profile.slices, profile.slices.dropFirst()).allSatisfy {
        $0.tokens.upperBound < $1.tokens.lowerBound
      })

    #expect(profile.worst.count == 20 && profile.worst[0].divergence == found.maximumKL)
    #expect(zip(profile.worst, profile.worst.dropFirst()).allSatisfy { $0.divergence >= $1.divergence })
    for position in profile.worst {
      #expect(position.target.id == ids[position.index])
      #expect(
        position.contextIDs == Array(ids[max(0, position.index - position.contextIDs.count)..<position.index])
      )
      #expect(position.contextIDs.count == min(12, position.position))
      #expect(position.reference.count == 3 && position.candidate.count == 3)
      #expect(
        zip(position.candidate, position.candidate.dropFirst()).allSatisfy {
          $0.probability >= $1.probability
        })
    }

    // The first of all, and without a tokenizer.
    let few = try #require(try measure(threads: 2, worst: 3, texts: nil).profile)
    #expect(few.worst.map(\.index) == profile.worst.prefix(3).map(\.index))
    #expect(few.classes == nil && few.worst.allSatisfy { $0.context == nil && $0.target.text == nil })
    #expect(few.slices == profile.slices)
    #expect(try #require(try measure(threads: 2, worst: 0, texts: nil).profile).worst.isEmpty)
  }
}

/// A tokenizer whose tokens are given; the token `<|end|>` is special.
private struct FixedTokens: Tokenizer {
  let tokens: [[UInt8]]

  init(_ tokens: [[UInt8]]) { self.tokens = tokens }

  var tokenCount: Int { tokens.count }
  var specialTokens: [ByteText: Int] {
    tokens.firstIndex(of: Array("<|end|>".utf8)).map { ["<|end|>": $0] } ?? [:]
  }
  func encode(_ text: String, specials: SpecialTokens, addingAffixes: Bool) -> [Int] { [] }
  func decode(_ ids: [Int], skippingSpecials: Bool) throws -> String { "" }
  func bytes(of id: Int, skippingSpecials: Bool) throws -> [UInt8]? { tokens[id] }
}
