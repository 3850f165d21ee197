extension String {
  /// The text with what has no shape of its own made visible: control characters as Unicode's pictures of them, controls of the
  /// writing direction, which could make a text look like another, and noncharacters by their number. Tabs and line feeds stay; a
  /// carriage return before a line feed goes.
  var visible: String {
    guard unicodeScalars.contains(where: String.isInvisible) else { return self }
    var result = ""
    var rest = unicodeScalars[...]
    while let scalar = rest.popFirst() {
      if scalar == "\r" && rest.first == "\n" { continue }
      switch scalar.value {
      case _ where !String.isInvisible(scalar): result.unicodeScalars.append(scalar)
      case 0..<0x20: result.unicodeScalars.append(Unicode.Scalar(0x2400 + scalar.value)!)
      case 0x7F: result.unicodeScalars.append("\u{2421}")
      default: result += "[U+" + String(scalar.value, radix: 16, uppercase: true) + "]"
      }
    }
    return result
  }

  /// As ``visible``, on one line.
  var visibleLine: String {
    let text = visible
    guard text.unicodeScalars.contains(where: { $0 == "\n" || $0 == "\t" }) else { return text }
    return String(String.UnicodeScalarView(text.unicodeScalars.map { $0 == "\n" || $0 == "\t" ? " " : $0 }))
  }

  private static func isInvisible(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x09, 0x0A: false
    case 0..<0x20, 0x7F...0x9F: true
    case 0x202A...0x202E, 0x2066...0x2069: true
    case 0xFDD0...0xFDEF: true
    default: scalar.value & 0xFFFE == 0xFFFE
    }
  }
}
