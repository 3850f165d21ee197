import Generation
import Models
import TestSupport
import Testing

@Suite struct AnswerTextTests {
  @Test func holdsBackWhatMayBecomeAStop() throws {
    let tokenizer = try OpenedModel(path: Fixture.tinyZhinao).tokenizer()
    func pieces(_ text: String, stops: [String]) throws -> [String] {
      var answer = AnswerText(stops: stops)
      return try tokenizer.encode(text, specials: .plain, addingAffixes: false).map {
        answer.push(try #require(try tokenizer.bytes(of: $0, skippingSpecials: true)))
      } + [answer.finish()]
    }
    for (text, stops, expected) in [
      ("one two three", ["two"], "one "), ("one two three", ["twx"], "one two three"), ("aab", ["ab"], "a"),
      ("春天来了，花开了", ["花"], "春天来了，"), ("春天来了", ["", "了。"], "春天来了"), ("ababac", ["abac", "zz"], "ab"),
      ("xyz", ["yz", "xy"], ""),
      // By bytes: what follows a stop does not hide it, nor does a line end.
      ("a.\u{301}b", ["."], "a"), ("a\r\nb", ["\n"], "a\r"), ("a\u{200D}b", ["a"], ""),
      ("a\u{FE0F}b", ["a\u{FE0F}"], ""),
    ] {
      #expect(try pieces(text, stops: stops).joined() == expected)
    }
  }
}
