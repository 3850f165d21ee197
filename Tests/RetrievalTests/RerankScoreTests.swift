import Retrieval
import Testing

@Suite struct RerankScoreTests {
  @Test func scoresCompare() {
    #expect(
      RerankScore(raw: 1, relevance: 0.5, tokenCount: 3) != RerankScore(raw: 2, relevance: 0.5, tokenCount: 3)
    )
  }
}
