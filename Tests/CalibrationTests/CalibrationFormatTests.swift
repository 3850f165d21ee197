import Calibration
import Files
import Foundation
import JSON
import TestSupport
import Testing
import Tokenization

/// The content of a calibration file says how it is read; its name only contradicts.
@Suite struct CalibrationFormatTests {
  private typealias Base = CalibrationTests

  private static func load(
    _ bytes: [UInt8], as name: String, format: CalibrationFormat = .auto, template: ChatTemplate? = nil
  ) throws -> CalibrationSet {
    let folder = try TemporaryFolder()
    try AtomicFile.write(bytes, to: folder.file(name))
    guard let template else {
      return try CalibrationTests.load([folder.file(name)], CalibrationOptions(format: format))
    }
    return try CalibrationSet.load(
      files: [CalibrationFile(folder.file(name))], tokenizer: #require(CalibrationTests.tokenizer),
      template: template,
      vocabularySize: 3072, options: CalibrationOptions(format: format))
  }

  private static func load(_ text: String, as name: String, format: CalibrationFormat = .auto) throws
    -> CalibrationSet
  {
    try load(Array(text.utf8), as: name, format: format)
  }

  private static func reason(_ text: String, as name: String, format: CalibrationFormat = .auto) throws
    -> CalibrationError.Reason?
  {
    (#expect(throws: CalibrationError.self) { try load(text, as: name, format: format) })?.reason
  }

  private static let record = #"{"text": "你好，世界"}"#

  @Test(arguments: [
    "d.json", "d.JSON", "d.jsonl", "d.JSONL", "d", "d.txt", "d.json.txt", "d.jsonl.bak", "d.csv", "d.yaml",
    "d.md",
  ])
  func recordsAreRecordsUnderAnyName(name: String) throws {
    let expected = [try #require(Base.tokenizer).encode("你好，世界")]
    for (text, format) in [
      ("[\(Self.record)]", CalibrationFormat.json), ("[\n  \(Self.record)\n]\n", .json), (Self.record, .json),
      ("\(Self.record)\n\(Self.record)\n", .jsonl), ("\n\(Self.record)\r\n\r\n\(Self.record)", .jsonl),
      ("{\"data\": [\(Self.record)], \"version\": 1}", .json), ("{\"rows\": [\(Self.record)]}", .json),
      ("\u{FEFF}[\(Self.record)]", .json), ("\u{FEFF}\(Self.record)\n\(Self.record)", .jsonl),
      (#"["你好，世界"]"#, .json), ("\"你好，世界\"\n\"你好，世界\"", .jsonl),
    ] {
      let set = try Self.load(text, as: name)
      #expect(set.report.sources[0].format == format)
      #expect(set.windows == (format == .jsonl ? expected + expected : expected), "\(text)")
    }
  }

  /// Text that begins with a brace or a bracket, as code, Markdown and LaTeX do.
  @Test(arguments: [
    "{ int x = 3; }", "[Chapter 1]", "[link](url) text", "[1] Smith, 2004", "[[wiki]] text", "{\\bf bold}",
    "\"Hello,\" he said.", "\"A\" and \"B\"", "a, text, with commas\nand lines", "text", "<p>not a page",
  ])
  func textIsTextUnderMostNames(text: String) throws {
    let ids = try #require(Base.tokenizer).encode(text)
    for name in ["d.txt", "d", "d.md", "d.py"] {
      let set = try Self.load(text, as: name)
      #expect(set.windows == [ids] && set.report.sources[0].format == .text)
      #expect(try Self.load("\u{FEFF}" + text, as: name).windows == [ids])
    }
    for name in ["d.json", "d.JSONL.gz", "d.ndjson"] {
      guard case .notJSON? = try Self.reason(text, as: name) else {
        Issue.record("\(name) with \(text) is no JSON")
        continue
      }
    }
    #expect(try Self.load(text, as: "d.json", format: .text).windows == [ids])
  }

  /// What looks like JSON and is none is damaged, or code: a person decides.
  @Test func whatOnlyLooksLikeJSONIsRefusedWithTheWayOut() throws {
    for text in [#"{"a", "b"};"#, #"{"text": "x"#, #"["x", y]"#, "{}()"] {
      let error = #expect(throws: CalibrationError.self) { try Self.load(text, as: "d.txt") }
      #expect(error?.description.contains("--calibration-format text") == true)
      #expect(try Self.load(text, as: "d.txt", format: .text).report.sources[0].kind == "text")
    }
    // A damaged line is named.
    guard case .notJSON(place: "line 2", _)? = try Self.reason("\(Self.record)\n{\"text\"", as: "d.json")
    else {
      Issue.record("line 2 is damaged")
      return
    }
  }

  @Test(
    arguments: [
      ("<!DOCTYPE html><p>x", "d.txt", .html), ("\n<HTML>", "d", .html),
      ("<?xml version=\"1.0\"?>", "d.txt", .xml),
      ("a,b\n1,2", "d.csv", .table), ("x y", "d.TSV", .table), ("text,label\nhello,1", "d.txt", .table),
      ("\"instruction\"\t\"output\"\na\tb", "d", .table), ("a: 1", "d.yml", .yaml),
      ("{'text': 'x'}\n", "d.txt", .pythonLiteral), ("[{'text': 'x'}]", "d.json.bak", .pythonLiteral),
      (#"{"text": {"0": "a", "1": "b"}, "id": {"0": 1, "1": 2}}"#, "d.json", .columns),
    ] as [(String, String, StructuredText)])
  func otherTextFormatsAreNamed(text: String, name: String, format: StructuredText) throws {
    #expect(try Self.reason(text, as: name) == .structured(format))
    #expect(try Self.load(text, as: name, format: .text).report.sources[0].kind == "text")
  }

  @Test func bytesThatAreNoTextAreNamed() throws {
    for (bytes, format) in [
      (Array("PAR1".utf8) + [0x15, 4], ForeignFormat.parquet), ([0x28, 0xB5, 0x2F, 0xFD, 0], .zstandard),
      ([0xFF, 0xFE, 0x7B, 0], .utf16), ([0x80, 4, 0x95], .pickle),
    ] {
      for option in CalibrationFormat.allCases {
        let error = #expect(throws: FileError.self) { try Self.load(bytes, as: "d.json", format: option) }
        #expect(error?.reason == .foreign(format))
      }
    }
    let latin = #expect(throws: CalibrationError.self) {
      try Self.load([0x63, 0x61, 0x66, 0xE9], as: "d.txt")
    }
    #expect(latin?.reason == .notUTF8)
    let wide = #expect(throws: CalibrationError.self) { try Self.load([0x61, 0, 0x62, 0], as: "d.txt") }
    #expect(wide?.reason == .zeroBytes)
  }

  @Test func theOptionDecidesAgainstTheContent() throws {
    let tokenizer = try #require(Base.tokenizer)
    #expect(
      try Self.load(Self.record, as: "d.json", format: .text).windows == [tokenizer.encode(Self.record)])
    #expect(try Self.load(Self.record, as: "d.json", format: .jsonl).report.sources[0].format == .jsonl)
    guard case .notJSON? = try Self.reason("\(Self.record)\n\(Self.record)", as: "d", format: .json) else {
      Issue.record("two documents are no document")
      return
    }
  }

  // MARK: Records

  private static func ids(_ messages: [(String, String)]) throws -> [Int] {
    let tokenizer = try #require(Base.tokenizer)
    let chat = try #require(try ChatTemplate.detected(tokenizer: tokenizer))
    return try chat.encode(
      messages.map { ChatMessage(role: $0.0, content: $0.1) }, tokenizer: tokenizer,
      addingGenerationPrompt: false)
  }

  @Test func recordsAreWhatTheirFieldsSay() throws {
    let tokenizer = try #require(Base.tokenizer)
    let short = [("system", "Be brief."), ("user", "你好"), ("assistant", "您好")]
    for (record, expected) in [
      (
        #"{"system": "Be brief.", "conversations": [{"from": "human", "value": "你好"}, {"from": "chatgpt", "value": "您好"}]}"#,
        try Self.ids(short)
      ),
      (#"{"instruction": "你好", "input": "", "output": "您好", "system": "Be brief."}"#, try Self.ids(short)),
      (#"{"instruction": "你好", "output": "您好", "text": "x"}"#, try Self.ids(Array(short[1...]))),
      (
        #"{"messages": [{"role": "user", "content": [{"type": "text", "text": "你"}, {"type": "text", "text": "好"}]}, {"role": "assistant", "content": null}]}"#,
        try Self.ids([("user", "你\n好"), ("assistant", "")])
      ),
      (
        #"[{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好"}]"#,
        try Self.ids(Array(short[1...]))
      ),
      (
        #"{"conversations": [{"conversations": [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "您好"}]}]}"#,
        try Self.ids(Array(short[1...]))
      ),
      (#"{"prompt": "你好", "completion": "世界"}"#, tokenizer.encode("你好世界")),
      (#"{"content": "你好世界"}"#, tokenizer.encode("你好世界")),
    ] { #expect(try Self.load(record, as: "d").windows == [expected], "\(record)") }
  }

  /// What is left out is counted by its reason, and fields that say nothing are counted by name.
  @Test func everyRecordIsAccountedFor() throws {
    let lines = [
      #"{"id": 1, "text": "你好，世界"}"#, #"{"id": 2, "title": "x"}"#,
      #"{"messages": [{"role": "narrator", "content": "x"}]}"#, #"{"text": "春天的花"}"#,
      #"{"messages": [{"role": "narrator", "content": "y"}]}"#, #"{"role": "user", "content": "x"}"#,
      #"{"text": ""}"#,
      "3", #"{"input_ids": ["x"]}"#, #"{"text": "一二三四", "input_ids": [1]}"#,
    ]
    let set = try Self.load(lines.joined(separator: "\n"), as: "d.jsonl")
    let source = set.report.sources[0]
    #expect(source.records == 3 && set.windows.count == 3 && source.leftOut.count == 7)
    let found = source.leftOut.reasons.map { "\($0.count) \($0.place) \($0.problem)" }
    #expect(found.count == 6)
    for (part, place) in [
      ("1 line 2 it has none of", "id, title"), ("2 line 3 the role \"narrator\"", "unknown"),
      ("1 line 6 it is one turn", "messages"), ("1 line 7 it has fewer than two tokens", ""),
      ("1 line 8 it is neither", ""), ("1 line 9 input_ids", "whole number"),
    ] {
      #expect(
        found.contains { $0.hasPrefix(part) && $0.contains(place) || place.isEmpty && $0.hasPrefix(part) },
        "\(part)")
    }
    #expect(source.unusedFields == ["id": 1, "input_ids": 1])
    let json = set.report.json.arrayValue?.first
    #expect(json?["left_out"]?.arrayValue?.count == 6 && json?["unused_fields"] == ["id": 1, "input_ids": 1])
    #expect(json?["format"] == "jsonl")
    // With --pack a short record is joined to the others.
    let folder = try TemporaryFolder()
    try AtomicFile.write(lines.joined(separator: "\n"), to: folder.file("d"))
    let packed = try CalibrationTests.load([folder.file("d")], CalibrationOptions(packing: .pack))
    #expect(packed.report.sources[0].leftOut.count == 6)
  }

  /// A template that refuses a conversation leaves it out; one that is wrong is an error.
  @Test func whatTheTemplateRefusesIsLeftOut() throws {
    func template(_ source: String) -> ChatTemplate { .own(ModelTemplate(source: source, label: "t.jinja")) }
    let strict = template(
      "{%- for m in messages -%}{%- if m.role == 'system' -%}{{ raise_exception('no system') }}{%- endif -%}{{ m.content }}{%- endfor -%}"
    )
    let lines = [
      #"{"messages": [{"role": "user", "content": "你好，世界"}]}"#,
      #"{"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "你好，世界"}]}"#,
    ]
    let set = try Self.load(Array(lines.joined(separator: "\n").utf8), as: "d", template: strict)
    #expect(set.windows.count == 1 && set.report.sources[0].leftOut.reasons.first?.place == "line 2")
    #expect("\(try #require(set.report.sources[0].leftOut.reasons.first).problem)".contains("no system"))
    #expect(throws: CalibrationError.self) { try Self.load(Array(lines[1].utf8), as: "d", template: strict) }
    #expect(throws: ChatTemplateError.self) {
      try Self.load(Array(lines[0].utf8), as: "d", template: template("{% for"))
    }
  }

  /// A template that does not know tools would leave their calls out without a word.
  @Test func callsAreWrittenOrTheRecordIsLeftOut() throws {
    let call =
      #"{"tools": [{"name": "f"}], "messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}]}"#
    let plain = #"{"tools": [{"name": "f"}], "messages": [{"role": "user", "content": "你好，世界"}]}"#
    let deaf = ModelTemplate(
      source: "{%- for m in messages -%}{{ m.content }}{%- endfor -%}", label: "t.jinja")
    let set = try Self.load(Array("\(call)\n\(plain)".utf8), as: "d", template: .own(deaf))
    #expect(set.report.sources[0].leftOut.reasons.map(\.problem) == [.callsNotWritten])
    #expect(set.report.sources[0].unusedFields == ["tools": 1])
    let able = ModelTemplate(
      source: """
        {%- for t in tools or [] -%}{{ t.function.name }}{%- endfor -%}
        {%- for m in messages -%}{{ m.content or '' }}{%- for c in m.tool_calls or [] -%}
        {{ c.function.name + c.function.arguments|tojson }}{%- endfor -%}{%- endfor -%}
        """, label: "t.jinja")
    let both = try Self.load(Array("\(call)\n\(plain)".utf8), as: "d", template: .own(able))
    #expect(both.windows.count == 2 && both.report.sources[0].unusedFields.isEmpty)
    #expect(both.windows[0] == (try #require(Base.tokenizer)).encode("f你好f{}"))
  }
}
