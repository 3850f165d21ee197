/// Levenshtein and longest-common-subsequence lengths of sequences of symbols, 64 cells of the table at a time.
///
/// Myers, "A fast bit-vector algorithm for approximate string matching" (1999), in the form for blocks of Hyyrö (2003); and the
/// sum of Hyyrö, "Bit-parallel LCS-length computation revisited" (2004). A block of 64 symbols of the one sequence goes over the
/// whole of the other and leaves a carry per place for the next block, so memory is linear.
package enum EditDistance {
  /// Most cells of the table, 64 of which take about a nanosecond.
  static let mostCells = 1 << 36

  /// The least number of insertions, deletions and replacements that make `b` of `a`.
  /// - Throws: ``MetricError`` for texts whose table would have more than 2³⁶ cells.
  package static func levenshtein(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) throws -> Int {
    try check(a.count, b.count)
    let (a, b, symbols) = symbols(a, b)
    guard !a.isEmpty, !b.isEmpty else { return max(a.count, b.count) }
    // The difference of each cell in the row above a block from its left neighbour; the first row is 0, 1, 2, …
    var carries = [Int8](repeating: 1, count: b.count)
    var matches = [UInt64](repeating: 0, count: symbols)
    var distance = a.count
    for start in stride(from: 0, to: a.count, by: 64) {
      let block = a[start..<min(start + 64, a.count)]
      for (bit, symbol) in block.enumerated() { matches[symbol] |= 1 << UInt64(bit) }
      let last = UInt64(1) << UInt64(block.count - 1)
      let isLast = start + 64 >= a.count
      var (positive, negative): (UInt64, UInt64) = (~0, 0)
      for (place, symbol) in b.enumerated() {
        let carry = carries[place]
        var equal = matches[symbol]
        let vertical = equal | negative
        if carry < 0 { equal |= 1 }
        let horizontal = (((equal & positive) &+ positive) ^ positive) | equal
        var up = negative | ~(horizontal | positive)
        var down = positive & horizontal
        let out: Int8 = up & last != 0 ? 1 : down & last != 0 ? -1 : 0
        carries[place] = out
        if isLast { distance += Int(out) }
        up <<= 1
        down <<= 1
        if carry < 0 { down |= 1 } else if carry > 0 { up |= 1 }
        positive = down | ~(vertical | up)
        negative = up & vertical
      }
      for symbol in block { matches[symbol] = 0 }
    }
    return distance
  }

  /// The length of the longest sequence that both have, with gaps.
  /// - Throws: ``MetricError`` for texts whose table would have more than 2³⁶ cells.
  package static func commonSubsequence(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) throws -> Int {
    try check(a.count, b.count)
    let (a, b, symbols) = symbols(a, b)
    guard !a.isEmpty, !b.isEmpty else { return 0 }
    var carries = [Bool](repeating: false, count: b.count)
    var matches = [UInt64](repeating: 0, count: symbols)
    var length = 0
    for start in stride(from: 0, to: a.count, by: 64) {
      let block = a[start..<min(start + 64, a.count)]
      for (bit, symbol) in block.enumerated() { matches[symbol] |= 1 << UInt64(bit) }
      var row: UInt64 = ~0
      for (place, symbol) in b.enumerated() {
        let hits = matches[symbol]
        let (sum, over) = row.addingReportingOverflow(row & hits)
        let (total, overAgain) = sum.addingReportingOverflow(carries[place] ? 1 : 0)
        carries[place] = over || overAgain
        row = total | (row & ~hits)
      }
      let used: UInt64 = block.count == 64 ? ~0 : (1 << UInt64(block.count)) - 1
      length += (~row & used).nonzeroBitCount
      for symbol in block { matches[symbol] = 0 }
    }
    return length
  }

  /// `1 − levenshtein / longer length`: 1 for equal texts, also for two empty ones.
  package static func similarity(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) throws -> Double {
    let longer = max(a.count, b.count)
    return longer == 0 ? 1 : 1 - Double(try levenshtein(a, b)) / Double(longer)
  }

  private static func check(_ a: Int, _ b: Int) throws {
    let (cells, overflow) = a.multipliedReportingOverflow(by: b)
    guard !overflow, cells <= mostCells else {
      throw MetricError(.textsTooLong(metric: "edit distance", answer: a, truth: b, unit: "characters"))
    }
  }

  /// Both sequences with their symbols numbered from 0.
  private static func symbols(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) -> ([Int], [Int], Int) {
    var numbers: [Unicode.Scalar: Int] = [:]
    func numbered(_ scalars: [Unicode.Scalar]) -> [Int] {
      scalars.map { scalar in
        if let number = numbers[scalar] { return number }
        numbers[scalar] = numbers.count
        return numbers.count - 1
      }
    }
    let (first, second) = (numbered(a), numbered(b))
    return (first, second, numbers.count)
  }
}
