/// Text that a terminal can be given whoever wrote it.
package enum PrintableText {
  /// `text` with every control character but line feed and tab replaced: a model's answer or a file must not move the
  /// cursor, change the title or make the terminal type something.
  package static func sanitized(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isDangerous) else { return text }
    var scalars = String.UnicodeScalarView()
    var previous: Unicode.Scalar?
    for scalar in text.unicodeScalars {
      defer { previous = scalar }
      if scalar == "\n" && previous == "\r" { scalars.removeLast() }
      scalars.append(isDangerous(scalar) ? "\u{FFFD}" : scalar)
    }
    return String(scalars)
  }

  /// What someone pasted: line ends of any kind become line feeds, other control characters but tabs go.
  package static func pasted(_ text: String) -> String {
    var scalars = String.UnicodeScalarView()
    var previous: Unicode.Scalar?
    for scalar in text.unicodeScalars {
      defer { previous = scalar }
      if scalar == "\r" {
        scalars.append("\n")
      } else if scalar == "\n" && previous == "\r" {
        continue
      } else if !isDangerous(scalar) {
        scalars.append(scalar)
      }
    }
    return String(scalars)
  }

  private static func isDangerous(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.generalCategory == .control && scalar != "\n" && scalar != "\t"
  }
}
