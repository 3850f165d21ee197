import Files

/// How the number is taken from an answer to a question of GSM8K, and when it is right.
package enum GSM8K {
  package enum Rule: String, CaseIterable, Sendable {
    /// lm-eval's `strict-match`: what follows the first `#### `.
    case strict = "strict-match"
    /// lm-eval's `flexible-extract`: the last thing that looks like a number.
    case flexible = "flexible-extract"
    /// OpenCompass: the last number before `Question:`, where a comma ends a number.
    case openCompass = "opencompass"
  }

  /// What the rule takes from the answer: `[invalid]`, or `NULL` for OpenCompass, when there is nothing.
  package static func number(in answer: String, by rule: Rule) -> String {
    let text = Array(answer.unicodeScalars)
    switch rule {
    case .strict: return strict(text).map(string) ?? "[invalid]"
    case .flexible: return flexible(text).map(string) ?? "[invalid]"
    case .openCompass: return openCompass(text).map(string) ?? "NULL"
    }
  }

  /// Whether the answer has the number of the solution in the data, whose last line is `#### ` and the number.
  package static func isCorrect(_ answer: String, solution: String, by rule: Rule) throws -> Bool {
    let found = number(in: answer, by: rule)
    guard rule == .openCompass else {
      return normalized(found).hasSameBytes(as: normalized(solution))
    }
    guard let mark = solution.bytes.range(of: "#### ") else {
      throw MetricError(
        .badTruth(
          metric: "GSM8K", truth: solution, expected: "a solution that ends in \"#### \" and a number"))
    }
    let rest = String(solution[mark.upperBound...])
    let end = rest.bytes.range(of: "#### ")?.lowerBound ?? rest.endIndex
    let expected = String(rest[..<end]).bytes.replacing(",", with: "")
    if found.hasSameBytes(as: expected) { return true }
    guard let number = Double(found), let whole = Int(expected.bytes.trimmed) else { return false }
    return abs(number - Double(whole)) < 1e-6
  }

  /// What lm-eval's exact_match compares: without commas and dollar signs, without all up to the last `#### `, without a full stop
  /// at the end, in lower case.
  static func normalized(_ text: String) -> String {
    var plain = text.bytes.replacing(",", with: "").bytes.replacing("$", with: "")
    var start: String.Index?
    while let mark = plain.bytes.range(of: "#### ", from: start) { start = mark.upperBound }
    if let start { plain = String(plain[start...]) }
    var scalars = Array(plain.unicodeScalars)
    // `$` also stands before a line feed at the end.
    if scalars.last == "." {
      scalars.removeLast()
    } else if scalars.count >= 2, scalars.last == "\n", scalars[scalars.count - 2] == "." {
      scalars.remove(at: scalars.count - 2)
    }
    return PythonText.text(PythonText.lowercased(string(scalars))).text
  }

  private static func string(_ scalars: some Sequence<Unicode.Scalar>) -> String {
    PythonText.text(scalars).text.bytes.trimmed
  }

  /// `#### (-?[0-9.,]+)`, the first.
  private static func strict(_ text: [Unicode.Scalar]) -> ArraySlice<Unicode.Scalar>? {
    let mark: [Unicode.Scalar] = ["#", "#", "#", "#", " "]
    var index = 0
    while index + mark.count < text.count {
      if text[index] == "#", text[index..<index + mark.count].elementsEqual(mark) {
        let start = index + mark.count
        var end = text[start] == "-" ? start + 1 : start
        let first = end
        while end < text.count, PythonText.isASCIIDigit(text[end]) || text[end] == "." || text[end] == "," {
          end += 1
        }
        if end > first { return text[start..<end] }
      }
      index += 1
    }
    return nil
  }

  /// `(-?[$0-9.,]{2,})|(-?[0-9]+)`, the last.
  private static func flexible(_ text: [Unicode.Scalar]) -> ArraySlice<Unicode.Scalar>? {
    func isPart(_ scalar: Unicode.Scalar) -> Bool {
      PythonText.isASCIIDigit(scalar) || scalar == "$" || scalar == "." || scalar == ","
    }
    var found: ArraySlice<Unicode.Scalar>?
    var index = 0
    while index < text.count {
      let first = text[index] == "-" ? index + 1 : index
      var end = first
      while end < text.count, isPart(text[end]) { end += 1 }
      if end - first >= 2 || end - first == 1 && PythonText.isASCIIDigit(text[first]) {
        found = text[index..<end]
        index = end
      } else {
        index += 1
      }
    }
    return found
  }

  /// `-?\d+\.\d+|-?\d+`, the last before `Question:`.
  private static func openCompass(_ text: [Unicode.Scalar]) -> ArraySlice<Unicode.Scalar>? {
    var text = text[...]
    if let mark = PythonText.text(text).range(of: "Question:") {
      text = Array(PythonText.text(text).text.unicodeScalars[..<mark.lowerBound])[...]
    }
    func digits(from start: Int) -> Int {
      var end = start
      while end < text.endIndex, PythonText.isDigit(text[end]) { end += 1 }
      return end
    }
    var found: ArraySlice<Unicode.Scalar>?
    var index = text.startIndex
    while index < text.endIndex {
      let first = text[index] == "-" ? index + 1 : index
      var end = digits(from: first)
      guard end > first else {
        index += 1
        continue
      }
      if end < text.endIndex, text[end] == "." {
        let fraction = digits(from: end + 1)
        if fraction > end + 1 { end = fraction }
      }
      found = text[index..<end]
      index = end
    }
    return found
  }
}
