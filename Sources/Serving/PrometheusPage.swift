import Generation

/// A page in Prometheus' text format (version 0.0.4).
struct PrometheusPage {
  /// Families in order, each with its samples: Prometheus wants them together.
  private var order: [String] = []
  private var families: [String: String] = [:]

  var text: String { order.map { families[$0] ?? "" }.joined() }

  mutating func family(_ name: String, _ kind: String, _ help: String) {
    order.append(name)
    families[name] = "# HELP \(name) \(help)\n# TYPE \(name) \(kind)\n"
  }

  mutating func sample(_ name: String, family: String? = nil, _ labels: [String: String], _ value: Any) {
    let inside = labels.sorted { $0.key < $1.key }.map { "\($0.key)=\"\(PrometheusPage.escaped($0.value))\"" }
    let braces = inside.isEmpty ? "" : "{" + inside.joined(separator: ",") + "}"
    families[family ?? name, default: ""] += "\(name)\(braces) \(value)\n"
  }

  mutating func histogram(_ name: String, _ model: String, _ histogram: Histogram) {
    var sum = 0
    for (bound, count) in zip(histogram.bounds.map { "\($0)" } + ["+Inf"], histogram.counts) {
      sum += count
      sample(name + "_bucket", family: name, ["model": model, "le": bound], sum)
    }
    sample(name + "_sum", family: name, ["model": model], histogram.sum)
    sample(name + "_count", family: name, ["model": model], histogram.count)
  }

  /// By Unicode scalars: a combining mark behind a quotation mark does not hide it.
  private static func escaped(_ text: String) -> String {
    var escaped = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\", "\"":
        escaped.append("\\")
        escaped.append(scalar)
      case "\n": escaped.append(contentsOf: "\\n".unicodeScalars)
      default: escaped.append(scalar)
      }
    }
    return String(escaped)
  }
}
