import Files

/// Operations on texts as the published metrics, which are Python programs, mean them: on code points, not on what a reader sees as
/// characters, and with Python's classes of characters.
enum PythonText {
  typealias Scalars = [Unicode.Scalar]

  /// Python's `string.punctuation`.
  static func isASCIIPunctuation(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 33...47, 58...64, 91...96, 123...126: true
    default: false
    }
  }

  /// `\w` of Python's `re`: letters, numbers of every kind and the underscore; marks are none of them.
  static func isWord(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter,
      .decimalNumber, .letterNumber, .otherNumber:
      true
    default: scalar == "_"
    }
  }

  /// `\d` of Python's `re`, which full-width digits match too.
  static func isDigit(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.generalCategory == .decimalNumber
  }

  static func isASCIIDigit(_ scalar: Unicode.Scalar) -> Bool { (48...57).contains(scalar.value) }

  /// `str.lower`: the full mappings of Unicode, and ς for a capital sigma at the end of a word.
  static func lowercased(_ text: String) -> Scalars {
    let scalars = Array(text.unicodeScalars)
    var result: Scalars = []
    result.reserveCapacity(scalars.count)
    for (index, scalar) in scalars.enumerated() {
      if scalar == "Σ" {
        result.append(isFinal(index, in: scalars) ? "ς" : "σ")
      } else {
        result.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
      }
    }
    return result
  }

  /// Unicode's Final_Sigma: a cased letter before, none after, what has no case between. Only a bounded neighbourhood is looked at.
  private static func isFinal(_ index: Int, in scalars: Scalars) -> Bool {
    func isCased(_ places: some Sequence<Int>) -> Bool {
      for place in places {
        if scalars[place].properties.isCaseIgnorable { continue }
        return scalars[place].properties.isCased
      }
      return false
    }
    return isCased((max(index - 64, 0)..<index).reversed())
      && !isCased((index + 1)..<min(index + 65, scalars.count))
  }

  /// `str.split()`: the runs between white space.
  static func words(_ scalars: Scalars) -> [ByteText] {
    scalars.split(whereSeparator: ByteText.isWhitespace).map(text)
  }

  static func text(_ scalars: some Sequence<Unicode.Scalar>) -> ByteText {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars)
    return ByteText(String(view))
  }

  /// Lower case, without ASCII punctuation, and with the words a, an and the replaced by `replacement`, each where it stands alone
  /// between characters that are no `\w`.
  static func droppingArticles(_ scalars: Scalars, ignoringCase: Bool = false, replacement: Scalars)
    -> Scalars
  {
    var result: Scalars = []
    var index = 0
    while index < scalars.count {
      guard isWord(scalars[index]) else {
        result.append(scalars[index])
        index += 1
        continue
      }
      var end = index
      while end < scalars.count, isWord(scalars[end]) { end += 1 }
      let word = scalars[index..<end]
      let plain =
        ignoringCase
        ? word.map { ("A"..."Z").contains($0) ? Unicode.Scalar($0.value + 32)! : $0 } : Array(word)
      result.append(
        contentsOf: [["a"], ["a", "n"], ["t", "h", "e"]].contains(plain) ? replacement : Array(word))
      index = end
    }
    return result
  }
}
