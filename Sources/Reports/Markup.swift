/// Text of an HTML page that is also well-formed XML. Everything that is not a tag goes through ``escaped(_:)``.
struct Markup {
  private(set) var text = ""

  typealias Attributes = KeyValuePairs<String, String>

  /// An element with what `content` adds.
  mutating func element(_ name: String, _ attributes: Attributes = [:], _ content: (inout Markup) -> Void) {
    tag(name, attributes, end: ">")
    content(&self)
    text += "</\(name)>"
  }

  /// An element with text.
  mutating func element(_ name: String, _ attributes: Attributes = [:], text: String) {
    element(name, attributes) { $0.write(text) }
  }

  /// An element without content.
  mutating func empty(_ name: String, _ attributes: Attributes) { tag(name, attributes, end: "/>") }

  mutating func write(_ content: String) { text += Markup.escaped(content.visible) }

  /// Text whose writing direction does not act on what stands around it.
  mutating func isolate(_ content: String) { element("bdi", text: content) }

  /// As ``isolate(_:)``; long words may be broken after their points, slashes and underlines.
  mutating func isolateBreakable(_ content: String) {
    element("bdi") { inside in
      for (number, word) in content.visible.bytes.split(separator: " ").enumerated() {
        if number > 0 { inside.text += " " }
        guard word.utf8.count > 20 else {
          inside.text += Markup.escaped(word)
          continue
        }
        var run = ""
        for scalar in word.unicodeScalars {
          run.unicodeScalars.append(scalar)
          let most = scalar == "." || scalar == "/" ? 3 : scalar == "_" ? 16 : Int.max
          guard run.utf8.count > most else { continue }
          inside.text += Markup.escaped(run) + "<wbr/>"
          run = ""
        }
        inside.text += Markup.escaped(run)
      }
    }
  }

  mutating func newLine() { text += "\n" }

  /// Markup of our own.
  mutating func raw(_ markup: String) { text += markup }

  private mutating func tag(_ name: String, _ attributes: Attributes, end: String) {
    text += "<\(name)"
    for (key, value) in attributes { text += " \(key)=\"\(Markup.escaped(value.visibleLine))\"" }
    text += end
  }

  static func escaped(_ text: String) -> String {
    var result = ""
    result.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
