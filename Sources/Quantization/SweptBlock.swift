import Compute
import Tensors

/// Some columns of a span, corrected one by one.
struct SweptBlock: Sendable {
  /// Of the span.
  let columns: Range<Int>
  /// Columns of the span: from one row of its inverse to the next.
  let width: Int
  /// Groups whose parameters are found before the block.
  let groups: Range<Int>
  /// Whose parameters each column uses.
  let groupOf: [Int32]
  /// Where the codes of each column go.
  let places: [IntPanelLayout.Place]
  /// What the block's errors take away from the span's later columns; nil when there are none.
  let feedback: PackedLeftSide?
  private let inverse: AlignedBuffer<Float>

  /// - Parameters:
  ///   - inverse: of the span, row-major.
  ///   - groupSize: of groups whose parameters are found on the way; nil: all are known.
  init(
    _ columns: Range<Int>, of span: Range<Int>, inverse: AlignedBuffer<Float>, pool: WorkerPool,
    groupsStarting groupSize: Int?, groupOf: [Int32], places: [IntPanelLayout.Place]
  ) {
    self.columns = columns
    self.inverse = inverse
    self.groupOf = groupOf
    self.places = places
    width = span.count
    let start = span.lowerBound + columns.lowerBound
    groups =
      groupSize.map { (start + $0 - 1) / $0..<(start + columns.count + $0 - 1) / $0 } ?? 0..<0
    let later = columns.upperBound..<span.count
    feedback =
      later.isEmpty
      ? nil
      : PackedLeftSide(
        rows: later.count, k: columns.count,
        a: inverse.pointer + columns.lowerBound * span.count + later.lowerBound, rowStride: 1,
        kStride: span.count, pool: pool)
  }

  /// U[columns, columns], rows ``width`` floats apart.
  var diagonal: UnsafePointer<Float> {
    UnsafePointer(inverse.pointer + columns.lowerBound * width + columns.lowerBound)
  }
}
