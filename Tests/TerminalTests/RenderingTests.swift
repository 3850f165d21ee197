import Terminal
import TestSupport
import Testing

@Suite struct RenderingTests {
  @Test func longLinesWrapAndShrink() {
    var session = EditingSession(columns: 10)
    session.type("abcdefgh")
    #expect(session.screen.lines == ["> abcdefgh"])
    // The row is full: the cursor waits on the next one.
    #expect((session.screen.row, session.screen.column) == (1, 0))
    session.type("ij")
    #expect(session.screen.lines == ["> abcdefgh", "ij"])
    session.type(ctrl("a") + "X")
    #expect(session.screen.lines == ["> Xabcdefg", "hij"])
    #expect((session.screen.row, session.screen.column) == (0, 3))
    session.type(ctrl("k"))
    #expect(session.screen.lines == ["> X"])
  }

  /// A wide character never starts in the last column.
  @Test func wideCharactersAreNotSplit() {
    var session = EditingSession(columns: 9)
    session.type("你好世界们")
    #expect(session.screen.lines == ["> 你好世", "界们"])
    session.type(left + left)
    #expect((session.screen.row, session.screen.column) == (1, 0))
    session.type(left)
    #expect((session.screen.row, session.screen.column) == (0, 6))
    session.type("\u{7F}")
    #expect(session.screen.lines == ["> 你世界", "们"])
  }

  @Test func atTheBottomTheScreenScrolls() {
    var session = EditingSession(columns: 10, height: 3)
    session.screen.write("one\r\ntwo\r\n")
    session.renderer.forget()
    session.type("12345678901234")
    #expect(session.screen.scrolledAway == ["> one"])
    #expect(session.screen.lines == ["two", "> 12345678", "901234"])
    session.type(ctrl("a") + "\u{1B}[3~")
    #expect(session.screen.lines == ["two", "> 23456789", "01234"])
  }

  /// Text taller than the screen shows the rows around the cursor, and nothing above it is touched twice.
  @Test func tallTextShowsTheCursor() {
    var session = EditingSession(columns: 10, height: 4)
    session.type("\u{1B}[200~" + (1...9).map { "line \($0)" }.joined(separator: "\n") + "\u{1B}[201~")
    #expect(session.screen.lines == ["line 6", "line 7", "line 8", "line 9"])
    session.type(String(repeating: up, count: 6))
    #expect(
      session.screen.lines.contains("line 3")
        && session.screen.rows[session.screen.row].joined().hasPrefix("line 3"))
    session.type("!")
    #expect(session.screen.lines.contains("line 3!"))
  }

  @Test func aNewWidthRedrawsInPlace() {
    var session = EditingSession(columns: 20, height: 8)
    session.screen.write("\r\u{1B}[Jbefore\r\n")
    session.renderer.forget()
    session.type("甲乙丙丁戊己庚辛壬癸子丑")
    #expect(session.screen.lines == ["before", "> 甲乙丙丁戊己庚辛壬", "癸子丑"])
    for columns in [12, 30, 7, 20] {
      session.resize(columns: columns)
      #expect(session.screen.lines.first == "before", "\(columns)")
      #expect(session.screen.lines.dropFirst().joined() == "> 甲乙丙丁戊己庚辛壬癸子丑", "\(columns)")
    }
    session.type(ctrl("a") + "X")
    #expect(session.screen.lines == ["before", "> X甲乙丙丁戊己庚辛", "壬癸子丑"])
  }

  @Test func finishingLeavesTheWholeTextAndTheNextRow() {
    var screen = ScreenModel(columns: 8, height: 5)
    var renderer = LineRenderer()
    let text = Array("abcdef" as String)
    screen.write(
      renderer.draw(LineLayout(prompt: "> ", characters: text, cursor: 6, columns: 8), height: 5))
    screen.write(renderer.finish(LineLayout(prompt: "> ", characters: text, columns: 8)))
    screen.write("answer")
    #expect(screen.lines == ["> abcdef", "answer"])
  }
}

