import Files
import JSON
import TestSupport
import Testing
import Tokenization
import Training
import Tuning

/// Records of every form, and what is refused.
@Suite struct DataRecordTests {
  static func load(
    _ text: String, as name: String = "data.jsonl", validation: String? = nil,
    _ options: TuningDataOptions = TuningDataOptions(), weight: Double? = nil
  ) throws -> TuningDataset {
    let folder = try TemporaryFolder()
    try AtomicFile.write(text, to: folder.file(name))
    if let validation { try AtomicFile.write(validation, to: folder.file("validation.jsonl")) }
    return try TuningDataset.load(
      files: [TuningFile(folder.file(name), weight: weight)],
      validationFiles: validation == nil ? [] : [TuningFile(folder.file("validation.jsonl"))],
      model: try DataGoldenTests.model(), options: options)
  }

  static func reason(_ body: () throws -> TuningDataset) -> TuningDataError.Reason? {
    do {
      _ = try body()
      return nil
    } catch { return (error as? TuningDataError)?.reason }
  }

  /// The same conversation in every form gives the same row.
  @Test func conversationsOfEveryForm() throws {
    let expected = try Self.load(
      #"{"conversations": [{"from": "user", "value": "你好"}, {"from": "assistant", "value": "您好"}]}"#
    ).rows
    #expect(expected.count == 1)
    for record in [
      #"{"id": 1, "conversations": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好"}]}"#,
      #"{"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好"}]}"#,
      #"{"conversations": [{"from": "human", "value": "你好"}, {"from": "gpt", "value": "您好"}]}"#,
      #"{"instruction": "你好", "input": "", "output": "您好", "history": []}"#,
      #"{"query": "你好", "response": "您好"}"#,
      #"{"prompt": [{"role": "user", "content": "你好"}], "completion": [{"role": "assistant", "content": "您好"}]}"#,
    ] {
      #expect(Array(try Self.load(record).rows) == Array(expected), "\(record)")
      #expect(Array(try Self.load("[\(record)]", as: "data.json").rows) == Array(expected))
    }
    let withSystem = try Self.load(
      #"{"system": "短", "instruction": "你", "input": "好", "output": "您好", "history": [["a", "b"]]}"#)
    let written = try Self.load(
      #"{"messages": [{"role": "system", "content": "短"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "你\n好"}, {"role": "assistant", "content": "您好"}]}"#
    )
    #expect(Array(withSystem.rows) == Array(written.rows))
  }

  @Test func textIsLearnedWholeAndCompletionsAlone() throws {
    let tokenizer = try DataGoldenTests.model().tokenizer
    let end = try #require(tokenizer.specialTokens["<eod>"])
    let text = try Self.load(#"{"text": "你好"}"#).rows[0]
    #expect(text.tokens == tokenizer.encode("你好") + [end])
    #expect(text.labels == text.tokens.map { $0 })
    let completion = try Self.load(#"{"prompt": "你好", "completion": "您好"}"#).rows[0]
    #expect(completion.tokens == tokenizer.encode("你好") + tokenizer.encode("您好") + [end])
    #expect(
      completion.labels == tokenizer.encode("你好").map { _ in nil } + tokenizer.encode("您好").map { $0 } + [end]
    )
    let all = TuningDataOptions(trainedPart: .all)
    let everything = try Self.load(#"{"prompt": "你好", "completion": "您好"}"#, all).rows[0]
    #expect(everything.labels == completion.tokens.map { $0 })
  }

  /// No token of a text is lost but one that stands alone, which has nothing before it.
  @Test func longTextTakesSeveralRows() throws {
    let tokenizer = try DataGoldenTests.model().tokenizer
    let text = String(repeating: "春眠不觉晓，处处闻啼鸟。", count: 40)
    let options = TuningDataOptions(maximumLength: 50)
    let rows = try Self.load(text, as: "poem.txt", options).rows
    #expect(rows.dropLast().allSatisfy { $0.tokens.count == 50 })
    let end = try #require(tokenizer.specialTokens["<eod>"])
    let joined = rows.flatMap(\.tokens)
    #expect(joined.elementsEqual((tokenizer.encode(text) + [end]).prefix(joined.count)))
    #expect(tokenizer.encode(text).count + 1 - joined.count < 2)
  }

  /// What `--print-rows` writes can be read again.
  @Test func idsKeepTheirLabels() throws {
    let row = try Self.load(#"{"input_ids": [5, 6, 7], "labels": [-100, 6, null]}"#).rows[0]
    #expect(row == TrainingRow(tokens: [5, 6, 7], labels: [nil, 6, nil]))
    #expect(try Self.load(#"{"input_ids": [5, 6]}"#).rows[0].labels == [5, 6])
    for labels in ["[1]", "[1, -5]", "[1, 2.5]", "3", "[1, true]"] {
      let problem = Self.reason { try Self.load("{\"input_ids\": [5, 6], \"labels\": \(labels)}") }
      #expect(problem == .noRows(place: "item 0", .badLabels), "\(labels)")
    }
    #expect(
      Self.reason { try Self.load(#"{"input_ids": [5, 3072]}"#) }
        == .idOutOfVocabulary(place: "item 0", id: 3072, vocabularySize: 3072))
    #expect(
      Self.reason { try Self.load(#"{"input_ids": [5, 6], "labels": [-100, 4000]}"#) }
        == .idOutOfVocabulary(place: "item 0", id: 4000, vocabularySize: 3072))
  }

  /// OpenAI's `weight`, Axolotl's `train`, ms-swift's `loss`, and TRL's prompts of turns.
  @Test func turnsThatSaySoAreNotLearned() throws {
    func labels(_ record: String) throws -> [Int?] {
      try Self.load(record, TuningDataOptions(trainedPart: .assistant)).rows[0].labels
    }
    func record(_ mark: String) -> String {
      "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"\(mark)}, "
        + "{\"role\": \"user\", \"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"d\"}]}"
    }
    let both = try labels(record(""))
    let one = try labels(record(", \"weight\": 0"))
    #expect(one.compactMap { $0 }.count * 2 == both.compactMap { $0 }.count)
    for mark in [", \"train\": false", ", \"loss\": false"] { #expect(try labels(record(mark)) == one) }
    #expect(try labels(record(", \"weight\": 1")) == both)
    #expect(
      try labels(
        #"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]}"#
      ) == one)
    let dataset = try Self.load(record(", \"weight\": 0"))
    #expect(dataset.report.sources[0].unusedFields.isEmpty)
    #expect(
      Self.reason { try Self.load(record(", \"weight\": 0.5")) }
        == .noRows(place: "item 0", .record(.conversation(.badField("messages[].weight")))))
  }

  @Test func recordsThatGiveNothingAreCounted() throws {
    let dataset = try Self.load(
      """
      {"text": "春天"}
      {"messages": [{"role": "user", "content": "a"}]}
      {"prompt": "a", "chosen": "b", "rejected": "c"}
      {"messages": [{"role": "user", "content": "a"}, {"role": "narrator", "content": "b"}]}
      {"messages": [{"role": "user", "content": "a"}]}
      """)
    let source = dataset.report.sources[0]
    #expect(source.records == 1)
    #expect(source.leftOut.count == 4)
    #expect(source.leftOut.reasons.map(\.count) == [2, 1, 1])
    #expect(source.leftOut.reasons[0].problem == .noAnswer)
    #expect(source.leftOut.reasons[0].place == "line 2")
    #expect(source.leftOut.reasons[1].problem == .record(.conversation(.preference)))
  }

  /// Only what lies within a row's length is learned, and a row of which nothing is left is none.
  @Test func longConversationsAreCutOrLeftOut() throws {
    let long = String(repeating: "好", count: 100)
    let record =
      "{\"messages\": [{\"role\": \"user\", \"content\": \"\(long)\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}"
    let short = #"{"text": "春天"}"#
    let options = TuningDataOptions(maximumLength: 40, trainedPart: .assistant)
    let cut = try Self.load(record + "\n" + short, options).report.sources[0]
    #expect(cut.leftOut.reasons.map(\.problem) == [.nothingCounted])
    let vendor = try Self.load(record + "\n" + short, TuningDataOptions(maximumLength: 40)).report.sources[0]
    #expect(vendor.cutRows == 1)
    #expect(vendor.longest == 40)
    let packed = TuningDataOptions(maximumLength: 40, packing: .concat)
    #expect(
      try Self.load(record + "\n" + short, packed).report.sources[0].leftOut.reasons.map(\.problem) == [
        .longerThanRow
      ])
  }

  @Test func whatCannotBeReadIsRefused() throws {
    #expect(Self.reason { try Self.load("", as: "a.txt") } == .empty)
    #expect(Self.reason { try Self.load("[]", as: "a.json") } == .empty)
    #expect(Self.reason { try Self.load("a,text\n1,2\n", as: "a.csv") } == .content(.structured(.table)))
    #expect(
      Self.reason { try Self.load("x", as: "a.txt", TuningDataOptions(maximumLength: 1)) }
        == .maximumTooSmall(1))
    #expect(
      Self.reason { try Self.load("x", as: "a.txt", TuningDataOptions(validationFraction: 1)) }
        == .fractionOutOfRange(1))
    #expect(
      Self.reason { try Self.load(#"{"text": "春天"}"#, weight: 1e30) }
        == .epochTooLong(weight: 1e30, most: 100_000_000))
    let text = Self.reason { try Self.load("{\"text\": ", as: "a.jsonl") }
    #expect("\(try #require(text))".contains("--data-format"))
  }

  /// What a template would leave out without a word is named.
  @Test func fieldsThatAreNotWrittenAreNamed() throws {
    let record =
      #"{"messages": [{"role": "user", "content": "a", "name": null}, {"role": "assistant", "content": "b", "reasoning_content": "c"}]}"#
    #expect(try Self.load(record).report.sources[0].unusedFields == ["messages[].reasoning_content": 1])
    let folder = try TemporaryFolder()
    try AtomicFile.write(record, to: folder.file("a.jsonl"))
    let file = TuningFile(folder.file("a.jsonl"), weight: 2)
    #expect(throws: TuningDataError(.weightOfValidation, path: file.path)) {
      try TuningDataset.load(
        files: [file], validationFiles: [file], model: DataGoldenTests.model(), options: TuningDataOptions())
    }
  }

  @Test func aPartIsKeptForValidation() throws {
    let lines = (0..<20).map { "{\"text\": \"春天\($0)\"}" }.joined(separator: "\n")
    let dataset = try Self.load(lines, TuningDataOptions(validationFraction: 0.2))
    #expect(dataset.rows.count == 16)
    #expect(dataset.validationRows.count == 4)
    let again = try Self.load(lines, TuningDataOptions(validationFraction: 0.2))
    #expect(again.digest == dataset.digest)
    let other = try Self.load(lines, TuningDataOptions(validationFraction: 0.2, seed: 5))
    #expect(Array(other.validationRows) != Array(dataset.validationRows))
    let learned = Set(dataset.rows.map(\.tokens))
    #expect(dataset.validationRows.allSatisfy { !learned.contains($0.tokens) })

    let byFile = try Self.load(lines, validation: #"{"text": "春天3"}"#)
    #expect(byFile.rows.count == 20)
    #expect(byFile.validationRows.count == 1)
    #expect(byFile.report.notes.contains { $0.hasPrefix("1 of 1 rows for validation are also learned") })
    #expect(
      Self.reason {
        try Self.load(lines, validation: lines, TuningDataOptions(validationFraction: 0.1))
      } == .twoValidations)
    #expect(
      Self.reason { try Self.load(#"{"text": "春天"}"#, TuningDataOptions(validationFraction: 0.1)) }
        == .validationTakesAll(rows: 1))
  }
}
