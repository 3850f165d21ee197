import Files

/// Scores of the needle-in-a-haystack test, in percent, by the rules of the vendor's `360k/plot`.
package enum NeedleScore {
  /// What the Chinese answer is compared with when it does not name 刘秀.
  package static let chineseReference = "王莽在刘秀的手下工作。"

  /// How a Chinese answer without 刘秀 is scored.
  package enum ChineseRule: String, CaseIterable, Sendable {
    /// By edit distance, as the vendor's README says.
    case edit
    /// By the F1 score of characters. The vendor's code takes that of words, which needs the segmenter jieba; this is not the same.
    case f1PerCharacter = "f1-per-character"
  }

  /// 100 when sandwich, Dolores and sunny stand in this order on one line, with something between; else the similarity with the
  /// whole needle.
  package static func english(_ answer: String, needle: String) throws -> Double {
    let lower = PythonText.text(PythonText.lowercased(answer))
    let isFound = lower.text.unicodeScalars.split(separator: "\n").contains { line in
      // `.+?` needs a character, and the earliest places are the best.
      let line = PythonText.text(line)
      var start: String.Index?
      for part in ["sandwich", "dolores", "sunny"] {
        guard let found = line.range(of: part, from: start) else { return false }
        if found.upperBound == line.text.endIndex { return part == "sunny" }
        start = line.text.unicodeScalars.index(after: found.upperBound)
      }
      return true
    }
    return isFound ? 100 : 100 * (try similarity(answer, needle))
  }

  /// 100 when the answer has 刘秀; else by the rule.
  package static func chinese(
    _ answer: String, reference: String = chineseReference, rule: ChineseRule = .edit
  ) throws -> Double {
    if answer.bytes.contains("刘秀") { return 100 }
    switch rule {
    case .edit: return 100 * (try similarity(answer, reference))
    case .f1PerCharacter: return 100 * TokenF1.chinesePerCharacter(answer, reference)
    }
  }

  /// 100 when the digits stand in the answer, else 0.
  package static func value(_ answer: String, digits: String) -> Double {
    answer.bytes.contains(digits) ? 100 : 0
  }

  /// `1 − levenshtein / longer length` after all white space is taken out.
  private static func similarity(_ answer: String, _ reference: String) throws -> Double {
    func plain(_ text: String) -> [Unicode.Scalar] {
      text.unicodeScalars.filter { !ByteText.isWhitespace($0) }
    }
    return try EditDistance.similarity(plain(answer), plain(reference))
  }
}
