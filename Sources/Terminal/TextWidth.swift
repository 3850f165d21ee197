/// Columns that text takes on a terminal.
package enum TextWidth {
  package static func of(_ text: String) -> Int { text.reduce(0) { $0 + of($1) } }

  /// Columns of one grapheme cluster: what its code points take, where a code point joined by a zero width joiner or one that
  /// changes an emoji's skin takes none.
  package static func of(_ character: Character) -> Int {
    if let ascii = character.asciiValue { return ascii < 0x20 || ascii == 0x7F ? 0 : 1 }
    var columns = 0
    var isJoined = false
    for scalar in character.unicodeScalars {
      let isModifier = (0x1F3FB...0x1F3FF).contains(scalar.value) && columns > 0
      if !isJoined && !isModifier { columns += of(scalar) }
      // The emoji form of a character that also has a narrow text form.
      if scalar.value == 0xFE0F && columns == 1 { columns = 2 }
      isJoined = scalar.value == 0x200D
    }
    return columns
  }

  private static func of(_ scalar: Unicode.Scalar) -> Int {
    switch scalar.properties.generalCategory {
    case .nonspacingMark, .enclosingMark, .control: return 0
    case .format: return scalar.value == 0xAD ? 1 : 0
    default: break
    }
    // Medial vowels and final consonants of a Hangul syllable sit in the cell of its first consonant.
    if (0x1160...0x11FF).contains(scalar.value) || (0xD7B0...0xD7FF).contains(scalar.value) { return 0 }
    return WideCharacters.contains(scalar.value) ? 2 : 1
  }
}
