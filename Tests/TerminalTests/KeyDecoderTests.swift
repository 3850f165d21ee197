import Terminal
import Testing

@Suite struct KeyDecoderTests {
  static func keys(_ bytes: [UInt8]) -> [Key] {
    var decoder = KeyDecoder()
    return decoder.feed(bytes)
  }

  @Test(arguments: [
    ("a", [Key.text("a")]), ("你好", [.text("你好")]), ("\r", [.enter]), ("\n", [.enter]),
    ("\u{7F}", [.backspace]), ("\u{08}", [.backspace]), ("\u{1B}[D", [.left]), ("\u{1B}OC", [.right]),
    ("\u{1B}[A\u{1B}[B", [.up, .down]), ("\u{1B}[H\u{1B}[F", [.home, .end]),
    ("\u{1B}OH\u{1B}OF", [.home, .end]),
    ("\u{1B}[1~\u{1B}[4~\u{1B}[7~\u{1B}[8~", [.home, .end, .home, .end]), ("\u{1B}[3~", [.delete]),
    ("\u{1B}[1;5C\u{1B}[1;3D", [.wordRight, .wordLeft]), ("\u{1B}b", [.alt("b")]), ("\u{1B}\r", [.newline]),
    ("\u{1B}[13;2u", [.newline]), ("\u{1B}\u{7F}", [.altBackspace]),
    ("\u{01}\u{1A}", [.control("a"), .control("z")]),
    ("x\u{1B}[Dy", [.text("x"), .left, .text("y")]),
    // Unknown ones leave nothing on the line.
    ("\u{1B}[15~\u{1B}[[Aq", [.text("q")]), ("\u{1B}[<0;3;4Mq", [.enter, .text("q")].suffix(1)),
  ])
  func sequences(text: String, expected: [Key]) {
    let found = Self.keys(Array(text.utf8))
    #expect(Array(found.suffix(expected.count)) == expected)
  }

  /// However the bytes are cut into pieces, the keys are the same.
  @Test func piecesDoNotMatter() {
    let text = "你\u{1B}[1;5Cé😀\u{1B}[200~贴\r\n上\u{1B}[201~\u{1B}[3~z"
    let expected: [Key] = [.text("你"), .wordRight, .text("é😀"), .paste("贴\n上"), .delete, .text("z")]
    let bytes = Array(text.utf8)
    #expect(Self.keys(bytes) == expected)
    for cut in 1..<bytes.count {
      var decoder = KeyDecoder()
      let keys = decoder.feed(Array(bytes[..<cut])) + decoder.feed(Array(bytes[cut...]))
      #expect(joined(keys) == expected, "cut at \(cut)")
    }
    var decoder = KeyDecoder()
    #expect(joined(bytes.flatMap { decoder.feed([$0]) }) == expected)
    #expect(!decoder.isWaiting)
  }

  private func joined(_ keys: [Key]) -> [Key] {
    keys.reduce(into: []) { result, key in
      if case .text(let more) = key, case .text(let text)? = result.last {
        result[result.count - 1] = .text(text + more)
      } else {
        result.append(key)
      }
    }
  }

  @Test func brokenBytesAreDropped() {
    #expect(Self.keys([0xFF, 0x80, 0x61]) == [.text("a")])
    #expect(Self.keys([0xE4, 0x61]) == [.text("a")])
    #expect(Self.keys([0xED, 0xA0, 0x80, 0x62]) == [.text("b")], "a surrogate")
    #expect(Self.keys([0xC2, 0x9B, 0x63]) == [.text("c")], "a control character of two bytes")
    #expect(Self.keys([0x1B] + Array("[".utf8) + Array(repeating: 0x31, count: 100)).count <= 1)
  }

  @Test func aLoneEscapeGoes() {
    var decoder = KeyDecoder()
    #expect(decoder.feed([0x1B]) == [])
    #expect(decoder.isWaiting)
    decoder.giveUp()
    #expect(decoder.feed(Array("[D".utf8)) == [.text("[D")])
  }

  /// What is pasted is text: it cannot press Enter, and its control characters go.
  @Test func pastesAreText() {
    let paste = "\u{1B}[200~a\rb\r\nc\td\u{1B}[31m\u{07}\u{03}\u{1B}[201~\r"
    #expect(Self.keys(Array(paste.utf8)) == [.paste("a\nb\nc\td[31m"), .enter])
  }

  @Test func aPasteWithoutEndDoesNotSwallowTheKeyboard() {
    var decoder = KeyDecoder()
    #expect(decoder.feed(Array("\u{1B}[200~abc".utf8)) == [])
    #expect(decoder.feed([3]) == [.control("c")])
    #expect(decoder.feed(Array("x".utf8)) == [.text("x")])
  }
}
