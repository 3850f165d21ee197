import Files
import Training

/// Rows to learn from, in eight bytes a token.
package struct TuningRows: Sendable, RandomAccessCollection {
  private var tokens: [UInt32] = []
  /// -1: the place does not count.
  private var labels: [Int32] = []
  private var starts: [Int] = [0]

  package init() {}

  package init(_ rows: some Sequence<TrainingRow>) { for row in rows { append(row) } }

  package var startIndex: Int { 0 }
  package var endIndex: Int { starts.count - 1 }

  package subscript(row: Int) -> TrainingRow {
    let range = starts[row]..<starts[row + 1]
    return TrainingRow(
      tokens: tokens[range].map { Int($0) }, labels: labels[range].map { $0 < 0 ? nil : Int($0) })
  }

  /// - Precondition: ids are in 0 ..< 2³¹.
  package mutating func append(_ row: TrainingRow) {
    tokens += row.tokens.map { UInt32($0) }
    labels += row.labels.map { Int32($0 ?? -1) }
    starts.append(tokens.count)
  }

  package mutating func append(_ rows: TuningRows) {
    let first = tokens.count
    tokens += rows.tokens
    labels += rows.labels
    starts += rows.starts.dropFirst().map { $0 + first }
  }

  /// Tokens of a row.
  package func length(_ row: Int) -> Int { starts[row + 1] - starts[row] }

  /// Places of a row whose prediction is part of the loss.
  package func countedLabels(_ row: Int) -> Int {
    labels[starts[row]..<starts[row + 1]].dropFirst().reduce(0) { $0 + ($1 < 0 ? 0 : 1) }
  }

  package var tokenCount: Int { tokens.count }
  package var countedLabelCount: Int { indices.reduce(0) { $0 + countedLabels($1) } }
  package var longest: Int { indices.reduce(0) { Swift.max($0, length($1)) } }

  /// SHA-256 of the rows, each as its length, its ids and its labels in 32 bits, little-endian; -1 for a label that does not count.
  package var digest: String {
    var words: [UInt32] = []
    words.reserveCapacity(2 * tokens.count + count)
    for row in indices {
      let range = starts[row]..<starts[row + 1]
      words.append(UInt32(range.count).littleEndian)
      words += tokens[range].lazy.map(\.littleEndian)
      words += labels[range].lazy.map { UInt32(bitPattern: $0).littleEndian }
    }
    return words.withUnsafeBytes { Checksum.sha256($0) }
  }
}