@Suite struct RandomEditingTests {
  static let pieces: [String] =
    [
      "a", "b c", "你", "好，", "e\u{301}", "😀", "👨‍👩‍👧", "🇨🇳", "\t", " ", left, right, up, down, "\u{7F}",
      "\u{1B}[3~", "\u{1B}[H",
      "\u{1B}[F", "\u{1B}\r", "\u{1B}b", "\u{1B}f", "\u{1B}d", "\u{1B}\u{7F}", "\u{1B}[200~一\r\n二\u{1B}[201~",
      "\u{1B}[1;5D",
      "\u{1B}[99~",
    ] + "abefknptuwy".map(ctrl)

  /// Whatever is typed, in whatever window: the screen is that of the same text drawn afresh, and the cursor with it.
  @Test(arguments: 0..<40)
  func theScreenIsAlwaysTheText(seed: Int) {
    var generator = SplitMix64(seed: UInt64(seed))
    var session = EditingSession(
      columns: Int.random(in: 9...30, using: &generator), height: 40, history: ["一二三", "two\nlines"])
    for step in 0..<150 {
      session.type(Self.pieces.randomElement(using: &generator)!)
      if step % 40 == 39 { session.resize(columns: Int.random(in: 9...30, using: &generator)) }
      // More text than fits is cut off at the top, which is another test's matter.
      if session.editor.buffer.characters.count > 120 { session.type(ctrl("c")) }
      var fresh = ScreenModel(columns: session.screen.columns, height: 40)
      var renderer = LineRenderer()
      fresh.write(
        renderer.draw(
          LineLayout(
            prompt: "> ", characters: session.editor.buffer.characters, cursor: session.editor.buffer.cursor,
            columns: fresh.columns), height: 40))
      #expect(session.screen.lines == fresh.lines, "seed \(seed), step \(step)")
      #expect(
        (session.screen.row, session.screen.column) == (fresh.row, fresh.column), "seed \(seed), step \(step)"
      )
    }
  }

  /// Any bytes: no crash, and no control character ever reaches the text.
  @Test func anyBytes() {
    var generator = SplitMix64(seed: 1)
    var session = EditingSession(columns: 17, height: 5)
    for _ in 0..<3000 {
      session.type(
        (0..<Int.random(in: 1...6, using: &generator)).map { _ in
          let interesting: [UInt8] = [
            0x1B, 0x5B, 0x4F, 0x7E, 0x32, 0x30, 0x31, 0xE4, 0xBD, 0xF0, 0x9F, 0x0A, 3, 4,
          ]
          return Bool.random(using: &generator)
            ? interesting.randomElement(using: &generator)! : UInt8.random(in: 0...255, using: &generator)
        })
      let text = session.editor.buffer.text
      #expect(
        text.unicodeScalars.allSatisfy {
          $0 == "\n" || $0 == "\t" || $0.properties.generalCategory != .control
        })
    }
  }
}

@Suite struct TextWidthTests {
  @Test(arguments: [
    ("a", 1), ("é", 1), ("e\u{301}", 1), ("你", 2), ("，", 2), ("：", 2), ("｡", 1), ("한", 2),
    ("\u{1112}\u{1161}\u{11AB}", 2),
    ("カ", 2), ("ｶ", 1), ("😀", 2), ("👍🏽", 2), ("👨‍👩‍👧", 2), ("🇨🇳", 2), ("❤\u{FE0F}", 2), ("\u{200B}", 0), ("𠀀", 2),
    ("─", 1),
    (">用户：", 7), ("\u{07}", 0),
  ])
  func columns(text: String, expected: Int) {
    #expect(TextWidth.of(text) == expected)
  }
}

@Suite struct PrintableTextTests {
  /// An answer cannot move the cursor, set the title or ask the terminal to type.
  @Test func controlCharactersAreShownAsReplaced() {
    #expect(PrintableText.sanitized("a\u{1B}[2J\u{9B}b\u{07}\r\nc\td\u{7F}") == "a�[2J�b�\nc\td�")
    #expect(PrintableText.sanitized("你好\n") == "你好\n")
  }
}
