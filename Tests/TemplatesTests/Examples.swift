import Foundation
import Templates

/// Templates and what Jinja2 3.1.6 makes of them. `Tests/Fixtures/templates/make_examples.py` made the file.
struct Example: Sendable {
  enum Outcome: Equatable, Sendable {
    case text(String)
    case raised(String)
    /// Any other error: its words are ours.
    case fault
  }

  let source: String
  let outcome: Outcome

  static let all: [Example] = {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let file = folder.appendingPathComponent("Fixtures/templates/examples.jsonl")
    guard let data = try? Data(contentsOf: file) else { return [] }
    return data.split(separator: 10).compactMap { line in
      guard let fields = try? JSONDecoder().decode([String].self, from: line) else { return nil }
      switch fields[1] {
      case "text": return Example(source: fields[0], outcome: .text(fields[2]))
      case "error": return Example(source: fields[0], outcome: .raised(fields[2]))
      default: return Example(source: fields[0], outcome: .fault)
      }
    }
  }()

  /// The values of `variables()` in make_examples.py.
  static let variables: [TemplateMember] = [
    .init(
      "messages",
      [
        ["role": "system", "content": "You are — 默认 <b>"],
        ["role": "user", "content": "Hi there's \"x\" {{ y }}"],
        [
          "role": "assistant", "content": nil,
          "tool_calls": [
            [
              "function": [
                "name": "f", "arguments": ["city": "Paris", "n": 2, "f": 1.5, "t": true, "z": nil],
              ]
            ]
          ],
        ],
        ["role": "user", "content": [["type": "text", "text": "part"], ["type": "image"]]],
      ]),
    .init("tools", [["type": "function", "function": ["name": "get", "parameters": parameters]]]),
    .init("bos_token", "<s>"), .init("eos_token", "</s>"), .init("add_generation_prompt", true),
    .init("n", 3), .init("neg", -7), .init("x", 2.5), .init("big", 1e20), .init("small", 1e-7),
    .init("zero", 0),
    .init("empty", ""), .init("nothing", nil), .init("yes", true), .init("no", false),
    .init("s", "Hello World"),
    .init("u", "ÄÖ ß 天气 😀 ǆ"), .init("ws", " \t a\n b \r\n\u{2003}"), .init("num", "42"), .init("fl", "3.14"),
    .init("xs", [3, 1, 2]), .init("ys", ["b", "A", "c", "a"]), .init("es", []),
    .init("d", ["b": 1, "a": 2, "C": 3]),
    .init("e", [:]), .init("nest", [[1, 2], [3, [4]]]),
    .init("mix", [1, "a", nil, true, 2.0, [1], ["k": "v"]]),
    .init("rows", [["k": "x", "v": 1], ["k": "Y", "v": 3], ["k": "x", "v": 2], ["v": 9]]),
  ]

  private static let parameters: TemplateValue = [
    "type": "object",
    "properties": ["a": ["type": ["string", "null"]], "items": ["type": "array"]],
    "required": ["a"],
  ]

  static let clock = TemplateClock(year: 2026, month: 11, day: 30, hour: 12)
}

/// Renders a template into text.
func render(
  _ source: String, _ variables: [TemplateMember] = Example.variables,
  limits: TemplateLimits = TemplateLimits()
) throws -> String {
  try Template(source, limits: limits).render(variables, clock: Example.clock).text
}

extension TemplateValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByNilLiteral, ExpressibleByArrayLiteral,
  ExpressibleByDictionaryLiteral
{
  package init(stringLiteral value: String) { self = .string(value) }
  package init(integerLiteral value: Int) { self = .integer(value) }
  package init(floatLiteral value: Double) { self = .number(value) }
  package init(booleanLiteral value: Bool) { self = .boolean(value) }
  package init(nilLiteral: ()) { self = .null }
  package init(arrayLiteral elements: TemplateValue...) { self = .array(elements) }
  package init(dictionaryLiteral elements: (String, TemplateValue)...) {
    self = .object(elements.map { TemplateMember($0, $1) })
  }
}
