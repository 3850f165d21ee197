import Files

/// LongBench's score for completed lines of code.
package enum CodeSimilarity {
  /// Which ratio `fuzzywuzzy.fuzz.ratio` stands for.
  package enum Ratio: String, Sendable, CaseIterable {
    /// `2·LCS / (m + n)`, which fuzzywuzzy takes from python-Levenshtein where that is installed.
    case indel
    /// That of difflib's SequenceMatcher, which fuzzywuzzy falls back to. LongBench's own requirements do not install
    /// python-Levenshtein.
    case difflib
  }

  /// The ratio of the first line of the answer that holds no `` ` ``, `#` or `//` to the expected line, rounded to whole percent, half
  /// to even: between 0 and 1.
  ///
  /// Source: `code_sim_score` of LongBench's `metrics.py` and `fuzz.ratio` of fuzzywuzzy 0.18.
  /// - Throws: ``MetricError`` for lines of many thousand characters.
  package static func score(_ answer: String, _ truth: String, ratio: Ratio) throws -> Double {
    let (line, truth) = (Array(line(of: answer)), Array(truth.unicodeScalars))
    if line == truth { return 1 }
    if line.isEmpty || truth.isEmpty { return 0 }
    return (100 * (try similarity(line, truth, ratio))).rounded(.toNearestOrEven) / 100
  }

  /// The ratio of two texts before it is rounded.
  package static func similarity(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar], _ ratio: Ratio) throws
    -> Double
  {
    let both = a.count + b.count
    guard both > 0 else { return 1 }
    let common =
      switch ratio {
      case .indel: try EditDistance.commonSubsequence(a, b)
      case .difflib: try SequenceMatcher(a, b).matchedCount()
      }
    return 2 * Double(common) / Double(both)
  }

  /// The first line that could be code; empty when there is none.
  package static func line(of answer: String) -> [Unicode.Scalar] {
    let start = answer.unicodeScalars.drop { $0 == "\n" }
    for line in start.split(separator: "\n", omittingEmptySubsequences: false) {
      let hasComment = zip(line, line.dropFirst()).contains { $0 == "/" && $1 == "/" }
      if !hasComment && !line.contains("`") && !line.contains("#") { return Array(line) }
    }
    return []
  }
}

/// The matching blocks of Python's `difflib.SequenceMatcher(None, a, b)`: again and again the longest run that both have, the earliest
/// of equally long ones, then the same to its left and to its right. In a `b` of 200 symbols or more, what makes up over 1 % of it
/// starts no match ("autojunk").
private struct SequenceMatcher {
  let a: [Unicode.Scalar]
  let b: [Unicode.Scalar]
  private var placesInB: [Unicode.Scalar: [Int]] = [:]
  /// The search is quadratic for ordinary text and cubic at worst; a line of code needs some thousand steps.
  private static let mostSteps = 1 << 30

  init(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) {
    self.a = a
    self.b = b
    for (place, symbol) in b.enumerated() { placesInB[symbol, default: []].append(place) }
    if b.count >= 200 {
      let most = b.count / 100 + 1
      placesInB = placesInB.filter { $0.value.count <= most }
    }
  }

  func matchedCount() throws -> Int {
    var steps = 0
    var matched = 0
    var open = [(a.indices, b.indices)]
    // The length of the run that ends at each place of b, for the previous and for this place of a.
    var (before, now) = ([Int](repeating: 0, count: b.count), [Int](repeating: 0, count: b.count))
    while let (left, right) = open.popLast() {
      var best = (a: left.lowerBound, b: right.lowerBound, count: 0)
      var (filledBefore, filled): ([Int], [Int]) = ([], [])
      for i in left {
        for j in placesInB[a[i]] ?? [] where j >= right.lowerBound {
          if j >= right.upperBound { break }
          let count = (j > right.lowerBound ? before[j - 1] : 0) + 1
          now[j] = count
          filled.append(j)
          if count > best.count { best = (i - count + 1, j - count + 1, count) }
        }
        steps += (placesInB[a[i]]?.count ?? 0) + 1
        guard steps <= SequenceMatcher.mostSteps else {
          throw MetricError(
            .textsTooLong(metric: "difflib ratio", answer: a.count, truth: b.count, unit: "characters"))
        }
        for j in filledBefore { before[j] = 0 }
        swap(&before, &now)
        (filledBefore, filled) = (filled, [])
      }
      for j in filledBefore { before[j] = 0 }
      // What starts no match may still lengthen one.
      while best.a > left.lowerBound, best.b > right.lowerBound, a[best.a - 1] == b[best.b - 1] {
        best = (best.a - 1, best.b - 1, best.count + 1)
      }
      while best.a + best.count < left.upperBound, best.b + best.count < right.upperBound,
        a[best.a + best.count] == b[best.b + best.count]
      {
        best.count += 1
      }
      guard best.count > 0 else { continue }
      matched += best.count
      if left.lowerBound < best.a, right.lowerBound < best.b {
        open.append((left.lowerBound..<best.a, right.lowerBound..<best.b))
      }
      if best.a + best.count < left.upperBound, best.b + best.count < right.upperBound {
        open.append((best.a + best.count..<left.upperBound, best.b + best.count..<right.upperBound))
      }
    }
    return matched
  }
}
