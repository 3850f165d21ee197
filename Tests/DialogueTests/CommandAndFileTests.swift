import Dialogue
import Files
import JSON
import TestSupport
import Testing
import Tokenization

@Suite struct ChatCommandTests {
  @Test(arguments: [
    ("clear", ChatCommand.clear), (" stream ", .stream), ("vim", .edit), ("/edit", .edit), ("exit", .exit),
    ("/quit", .exit), ("/stats", .stats), ("/regenerate", .regenerate), ("/help", .help), ("", .nothing),
    ("  \n", .nothing),
    ("/system", .system(nil)), ("/system 你是诗人。 ", .system("你是诗人。")), ("/system -", .system("")),
    ("/save a b.json", .save("a b.json")), ("/load\t~/x.json", .load("~/x.json")),
    ("/save", .incomplete("/save")),
    ("/load  ", .incomplete("/load")), ("/nonsense x", .unknown("/nonsense")),
    ("//etc/hosts?", .message("/etc/hosts?")),
    (" \u{301}x", .message(" \u{301}x")), ("/save a\u{301}/\u{301}.json\r\n", .save("a\u{301}/\u{301}.json")),
    ("//\u{301}", .message("/\u{301}")), ("/\u{301}clear", .unknown("/\u{301}clear")),
    ("/system\r\nA", .system("A")), ("\u{1F}exit\u{3000}", .exit),
    ("clear the table", .message("clear the table")), ("Exit", .message("Exit")), (" 你好 ", .message(" 你好 ")),
    // A combining mark, a joiner or a variation selector behind a slash, a space or a command does not hide them.
    ("/\u{301}x", .unknown("/\u{301}x")), ("//\u{FE0F}", .message("/\u{FE0F}")),
    ("/save \u{301}a", .save("\u{301}a")), ("/system\r\n\u{200D}b", .system("\u{200D}b")),
    ("/help\u{301}", .unknown("/help\u{301}")), ("exit\r\n", .exit),
  ])
  func commands(line: String, expected: ChatCommand) { #expect(ChatCommand(line) == expected) }
}

@Suite struct ConversationFileTests {
  static let conversation = Conversation(
    system: "你是诗人。",
    turns: [
      ChatMessage(role: "user", content: "写\n诗"), ChatMessage(role: "assistant", content: "\"月\"\u{1B}"),
      ChatMessage(role: "user", content: "再来"),
    ])

  @Test func savedConversationsAreFineTuningDataAndComeBack() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("c.json")
    try AtomicFile.write(ConversationFile.text(of: Self.conversation, id: "x"), to: path)
    #expect(try ConversationFile.read(path: path) == [Self.conversation])
    let record = try #require(try JSONValue.parse(file: path).arrayValue?.first)
    #expect(record["id"]?.stringValue == "x")
    let turns = try #require(record["conversations"]?.arrayValue)
    #expect(turns.map { $0["from"]?.stringValue } == ["system", "user", "assistant", "user"])
    #expect(turns[1].objectValue?.keys == ["from", "value"])
  }

  @Test func theModelsOwnFineTuningDataIsRead() throws {
    let found = try ConversationFile.read(path: Fixture.tinyZhinao + "/calibration.json")
    #expect(found.count > 10 && found.allSatisfy { $0.system != nil && $0.turns.first?.role == "user" })
  }

  @Test(arguments: [
    "[]", "{}", "3", "[{\"text\": \"a\"}]", "[{\"conversations\": [{\"from\": 1}]}]", "[", "\u{1}",
  ])
  func anythingElseIsRefused(text: String) throws {
    let folder = try TemporaryFolder()
    let path = folder.file("c.json")
    try AtomicFile.write(text, to: path)
    #expect(throws: (any Error).self) { try ConversationFile.read(path: path) }
  }
}

@Suite struct PhrasesTests {
  @Test func theLocaleDecides() {
    func language(_ environment: [String: String]) -> Phrases.Language {
      Phrases.Language(environment: environment)
    }
    #expect(language(["LANG": "zh_CN.UTF-8"]) == .chinese)
    #expect(language(["LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"]) == .english)
    #expect(language(["LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_TW", "LC_ALL": ""]) == .chinese)
    #expect(language([:]) == .english && language(["LANG": "C"]) == .english)
    #expect(Phrases(.chinese).user == ">用户：" && Phrases(.chinese).assistant == ">助手：")
    #expect(Phrases(.english).user == ">User: " && Phrases(.english).assistant == ">Assistant: ")
  }
}
