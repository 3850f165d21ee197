import Files

/// The metrics of LongBench that are no measure of similarity. Source: LongBench's `metrics.py`.
package enum LongBenchMetrics {
  /// The share of the numbers in the answer that are the expected one, digit for digit; 0 when there are none.
  package static func count(_ answer: String, _ truth: String) -> Double {
    share(of: Array(truth.unicodeScalars), in: answer)
  }

  /// ``count(_:_:)`` for the number after `Paragraph `.
  package static func retrieval(_ answer: String, _ truth: String) throws -> Double {
    try paragraph(answer, truth, word: "Paragraph ", metric: "retrieval")
  }

  /// ``count(_:_:)`` for the number after 段落.
  package static func chineseRetrieval(_ answer: String, _ truth: String) throws -> Double {
    try paragraph(answer, truth, word: "段落", metric: "retrieval_zh")
  }

  /// One divided by the number of classes that the answer names, if the expected one is among them.
  ///
  /// A named class that is a proper part of the expected one does not count. As in the original the one after it in the list is then
  /// not looked at, since the list is shortened while it is gone through.
  package static func classification(_ answer: String, _ truth: String, classes: [String]) -> Double {
    var hits = classes.filter { $0.isEmpty || answer.bytes.contains($0) }
    var index = 0
    while index < hits.count {
      let name = hits[index]
      if !name.hasSameBytes(as: truth), name.isEmpty || truth.bytes.contains(name) {
        // list.remove takes away the first equal element, and the iterator goes on behind this place.
        let first = hits.firstIndex { $0.hasSameBytes(as: name) }!
        hits.remove(at: first)
      }
      index += 1
    }
    return hits.contains { $0.hasSameBytes(as: truth) } ? 1 / Double(hits.count) : 0
  }

  private static func paragraph(_ answer: String, _ truth: String, word: String, metric: String) throws
    -> Double
  {
    var start: String.Index?
    while let found = truth.bytes.range(of: word, from: start) {
      let digits = truth.unicodeScalars[found.upperBound...].prefix(while: PythonText.isDigit)
      if !digits.isEmpty { return share(of: Array(digits), in: answer) }
      start = found.upperBound
    }
    throw MetricError(
      .badTruth(metric: metric, truth: truth, expected: "\(word)with a number, for example \(word)12"))
  }

  private static func share(of number: [Unicode.Scalar], in answer: String) -> Double {
    let numbers = answer.unicodeScalars.split { !PythonText.isDigit($0) }
    guard !numbers.isEmpty else { return 0 }
    return Double(numbers.count { $0.elementsEqual(number) }) / Double(numbers.count)
  }
}
