import Files

/// ROUGE-L as the Python package `rouge` 1.0.1 computes it, which LongBench uses.
///
/// It is not Lin's ROUGE-L (2004): texts are cut into sentences at each `.`, and what is counted are sets of different words, so a word
/// counts once however often it stands. `the the the` against `the` scores 1.
package enum RougeL {
  /// Most cells of all tables of two texts.
  static let mostCells = 1 << 28
  /// What a pair of sentences costs beside its table, in cells.
  private static let pairCost = 64

  /// The F score of summary level, `2·p·r / (p + r + 1e-8)`, on texts whose words stand between spaces; 0 when either text has no
  /// sentence. English text is given as it is, Chinese text with spaces between the words of a segmenter.
  /// - Throws: ``MetricError`` when the product of the numbers of words exceeds 2²⁸.
  package static func score(_ answer: String, _ truth: String) throws -> Double {
    var numbers: [ByteText: Int32] = [:]
    func sentences(_ text: String) -> [[Int32]] {
      // Sentences of length 0 are left out; one of spaces alone stays and has the word "".
      text.unicodeScalars.split(separator: ".").map { sentence in
        let words = sentence.split(whereSeparator: ByteText.isWhitespace).map(PythonText.text)
        return (words.isEmpty ? [""] : words).map { word in
          if let number = numbers[word] { return number }
          numbers[word] = Int32(numbers.count)
          return Int32(numbers.count - 1)
        }
      }
    }
    let (hypothesis, reference) = (sentences(answer), sentences(truth))
    guard !hypothesis.isEmpty, !reference.isEmpty else { return 0 }
    // A sentence that is said again adds nothing: only sets of words are counted.
    let (candidates, truths) = (Set(hypothesis), Set(reference))
    let counts = [candidates, truths].map { $0.reduce(0) { $0 + $1.count } }
    let (cells, overflow) = counts[0].multipliedReportingOverflow(by: counts[1])
    guard !overflow, cells + pairCost * candidates.count * truths.count <= mostCells else {
      throw MetricError(
        .textsTooLong(metric: "ROUGE-L", answer: counts[0], truth: counts[1], unit: "words"))
    }
    // The words of the longest common subsequences, over all pairs of sentences.
    var common: Set<Int32> = []
    for sentence in truths {
      for candidate in candidates { common.formUnion(commonWords(sentence, candidate)) }
    }
    let precision = Double(common.count) / Double(Set(hypothesis.joined()).count)
    let recall = Double(common.count) / Double(Set(reference.joined()).count)
    return 2 * (precision * recall / (precision + recall + 1e-8))
  }

  /// ``score(_:_:)`` with each character as a word, white space as well: what this toolchain reports in place of `rouge_zh`, which needs
  /// the segmenter jieba. The two differ, so this one has a name of its own, `rouge_zh_per_character`.
  package static func perCharacter(_ answer: String, _ truth: String) throws -> Double {
    func spaced(_ text: String) -> String {
      var view = String.UnicodeScalarView()
      for (index, scalar) in text.unicodeScalars.enumerated() {
        if index > 0 { view.append(" ") }
        view.append(scalar)
      }
      return String(view)
    }
    return try score(spaced(answer), spaced(truth))
  }

  /// The words of one longest common subsequence. Which one it is matters, since words count once: on the way back through the table,
  /// `x` is shortened where that is strictly better, else `y`.
  private static func commonWords(_ x: [Int32], _ y: [Int32]) -> Set<Int32> {
    // Two bits a cell: 1 is a match, 2 shortens x, 0 shortens y.
    var steps = [UInt8](repeating: 0, count: (x.count * y.count + 3) / 4)
    var row = [Int32](repeating: 0, count: y.count + 1)
    for i in x.indices {
      var diagonal: Int32 = 0
      for j in y.indices {
        let above = row[j + 1]
        let cell = i * y.count + j
        if x[i] == y[j] {
          row[j + 1] = diagonal + 1
          steps[cell / 4] |= 1 << UInt8(cell % 4 * 2)
        } else if above > row[j] {
          steps[cell / 4] |= 2 << UInt8(cell % 4 * 2)
        } else {
          row[j + 1] = row[j]
        }
        diagonal = above
      }
    }
    var words: Set<Int32> = []
    var (i, j) = (x.count - 1, y.count - 1)
    while i >= 0, j >= 0 {
      let cell = i * y.count + j
      switch steps[cell / 4] >> UInt8(cell % 4 * 2) & 3 {
      case 1:
        words.insert(x[i])
        i -= 1
        j -= 1
      case 2: i -= 1
      default: j -= 1
      }
    }
    return words
  }
}
