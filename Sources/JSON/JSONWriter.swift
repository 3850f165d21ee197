extension JSONValue {
  /// The document's text. `indent` nil: one line without spaces. Otherwise that many spaces a level, as Python's
  /// `json.dumps(indent=…, ensure_ascii=False)` lays it out.
  package func serialized(indent: Int? = nil) -> String {
    var text = ""
    append(to: &text, indent: indent, level: 0)
    return text
  }

  private func append(to text: inout String, indent: Int?, level: Int) {
    func newLine(_ level: Int) {
      guard let indent else { return }
      text += "\n"
      text += String(repeating: " ", count: indent * level)
    }
    switch self {
    case .null: text += "null"
    case .bool(let value): text += value ? "true" : "false"
    case .number(let spelling): text += spelling
    case .string(let value): JSONValue.appendQuoted(value, to: &text)
    case .array(let elements):
      text += "["
      for (index, element) in elements.enumerated() {
        if index > 0 { text += "," }
        newLine(level + 1)
        element.append(to: &text, indent: indent, level: level + 1)
      }
      if !elements.isEmpty { newLine(level) }
      text += "]"
    case .object(let object):
      text += "{"
      for (index, member) in object.members.enumerated() {
        if index > 0 { text += "," }
        newLine(level + 1)
        JSONValue.appendQuoted(member.key, to: &text)
        text += indent == nil ? ":" : ": "
        member.value.append(to: &text, indent: indent, level: level + 1)
      }
      if !object.isEmpty { newLine(level) }
      text += "}"
    }
  }

  private static func appendQuoted(_ value: String, to text: inout String) {
    text += "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      // Also what some readers take for a line end: one object a line must stay one line.
      case _
      where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
        || (0x2028...0x2029).contains(scalar.value):
        let digits = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }
}
