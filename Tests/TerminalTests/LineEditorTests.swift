import Terminal
import Testing

@Suite struct LineEditorTests {
  @Test func chineseTextIsEditedByCharacters() {
    var session = EditingSession()
    session.type("你好世界")
    #expect(session.screen.lines == ["> 你好世界"])
    #expect(session.screen.column == 10)
    session.type(left + left + "，")
    #expect(session.screen.lines == ["> 你好，世界"])
    #expect(session.screen.column == 8)
    session.type("\u{7F}\u{7F}")
    #expect(session.screen.lines == ["> 你世界"])
    session.type("\u{1B}[3~")
    #expect(session.screen.lines == ["> 你界"])
    session.type("\r")
    #expect(session.outcomes == [.submitted("你界")])
  }

  /// One Backspace removes what a person sees as one character.
  @Test(arguments: ["é", "e\u{301}", "👨‍👩‍👧", "🇨🇳", "字", "한"])
  func backspaceRemovesOneCharacter(character: String) {
    var session = EditingSession()
    session.type("a" + character)
    #expect(session.editor.buffer.characters.count == 2)
    session.type("\u{7F}")
    #expect(session.editor.buffer.text == "a")
    #expect(session.screen.lines == ["> a"])
  }

  /// A combining mark typed later joins the character before the cursor.
  @Test func marksJoin() {
    var buffer = LineBuffer("eb")
    buffer.moveLeft()
    buffer.insert("\u{301}")
    #expect(buffer.text == "e\u{301}b" && buffer.cursor == 1)
  }

  @Test func controlKeys() {
    var session = EditingSession(columns: 40)
    session.type("one two three")
    session.type(ctrl("a") + "X")
    #expect(session.screen.lines == ["> Xone two three"])
    session.type("\u{1B}[F" + ctrl("w"))
    #expect(session.screen.lines == ["> Xone two"])
    session.type(ctrl("y") + ctrl("a") + right + ctrl("k"))
    #expect(session.screen.lines == ["> X"])
    session.type(ctrl("y") + ctrl("u"))
    #expect(session.screen.lines == [">"])
    session.type(ctrl("y"))
    #expect(session.screen.lines == ["> Xone two three"])
    session.type("\u{1B}b" + ctrl("k"))
    #expect(session.screen.lines == ["> Xone two"])
    session.type("\u{1B}[H\u{1B}f|" + ctrl("e") + "|" + ctrl("b") + ctrl("t"))
    #expect(session.editor.buffer.text == "Xone| two| ")
    session.type("\u{1B}\u{7F}")
    #expect(session.editor.buffer.text == "Xone| ")
  }

  @Test func theEnds() {
    var session = EditingSession()
    session.type(left + "\u{7F}\u{1B}[3~" + ctrl("k") + ctrl("u") + ctrl("w") + ctrl("y") + ctrl("t") + right)
    #expect(session.editor.buffer.isEmpty && session.outcomes.isEmpty)
    session.type(ctrl("d"))
    #expect(session.outcomes == [.ended])
    session.type("ab" + left + ctrl("d"))
    #expect(session.editor.buffer.text == "a" && session.outcomes == [.ended])
    // Ctrl-C clears the line; on an empty one it says so.
    session.type(ctrl("c"))
    #expect(session.editor.buffer.isEmpty && session.outcomes == [.ended] && session.screen.lines == [">"])
    session.type(ctrl("c") + ctrl("z") + ctrl("l"))
    #expect(session.outcomes == [.ended, .interrupted, .suspended, .clearScreen])
  }

  @Test func historyKeepsTheLineBeingWritten() {
    var session = EditingSession(history: ["一", "two"])
    session.type("draft" + up)
    #expect(session.screen.lines == ["> two"])
    session.type(up + up)
    #expect(session.screen.lines == ["> 一"])
    session.type(down + down)
    #expect(session.screen.lines == ["> draft"])
    session.type(down + "!")
    #expect(session.screen.lines == ["> draft!"])
    session.type(ctrl("p") + "\r")
    #expect(session.outcomes == [.submitted("two")])
  }

  @Test func linesWithinALine() {
    var session = EditingSession()
    session.type("\u{1B}[200~first\nsecond\nthird\u{1B}[201~")
    #expect(session.outcomes.isEmpty)
    #expect(session.screen.lines == ["> first", "second", "third"])
    session.type(up + "\u{1B}[F!")
    #expect(session.screen.lines == ["> first", "second!", "third"])
    session.type(up + ctrl("a") + "\u{1B}\r")
    #expect(session.screen.lines == [">", "first", "second!", "third"])
    session.type("\r")
    #expect(session.outcomes == [.submitted("\nfirst\nsecond!\nthird")])
  }
}

@Suite struct LineHistoryTests {
  @Test func linesAreComparedByBytes() {
    var history = LineHistory()
    for line in ["\u{E9}", "e\u{301}", " \u{301}", "\u{3000}\r\n"] { history.add(line) }
    #expect(
      history.lines.map { Array($0.utf8) } == ["\u{E9}", "e\u{301}", " \u{301}"].map { Array($0.utf8) })
  }

  @Test func blankAndRepeatedLinesAreNotKept() {
    var history = LineHistory(limit: 3)
    #expect(
      history.add("a") && !history.add("a") && !history.add("  ") && history.add("b") && history.add("a"))
    #expect(history.lines == ["a", "b", "a"])
    #expect(history.add("c") && history.lines == ["b", "a", "c"])
  }
}
