import Testing
import Training
import Tuning

/// The order of rows.
@Suite struct DataBatchTests {
  static func rows(_ lengths: [Int]) -> TuningRows {
    TuningRows(lengths.map { TrainingRow(tokens: Array(0..<$0), labels: Array(0..<$0)) })
  }

  @Test(arguments: [false, true]) func everyEpochHasEachRowOnce(groups: Bool) {
    let lengths = (0..<1003).map { 2 + $0 * 7919 % 97 }
    let dataset = TuningDataset(rows: Self.rows(lengths), groupsByLength: groups, seed: 7)
    var orders: [[Int]] = []
    for epoch in 0..<3 {
      let batches = dataset.batches(epoch: epoch, size: 4)
      #expect(batches.count == dataset.batchesPerEpoch(size: 4))
      #expect(batches == dataset.batches(epoch: epoch, size: 4))
      #expect(batches.filter { $0.count < 4 }.map(\.count) == [3])
      orders.append(batches.flatMap { $0 })
      #expect(orders[epoch].sorted() == Array(lengths.indices))
    }
    #expect(orders[0] != orders[1] && orders[1] != orders[2])
    let other = TuningDataset(rows: Self.rows(lengths), groupsByLength: groups, seed: 8)
    #expect(other.batches(epoch: 0, size: 4) != dataset.batches(epoch: 0, size: 4))
  }

  /// Rows of a batch are of similar lengths, and long batches do not come first.
  @Test func groupsHaveSimilarLengths() {
    let lengths = (0..<2000).map { 2 + $0 * 7919 % 500 }
    func spread(_ dataset: TuningDataset) -> Int {
      dataset.batches(epoch: 0, size: 4).reduce(0) { sum, batch in
        let of = batch.map { lengths[$0] }
        return sum + (of.max() ?? 0) - (of.min() ?? 0)
      }
    }
    let grouped = TuningDataset(rows: Self.rows(lengths), groupsByLength: true, seed: 1)
    let plain = TuningDataset(rows: Self.rows(lengths), groupsByLength: false, seed: 1)
    #expect(spread(grouped) * 20 < spread(plain))
    let first = grouped.batches(epoch: 0, size: 4).prefix(250).flatMap { $0 }.reduce(0) { $0 + lengths[$1] }
    #expect(abs(first / 1000 - lengths.reduce(0, +) / 2000) < 50)
  }

  /// The order must never change, or a tuning that is resumed by another version would learn rows twice.
  @Test func theOrderIsFixed() {
    let dataset = TuningDataset(rows: Self.rows([3, 4, 5, 6, 7, 8]), seed: 1024)
    #expect(dataset.batches(epoch: 0, size: 4) == [[2, 5, 1, 4], [3, 0]])
    #expect(dataset.batches(epoch: 1, size: 4) == [[4, 0, 1, 5], [3, 2]])
  }

  @Test func longestRowsBoundABatch() {
    let dataset = TuningDataset(rows: Self.rows([3, 9, 5, 6]), seed: 1)
    #expect(dataset.longestRows(2) == [9, 6])
    #expect(dataset.longestRows(10) == [9, 6, 5, 3])
    #expect(TuningDataset(rows: TuningRows(), seed: 1).batches(epoch: 0, size: 2).isEmpty)
  }

  /// A weight of 2.5 brings every row twice and half of them once more, other ones in the next epoch.
  @Test func weightsRepeatRows() throws {
    let lines = (0..<10).map { "{\"text\": \"春天\($0)\"}" }.joined(separator: "\n")
    let dataset = try DataRecordTests.load(lines, weight: 2.5)
    #expect(dataset.rowsPerEpoch == 25)
    func counts(_ epoch: Int) -> [Int] {
      let order = dataset.batches(epoch: epoch, size: 4).flatMap { $0 }
      return (0..<10).map { row in order.filter { $0 == row }.count }
    }
    #expect(counts(0).sorted() == [2, 2, 2, 2, 2, 3, 3, 3, 3, 3])
    #expect((1..<6).contains { counts($0) != counts(0) })
    #expect(dataset.longestRows(3).count == 3)
    let plain = try DataRecordTests.load(lines)
    #expect(plain.digest != dataset.digest)
  }

  @Test func theDigestKnowsLabels() {
    let a = TuningRows([TrainingRow(tokens: [1, 2], labels: [nil, 2])])
    let b = TuningRows([TrainingRow(tokens: [1, 2], labels: [1, 2])])
    let c = TuningRows([
      TrainingRow(tokens: [1], labels: [nil]), TrainingRow(tokens: [2], labels: [2]),
    ])
    #expect(Set([a.digest, b.digest, c.digest]).count == 3)
    #expect(a[0] == TrainingRow(tokens: [1, 2], labels: [nil, 2]))
  }
}
