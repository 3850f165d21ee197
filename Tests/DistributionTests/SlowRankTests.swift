import Distribution
import Testing

@Suite struct SlowRankTests {
  /// Three ranks that finish an operation at 10 seconds; then rank 0 and rank 1 work for `worked` seconds and wait for rank 2.
  private static func findings(worked: Double, waits: [Double]) -> [SlowRanks.Finding?] {
    var slow = SlowRanks()
    var found = [slow.found([4, 4, 4], now: 10), slow.found([5, 4, 4], now: 10 + worked / 2)]
    found.append(slow.found([5, 5, 4], now: 10 + worked))
    return found + waits.map { slow.found([5, 5, 4], now: 10 + worked + $0) }
  }

  @Test func aRankThatWorksMuchLongerIsNamedOnce() {
    let found = Self.findings(worked: 4, waits: [10, 19, 21, 60])
    #expect(found == [nil, nil, nil, nil, nil, .init(ranks: [2], seconds: 21, secondsOfOthers: 4), nil])
  }

  @Test func longWorkIsGivenLongerTime() {
    let found = Self.findings(worked: 100, waits: [30, 199, 201])
    #expect(found == [nil, nil, nil, nil, nil, .init(ranks: [2], seconds: 201, secondsOfOthers: 100)])
  }

  @Test func ranksThatWorkOrAreAllThereAreNotSlow() {
    var slow = SlowRanks()
    #expect(slow.found([4, 4, 4], now: 0) == nil)
    #expect(slow.found([4, 4, 4], now: 500) == nil)
    // All wait for the network.
    #expect(slow.found([5, 5, 5], now: 501) == nil)
    #expect(slow.found([5, 5, 5], now: 900) == nil)
  }

  @Test func rankZeroWorksAloneAtTimes() {
    var slow = SlowRanks()
    #expect(slow.found([4, 4, 4], now: 0) == nil)
    #expect(slow.found([4, 5, 5], now: 1) == nil)
    #expect(slow.found([4, 5, 5], now: 900) == nil)
  }
}
