import Files

/// OpenCompass' rule for LAMBADA by generation. Source: `datasets/lambada.py` and `general_postprocess` of OpenCompass.
package enum FirstWord {
  /// What stands before the first space of the answer without the white space around it, and there before the first ASCII punctuation.
  package static func of(_ answer: String) -> String {
    let word = answer.bytes.trimmed.unicodeScalars.prefix { $0 != " " }
    return PythonText.text(word.prefix { !PythonText.isASCIIPunctuation($0) }).text
  }

  /// Whether the first word is the expected one, both normalized.
  package static func isCorrect(_ answer: String, _ truth: String) -> Bool {
    normalized(of(answer)).hasSameBytes(as: normalized(truth))
  }

  /// The text before the first line feed, full stop or comma; without punctuation and articles; single spaces.
  package static func normalized(_ text: String) -> String {
    let start = text.unicodeScalars.prefix { $0 != "\n" && $0 != "." && $0 != "," }
    let plain = start.filter { PythonText.isWord($0) || ByteText.isWhitespace($0) }
    let words = PythonText.words(
      PythonText.droppingArticles(Array(plain), ignoringCase: true, replacement: []))
    return words.map(\.text).joined(separator: " ")
  }
}
