import Compute
import Distribution
import Evaluation
import Models
import TestSupport
import Testing

/// Windows that are dealt out to ranks give the results of one process.
@Suite struct RankTests {
  private static func measured(_ communicator: any Communicator) throws -> (Perplexity, Comparison) {
    let pool = WorkerPool(threads: 1)
    let reference = try OpenedModel(path: Fixture.tinyZhinao)
    let candidate = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa")).decoder(pool: pool)
    let tokenizer = try reference.tokenizer()
    let ids = try EvaluationText.ids(textFile: Fixture.tinyZhinao + "/eval.zh.txt", tokenizer: tokenizer)
    let decoder = try reference.decoder(pool: pool)
    // Overlapping windows, in more batches than ranks.
    let windowing = WindowProtocol(length: 128, stride: 96, maximumWindows: 70)
    return (
      try Perplexity.measure(decoder, ids: ids, protocol: windowing, communicator: communicator),
      try Comparison.measure(
        reference: decoder, candidate: candidate, ids: ids, protocol: windowing,
        texts: TokenTexts(tokenizer), worst: 7, communicator: communicator)
    )
  }

  @Test(arguments: [2, 3])
  func ranksDoNotChangeABit(ranks: Int) throws {
    let expected = try Self.measured(SingleProcess())
    for found in try LocalRank.run(ranks, Self.measured) {
      #expect(found.0 == expected.0)
      #expect(found.1 == expected.1)
    }
  }
}
