import Calibration
import Files
import Foundation
import TestSupport
import Testing
import Tokenization

@Suite struct CalibrationTests {
  static let tokenizer: (any Tokenizer)? = try? TokenizerLoader.load(FolderFiles(Fixture.tinyZhinao))

  static func load(_ paths: [String], _ options: CalibrationOptions = CalibrationOptions()) throws
    -> CalibrationSet
  {
    let tokenizer = try #require(Self.tokenizer)
    return try CalibrationSet.load(
      files: paths.map { CalibrationFile($0) }, tokenizer: tokenizer,
      template: ChatTemplate.detected(tokenizer: tokenizer),
      vocabularySize: 3072,
      options: options)
  }

  static func load(_ text: String, as name: String, _ options: CalibrationOptions = CalibrationOptions())
    throws
    -> CalibrationSet
  {
    let folder = try TemporaryFolder()
    try AtomicFile.write(text, to: folder.file(name))
    return try load([folder.file(name)], options)
  }

  @Test func everyShapeOfARecordIsRead() throws {
    let tokenizer = try #require(Self.tokenizer)
    let chat = try #require(try ChatTemplate.detected(tokenizer: tokenizer))
    let expected = try chat.encode(
      [ChatMessage(role: "user", content: "你好"), ChatMessage(role: "assistant", content: "您好")],
      tokenizer: tokenizer, addingGenerationPrompt: false)
    for record in [
      #"{"id": 1, "conversations": [{"from": "user", "value": "你好"}, {"from": "assistant", "value": "您好"}]}"#,
      #"{"conversations": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好"}]}"#,
      #"{"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好"}]}"#,
      #"{"conversations": [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "您好"}]}"#,
    ] {
      #expect(try Self.load("[\(record)]", as: "c.json").windows == [expected])
      #expect(try Self.load(record + "\n\n", as: "c.jsonl").windows == [expected])
    }
    #expect(try Self.load(#"{"text": "你好"}"#, as: "t.jsonl").windows == [tokenizer.encode("你好")])
    #expect(try Self.load(#"{"input_ids": [1, 2, 3]}"#, as: "i.jsonl").windows == [[1, 2, 3]])
    #expect(try Self.load(#"{"input_ids": [[1, 2, 3]]}"#, as: "i.jsonl").windows == [[1, 2, 3]])
    #expect(try Self.load("你好", as: "p.txt").windows == [tokenizer.encode("你好")])
  }

  /// Lines end at line feeds only, as Python's `for line in file` with newline="\\n" has it.
  @Test func linesOfAFileEndAtLineFeeds() throws {
    let tokenizer = try #require(Self.tokenizer)
    for end in ["\n", "\r\n", " \t\r\n", "\n\r\n\n"] {
      let file = [#"{"text": "你好"}"#, #"{"text": "春天"}"#].map { $0 + end }.joined()
      #expect(try Self.load(file, as: "t.jsonl").windows == [tokenizer.encode("你好"), tokenizer.encode("春天")])
    }
    // Inside a text these are no line ends, and nothing that follows a quote hides it.
    for mark in ["\u{2028}", "\u{85}", "\u{B}", "\u{301}", "\u{FE0F}", "\u{200D}"] {
      let text = "a\(mark)b\(mark)"
      let record = mark == "\u{B}" ? "a\\u000bb\\u000b" : text
      #expect(try Self.load("{\"text\": \"\(record)\"}\n", as: "t.jsonl").windows == [tokenizer.encode(text)])
    }
    #expect(try Self.load("a\r\nb\u{301}", as: "p.txt").windows == [tokenizer.encode("a\r\nb\u{301}")])
    // The name is taken by bytes too.
    #expect(try Self.load("a {}", as: "x.json\u{301}").windows == [tokenizer.encode("a {}")])
  }

  @Test func gzippedFilesAreReadTheSame() throws {
    let folder = try TemporaryFolder()
    let source = Fixture.tinyZhinao + "/calibration.jsonl"
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", "gzip -c '\(source)' > '\(folder.file("c.jsonl.gz"))'"]
    try process.run()
    process.waitUntilExit()
    #expect(try Self.load([folder.file("c.jsonl.gz")]).windows == Self.load([source]).windows)
  }

  @Test func windowsAreCutAndChosenAsAsked() throws {
    let source = Fixture.tinyZhinao + "/calibration.jsonl"
    let all = try Self.load([source])
    #expect(all.windows.count == 96 && all.windows.allSatisfy { $0.count <= 512 })
    #expect(all.windows.count { $0.count == 512 } == 95)
    #expect(all.report.tokens == all.tokenCount)
    let some = try Self.load([source], CalibrationOptions(sequenceLength: 64, samples: 10, seed: 1))
    #expect(some.windows.count == 10 && some.windows.allSatisfy { $0.count == 64 })
    #expect(
      try Self.load([source], CalibrationOptions(sequenceLength: 64, samples: 10, seed: 1)).digest
        == some.digest)
    #expect(
      try Self.load([source], CalibrationOptions(sequenceLength: 64, samples: 10, seed: 2)).digest
        != some.digest)
    let packed = try Self.load(
      [source], CalibrationOptions(sequenceLength: 1000, samples: 1000, packing: .pack))
    #expect(packed.windows.allSatisfy { $0.count == 1000 })
    #expect(packed.windows.count == packed.report.sources[0].tokensFound / 1000)
    let text = try Self.load(
      [Fixture.tinyZhinao + "/eval.zh.txt"], CalibrationOptions(sequenceLength: 256, samples: 5))
    #expect(text.windows.count == 5 && text.windows.allSatisfy { $0.count == 256 })
  }

  @Test func reasonsSayWhichRecordBreaksWhichRule() throws {
    func reason(_ text: String, _ name: String) throws -> CalibrationError.Reason? {
      (#expect(throws: CalibrationError.self) { try Self.load(text, as: name) })?.reason
    }
    #expect(try reason("\n{\"a\": 1}", "c.jsonl") == .record(place: "item 0", .noKnownField(["a"])))
    #expect(try reason("{\"a\": 1}\n\n3", "c.jsonl") == .record(place: "line 1", .noKnownField(["a"])))
    #expect(
      try reason("{\"input_ids\": [1, 99999]}", "c.jsonl")
        == .idOutOfVocabulary(place: "item 0", id: 99999, vocabularySize: 3072))
    #expect(
      try reason("[{\"messages\": []}]", "c.json") == .record(place: "item 0", .conversation(.noTurns)))
    #expect(try reason("", "c.txt") == .noWindow(length: 512))
  }

  @Test(arguments: [
    ("{", "c.json", "JSON"), ("{\"a\": 1}\n[]", "c.jsonl", "line 1"),
    ("[{\"conversations\": []}]", "c.json", "item 0"),
    ("{\"input_ids\": [1, \"x\"]}", "c.jsonl", "item 0"), ("{\"input_ids\": [1, 99999]}", "c.jsonl", "99999"),
    ("", "c.txt", "no calibration window"), ("{\"messages\": [{\"role\": 1}]}", "c.jsonl", "a turn has no"),
  ])
  func whatIsWrongIsNamed(text: String, name: String, part: String) throws {
    let error = try #require(
      #expect(throws: (any Error).self) { try Self.load(text, as: name) } as? any DiagnosedError)
    #expect(error.description.contains(part), "\(error.description)")
    #expect(error.category == .badInput)
  }
}
