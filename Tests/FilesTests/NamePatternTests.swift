import Files
import Testing

@Suite struct NamePatternTests {
  private static let query = "model.layers.10.self_attn.q_proj"

  /// What Python's `re` says of the same expression and name.
  @Test(
    arguments: [
      ("q_proj", .end, true), ("_proj", .end, false), ("q_proj|v_proj", .end, true),
      (#"self_attn\.q_proj"#, .end, true), (#".*\.layers\.0\..*(q_proj|v_proj)$"#, .end, false),
      (#".*\.layers\.1[0-9]\..*(q_proj|v_proj)$"#, .end, true),
      (#"^model.layers.10.self_attn.q_proj"#, .end, true),
      (#"^layers.10.self_attn.q_proj"#, .end, false), (#"model\.layers\.1"#, .start, true),
      (#"layers"#, .start, false), (#"layers"#, .anywhere, true), (#"model\.layers\.1"#, .whole, false),
      (#"model|model.*q_proj"#, .whole, true), (#".*layers\.(?!0\.|1\.).*"#, .start, true),
      (#".*layers\.(?!0\.|10\.).*"#, .start, false), (#"[^.]+\.layers\.\d{2}\."#, .start, true),
    ] as [(String, NamePattern.Place, Bool)])
  func matchesAsPython(text: String, place: NamePattern.Place, expected: Bool) throws {
    #expect(try NamePattern(text, at: place).matches(Self.query) == expected)
  }

  @Test func namesAreComparedByBytes() throws {
    #expect(try !NamePattern("q_proj", at: .end).matches(Self.query + "\u{301}"))
    #expect(try !NamePattern("caf\u{E9}", at: .whole).matches("cafe\u{301}"))
  }

  @Test(arguments: ["(", "*", "[a", "", "a{2", "(?P=x)"])
  func whatIsNoExpressionIsAnError(text: String) {
    #expect(throws: NamePattern.Failure.invalid(text)) { try NamePattern(text, at: .start) }
  }

  /// Expressions whose search takes exponential time end with an error, and soon.
  @Test(arguments: ["(a+)+b", "(a|aa)+b", "(.*)*(.*)*(.*)*(.*)*b", "((a{0,30}){0,30}){0,30}b"])
  func aSearchWithoutEndIsAnError(text: String) throws {
    let name = String(repeating: "a", count: 2000)
    let clock = ContinuousClock()
    let spent = try clock.measure {
      do throws(NamePattern.Failure) {
        #expect(try !NamePattern(text, at: .end).matches(name))
      } catch { #expect(error == .endless(text, name: name) || error == .invalid(text)) }
    }
    #expect(spent < .seconds(10))
  }
}
