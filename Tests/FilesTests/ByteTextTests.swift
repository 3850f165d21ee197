import Files
import Testing

/// Where Swift's strings see something else than bytes: combining marks, CRLF, joiners, variation selectors, and characters with
/// two spellings.
@Suite struct ByteTextTests {
  static let precomposed = "\u{E9}"
  static let decomposed = "e\u{301}"

  @Test func textsAreEqualByTheirBytes() {
    #expect(Self.precomposed == Self.decomposed)
    #expect(Self.precomposed.bytes != Self.decomposed.bytes)
    #expect(!Self.precomposed.hasSameBytes(as: Self.decomposed))
    #expect("K".bytes != "\u{212A}".bytes)
    #expect(Set([Self.precomposed.bytes, Self.decomposed.bytes, Self.precomposed.bytes]).count == 2)
    #expect(Set(["ab".bytes, "a".bytes, "b".bytes, "".bytes]).count == 4)
    var table: [ByteText: Int] = [:]
    table[Self.precomposed] = 1
    table[Self.decomposed] = 2
    #expect(table[Self.precomposed] == 1 && table[Self.decomposed] == 2 && table["e"] == nil)
  }

  @Test func theOrderIsThatOfCodePoints() {
    let texts = ["z", "\u{FF5E}", "\u{1F600}", Self.decomposed, Self.precomposed, "e"]
    #expect(
      texts.map(\.bytes).sorted().map(\.text).map { Array($0.utf8) }
        == ["e", Self.decomposed, "z", Self.precomposed, "\u{FF5E}", "\u{1F600}"].map { Array($0.utf8) })
  }

  @Test(arguments: ["\u{301}", "\u{FE0F}", "\u{200D}x", "\u{20E3}", "\u{1F3FD}", "\n"])
  func whatFollowsDoesNotHideAMatch(mark: String) {
    let text = ("a/" + mark + "b]" + mark).bytes
    #expect(text.contains("/") && text.contains("]"))
    #expect(text.split(separator: "/").map(\.bytes) == ["a".bytes, (mark + "b]" + mark).bytes])
    #expect(text.prefix(before: "/", "?") == "a")
    #expect(text.replacing("]", with: "").bytes == ("a/" + mark + "b" + mark).bytes)
    #expect(("x" + mark).bytes.hasPrefix("x"))
    #expect(("x" + mark).bytes.dropping(prefix: "x")?.bytes == mark.bytes)
  }

  @Test func linesEndWithALineFeed() {
    #expect("a\r\nb\n\nc".bytes.split(separator: "\n").map(\.bytes) == ["a\r", "b", "", "c"].map(\.bytes))
    #expect("a\r\nb".bytes.replacing("\n", with: "N").bytes == "a\rNb".bytes)
    #expect("".bytes.split(separator: "\n") == [""])
  }

  @Test func replacingGoesFromLeftToRight() {
    #expect("aaaa".bytes.replacing("aa", with: "b") == "bb")
    #expect("aaa".bytes.replacing("aa", with: "a") == "aa")
    #expect("".bytes.replacing("a", with: "b").isEmpty)
    #expect("abcabd".bytes.replacing("abd", with: "-") == "abc-")
    #expect("abab".bytes.range(of: "") == nil)
  }

  @Test func endsAreCompared() {
    #expect("x.gguf".bytes.hasSuffix(".gguf") && !"gguf".bytes.hasSuffix(".gguf"))
    #expect("x.gguf".bytes.dropping(suffix: ".gguf") == "x")
    #expect("x.gguf\u{301}".bytes.dropping(suffix: ".gguf") == nil)
    #expect(
      "a//".withoutTrailingSlashes == "a" && "/".withoutTrailingSlashes == "/"
        && "//".withoutTrailingSlashes == "/")
    #expect("a/\u{301}/".withoutTrailingSlashes.bytes == "a/\u{301}".bytes)
  }

  /// As Python's str.strip: `" \u0301x ".strip() == "\u0301x"`.
  @Test func whiteSpaceIsTakenByCodePoints() {
    #expect(" \u{301}x\r\n".bytes.trimmed.bytes == "\u{301}x".bytes)
    #expect("\u{1F}\u{3000}x\u{85}\u{A0}".bytes.trimmed == "x")
    #expect("\u{200B}x\u{FEFF}".bytes.trimmed.bytes == "\u{200B}x\u{FEFF}".bytes)
    #expect(" \t\r\n".bytes.isBlank && "".bytes.isBlank && !" \u{301}".bytes.isBlank)
  }

  @Test func excerptsAreCutByCodePoints() {
    let heap = "a" + String(repeating: "\u{301}", count: 10_000)
    #expect(heap.count == 1)
    #expect(heap.bytes.prefix(scalars: 8).unicodeScalars.count == 8)
  }
}
