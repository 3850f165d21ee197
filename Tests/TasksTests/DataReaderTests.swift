import Evaluation
import Files
import Foundation
import JSON
import Tasks
import TestSupport
import Testing

/// Readers of publishers' files: what they take, and what they say of files that are not what they should be.
@Suite struct DataReaderTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func write(_ name: String, _ text: String) throws {
    try write(name, Array(text.utf8))
  }

  private func write(_ name: String, _ bytes: [UInt8]) throws {
    let path = folder.file(name)
    try FileManager.default.createDirectory(
      atPath: PathParts(path).folder, withIntermediateDirectories: true)
    try Data(bytes).write(to: URL(fileURLWithPath: path))
  }

  /// That `body` fails with an error of bad input that says all of this.
  private func refusal(_ parts: String..., of body: () throws -> Void) {
    do {
      try body()
      Issue.record("no error; expected \(parts)")
    } catch let error as any DiagnosedError {
      for part in parts { #expect(error.description.contains(part), "\(part): \(error)") }
      #expect(error.category == .badInput, "\(error)")
    } catch { Issue.record(error) }
  }

  // MARK: Text

  @Test func quotedFieldsAsPythonReadsThem() throws {
    func records(_ text: String) throws -> [[String]] {
      try Array(text.utf8).withUnsafeBytes { try DelimitedText.records($0, path: "t.csv").map(\.fields) }
    }
    #expect(
      try records("a,b\r\nc,\"d,\"\"e\"\"\nf\"\n\n\"\",x\rlast") == [
        ["a", "b"], ["c", "d,\"e\"\nf"], ["", "x"], ["last"],
      ])
    #expect(try records("\u{FEFF}a, \"b\",\"c\"d\n") == [["a", " \"b\"", "cd"]])
    #expect(try records("\"a\r\nb\rc\",d\r\n") == [["a\nb\nc", "d"]])
    #expect(try records("") == [])
    #expect(try records(",\n") == [["", ""]])
    let lines = try Array("a\n\"b\nc\"\nd".utf8).withUnsafeBytes {
      try DelimitedText.records($0, path: "t.csv").map(\.line)
    }
    #expect(lines == [1, 2, 4])
    refusal("line 2", "column 2", "never ends") { _ = try records("a,b\nc,\"d\ne\n") }
    let bad: [UInt8] = Array("a,b\nc,".utf8) + [0xFF, 10]
    refusal("line 2", "column 2", "UTF-8") {
      _ = try bad.withUnsafeBytes { try DelimitedText.records($0, path: "t.csv") }
    }
  }

  // MARK: Multiple choice

  private static let ceval = "id,question,A,B,C,D,answer,explanation\n0,问题,甲,乙,丙,丁,B,说明\n"

  @Test func readsCEvalCMMLUAndMMLU() throws {
    try write("ceval/val/accountant_val.csv", Self.ceval)
    try write("ceval/dev/accountant_dev.csv", Self.ceval)
    let task = try #require(ChoiceTask.named("ceval"))
    let data = try task.load(folder.file("ceval"), subjects: ["accountant"])
    #expect(data.subjects.count == 1 && data.files.count == 2)
    let subject = data.subjects[0]
    #expect(subject.title == "注册会计师" && subject.group == "Other" && subject.examples.count == 1)
    #expect(
      subject.items == [
        ChoiceItem(
          id: "accountant/0", subject: "accountant", question: "问题", choices: ["甲", "乙", "丙", "丁"], answer: 1,
          fields: ["id": "0", "explanation": "说明"])
      ])
    // All 52 subjects are wanted, and one is there.
    refusal("has no val/computer_network_val.csv", "45 more", "CC BY-NC-SA 4.0", "--subjects") {
      _ = try task.load(folder.file("ceval"))
    }
    #expect(throws: DataError.self) { try task.load(folder.file("ceval"), subjects: ["alchemy"]) }
    #expect(throws: DataError.self) { try task.load(folder.file("ceval"), split: "exam") }

    try write("cmmlu/test/agronomy.csv", ",Question,A,B,C,D,Answer\n0,问,1,2,3,4,D\n")
    let cmmlu = try #require(ChoiceTask.named("cmmlu"))
    let agronomy = try cmmlu.load(folder.file("cmmlu"), subjects: ["agronomy"]).subjects[0]
    #expect(agronomy.items[0].answer == 3 && agronomy.examples.isEmpty && agronomy.title == "农学")

    try write("mmlu/data/test/anatomy_test.csv", "\"What, exactly?\nThis\",a,b,c,d,A\r\nQ2,a,b,c,d,C\r\n")
    let mmlu = try #require(ChoiceTask.named("mmlu"))
    let anatomy = try mmlu.load(folder.file("mmlu"), subjects: ["anatomy"]).subjects[0]
    #expect(anatomy.items.map(\.question) == ["What, exactly?\nThis", "Q2"])
    #expect(anatomy.items.map(\.answer) == [0, 2])
    // As Hugging Face's data set is exported.
    try write(
      "hf/test.jsonl",
      #"{"question": "Q?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 3}"#)
    try write(
      "hf/dev.jsonl",
      #"{"question": "E?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 0}"#)
    let exported = try mmlu.load(folder.file("hf")).subjects
    #expect(exported.map(\.name) == ["anatomy"] && exported[0].group == "STEM")
    #expect(exported[0].items.map(\.answer) == [3] && exported[0].examples.map(\.question) == ["E?"])
  }

  @Test func namesWhatIsWrongInATable() throws {
    let task = try #require(ChoiceTask.named("ceval"))
    func load(_ text: String) throws {
      try write("c/val/law_val.csv", text)
      _ = try task.load(folder.file("c"), subjects: ["law"])
    }
    refusal("law_val.csv, line 2", "column answer", "\"E\"", "A, B, C or D") {
      try load("id,question,A,B,C,D,answer\n0,q,a,b,c,d,E\n")
    }
    refusal("line 3", "has 6 columns, expected 7") {
      try load("id,question,A,B,C,D,answer\n0,q,a,b,c,d,A\n1,q,a,b,c,d\n")
    }
    refusal("column D", "missing") { try load("id,question,A,B,C,answer\n") }
    refusal("not published", "val") { try load("id,question,A,B,C,D\n0,q,a,b,c,d\n") }
    refusal("no items") { try load("id,question,A,B,C,D,answer\n") }
    refusal("no items") { try load("") }
    refusal("Parquet") { try load("PAR1\u{15}\u{4}\u{0}\u{0}") }
    refusal("Git LFS") { try load("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n") }
    let missing = #expect(throws: DataError.self) { try task.load(folder.file("nothing")) }
    #expect(missing?.category == .cannotOpenInput)
    #expect(missing?.description.contains("val/SUBJECT_val.csv") == true)
  }

  @Test func readsHellaSwagAndARC() throws {
    try write(
      "h/hellaswag_val.jsonl",
      #"{"ind": 1, "activity_label": "Baking [x] cakes", "ctx_a": "A man [title] sits.", "ctx_b": "he THEN", "endings": ["runs  off.", "b [header] c", "c", "d"], "label": 0}"#
        + "\n\n")
    let swag = try #require(ChoiceTask.named("hellaswag"))
    let subject = try swag.load(folder.file("h")).subjects[0]
    #expect(subject.items[0].question == "Baking cakes: A man. sits. He then")
    #expect(subject.items[0].choices == ["runs off.", "b c", "c", "d"])
    #expect(
      try swag.prompt(subject.items[0], of: subject, shots: 0, mode: .roundsNewline)
        == .prompts(["runs off.", "b c", "c", "d"].map { "A man. sits. He then\n\($0)" }))
    let arc = try #require(ChoiceTask.named("arc-challenge"))
    try write(
      "ARC-Challenge-Test.jsonl",
      #"{"id":"M1","question":{"stem":"Why?","choices":[{"text":"x","label":"1"},{"text":"y","label":"2"},{"text":"z","label":"3"}]},"answerKey":"3"}"#
        + "\n"
        + #"{"id":"M2","question":"How?","choices":{"text":["x","y","z","w"],"label":["A","B","C","D"]},"answerKey":"B"}"#
    )
    let questions = try arc.load(folder.file("ARC-Challenge-Test.jsonl")).subjects[0]
    #expect(questions.items.map(\.answer) == [2, 1] && questions.items.map(\.id) == ["M1", "M2"])
    #expect(questions.items.map { arc.includes($0, mode: .roundsJoined) } == [false, true])
    #expect(
      try arc.prompt(questions.items[0], of: questions, shots: 0, mode: .lmEval)
        == .continuations(
          context: "Question: Why?\nAnswer:", continuations: [" x", " y", " z"], choices: ["x", "y", "z"]))
    try write(
      "bad.jsonl",
      #"{"question":{"stem":"Why?","choices":[{"text":"x","label":"A"},{"text":"y","label":"B"}]},"answerKey":"C"}"#
    )
    refusal("line 1", "answerKey", "one of A, B") { _ = try arc.load(folder.file("bad.jsonl")) }
  }

  @Test func readsQuestionsOfOnesOwn() throws {
    try write(
      "own/test.jsonl",
      """
      {"question": "1 + 1?", "choices": ["1", "2"], "answer": 1, "subject": "sums", "group": "maths", "id": 7}
      {"question": "2 + 2?", "choices": ["3", "4"], "answer": "B", "subject": "sums", "hint": "h"}
      {"question": "Sky?", "choices": ["blue", "red", "green"], "answer": "red", "subject": "colours"}

      """)
    try write("own/dev.jsonl", #"{"question": "0?", "choices": ["0", "1"], "answer": 0, "subject": "sums"}"#)
    let data = try ChoiceTask.choices().load(folder.file("own"))
    #expect(data.subjects.map(\.name) == ["sums", "colours"] && data.subjects[0].group == "maths")
    #expect(data.subjects[0].items.map(\.id) == ["7", "sums/1"])
    #expect(data.subjects.flatMap(\.items).map(\.answer) == [1, 1, 1])
    #expect(data.subjects[0].examples.count == 1)
    let elsewhere = try ChoiceTask.choices().load(
      folder.file("own/test.jsonl"), subjects: ["colours"], examples: folder.file("own/dev.jsonl"))
    #expect(elsewhere.subjects.map(\.examples.count) == [1] && elsewhere.files.count == 2)
    func load(_ line: String) throws {
      try write("one.jsonl", line)
      _ = try ChoiceTask.choices().load(folder.file("one.jsonl"))
    }
    refusal("one.jsonl, line 1", "answer", "index from 0 to 1") {
      try load(#"{"question": "q", "choices": ["a", "b"], "answer": 2}"#)
    }
    refusal("line 1", "choices is missing") { try load(#"{"question": "q", "answer": 2}"#) }
    refusal("line 1", "array of 2 to 26") { try load(#"{"question": "q", "choices": ["a"], "answer": 0}"#) }
    refusal("line 2", "repeats the id") {
      try load(
        #"{"id": "x", "question": "q", "choices": ["a", "b"], "answer": 0}"# + "\n"
          + #"{"id": "x", "question": "q", "choices": ["a", "b"], "answer": 0}"#)
    }
    refusal("JSON Lines") { try load(#"[{"question": "q"},"#) }
    refusal("not a JSON object") { try load("3") }
    refusal("not valid JSON") { try load("{\"question\": \"\u{1}\"}") }
    refusal("no items") { try load("\n\n") }
  }

  // MARK: Generation

  @Test func readsGSM8K() throws {
    try write("g/test.jsonl", #"{"question": "2+2?", "answer": "It is <<2+2=4>>4.\n#### 4"}"#)
    try write(
      "g/train.jsonl",
      (1...6).map { #"{"question": "q\#($0)", "answer": "= #### \#($0)"}"# }.joined(separator: "\n"))
    let task = try #require(GenerationTask.named("gsm8k"))
    let (items, files) = try task.load(folder.file("g"), shots: 2, sampling: .first)
    #expect(files.count == 2)
    #expect(
      items[0].prompt
        == "Question: q1\nAnswer: = #### 1\n\nQuestion: q2\nAnswer: = #### 2\n\nQuestion: 2+2?\nAnswer:")
    #expect(items[0].stops == ["Question:", "</s>", "<|im_end|>"] && !items[0].usesChatTemplate)
    #expect(
      try task.score("It is 4.", items[0]).map(\.metric) == [
        "gsm8k_strict-match", "gsm8k_flexible-extract", "gsm8k_opencompass",
      ])
    #expect(try task.score("It is 4.", items[0]).map(\.value) == [0, 1, 1])
    refusal("examples for GSM8K") { _ = try task.load(folder.file("g"), shots: 7) }
    try write("g2/test.jsonl", #"{"question": "2+2?", "answer": "4"}"#)
    refusal("train.jsonl", "MIT") { _ = try task.load(folder.file("g2")) }
    refusal("####") { _ = try task.load(folder.file("g2"), shots: 0) }
  }

  @Test func readsLAMBADA() throws {
    try write("l.jsonl", #"{"text": "He gave her signs of life"}"#)
    let (items, _) = try Lambada.load(folder.file("l.jsonl"))
    #expect(items == [ContinuationItem(id: "0", context: "He gave her signs of", continuation: " life")])
    let task = try #require(GenerationTask.named("lambada-generate"))
    let generated = try task.load(folder.file("l.jsonl")).items[0]
    #expect(generated.prompt == "Please complete the following sentence:\nHe gave her signs of")
    #expect(generated.maximumNewTokens == 5)
    #expect(try task.score(" life.", generated)[0].value == 1)
    try write("l.jsonl", #"{"text": "word"}"#)
    refusal("l.jsonl, line 1", "no space") { _ = try Lambada.load(folder.file("l.jsonl")) }
  }

  @Test func readsLongBench() throws {
    #expect(LongBenchSet.all.count == 21)
    #expect(LongBenchSet.all.allSatisfy { $0.prompt.contains("{context}") && $0.maximumNewTokens > 0 })
    #expect(LongBenchSet.named("narrativeqa")?.prompt.contains("asconcisely") == true)
    try write(
      "lb/data/multifieldqa_zh.jsonl",
      #"{"input": "谁？{context}", "context": "文 {input}", "answers": ["刘秀"], "length": 4100, "dataset": "multifieldqa_zh", "language": "zh", "all_classes": null, "_id": "a"}"#
    )
    try write(
      "lb/data/trec.jsonl",
      #"{"input": "Type:", "context": "c", "answers": ["Food"], "length": 10, "all_classes": ["Food", "Animal"], "_id": "b"}"#
    )
    let task = try #require(GenerationTask.named("longbench"))
    let items = try task.load(folder.file("lb"), subjects: ["multifieldqa_zh", "trec"]).items
    #expect(
      items[0].prompt
        == "阅读以下文字并用中文简短回答：\n\n文 {input}\n\n现在请基于上面的文章回答下面的问题，只告诉我答案，不要输出任何其他字词。\n\n问题：谁？{context}\n回答：")
    #expect(items[0].usesChatTemplate && items[0].truncatesMiddle && items[0].bucket == "4-8k")
    #expect(try task.score("刘秀", items[0])[0] == ("qa_f1_zh_per_character", 1))
    #expect(!items[1].usesChatTemplate && items[1].firstLineOnly)
    #expect(try task.score("\nFood\nAnimal", items[1])[0] == ("classification", 1))
    refusal("has no narrativeqa.jsonl", "13 more") { _ = try task.load(folder.file("lb")) }
    try write("passage_retrieval_zh.jsonl", #"{"input": "i", "context": "c", "answers": ["三"], "_id": "1"}"#)
    refusal("line 1", "answers", "段落") { _ = try task.load(folder.file("passage_retrieval_zh.jsonl")) }
    try write("other.jsonl", "{}")
    refusal("not named after a set") { _ = try task.load(folder.file("other.jsonl")) }
  }

  @Test func readsItemsOfOnesOwn() throws {
    try write(
      "own.jsonl",
      """
      {"question": "1 + 1?", "answer": 2, "max_tokens": 4}
      {"context": "c", "input": "i", "answers": ["a", "b"], "stops": ["\\n"], "id": "x"}

      """)
    let task = try GenerationTask.generate(GenerationOptions(metrics: ["contains", "exact_match"]))
    let items = try task.load(folder.file("own.jsonl")).items
    #expect(items.map(\.prompt) == ["1 + 1?", "c\n\ni"] && items.map(\.id) == ["0", "x"])
    #expect(items[0].maximumNewTokens == 4 && items[0].answers == ["2"] && items[1].stops == ["\n"])
    #expect(try task.score("b!", items[1]).map(\.value) == [1, 0])
    #expect(throws: DataError.self) { try GenerationTask.generate(GenerationOptions(metrics: ["bleu"])) }
    let regex = try GenerationTask.generate(GenerationOptions(metrics: ["regex"]))
    try write("own.jsonl", #"{"prompt": "p", "answer": "("}"#)
    refusal("own.jsonl, line 1", "answer", "regular expression") {
      _ = try regex.load(folder.file("own.jsonl"))
    }
    try write("own.jsonl", #"{"prompt": "p"}"#)
    refusal("line 1", "answer is missing") { _ = try task.load(folder.file("own.jsonl")) }
    var template = GenerationOptions(template: "Q: {question} {extra} {no}")
    template.metrics = ["exact_match"]
    try write("own.jsonl", #"{"question": "q", "extra": "e", "answer": "a"}"#)
    #expect(
      try GenerationTask.generate(template).load(folder.file("own.jsonl")).items[0].prompt == "Q: q e {no}")
  }

  // MARK: Retrieval

  @Test func readsBothFormsOfCollections() throws {
    try write(
      "b/corpus.jsonl", #"{"_id": "d1", "title": "t", "text": "x"}"# + "\n" + #"{"_id": "d2", "text": "y"}"#)
    try write("b/queries.jsonl", #"{"_id": "q1", "text": "x?"}"# + "\n" + #"{"_id": "q2", "text": "y?"}"#)
    try write("b/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\tgone\t1\n")
    let data = try RetrievalData.load(folder.file("b"))
    #expect(data.corpus.count == 2 && data.queries == [.init(id: "q1", text: "x?")])
    #expect(data.judgedButMissing == 1 && !data.ignoresIdenticalIDs && data.files.count == 3)
    try write("T2Retrieval/corpus.jsonl", #"{"id": 1, "text": "x"}"#)
    try write("T2Retrieval/queries.jsonl", #"{"id": 9, "text": "x?"}"#)
    try write("T2Retrieval/qrels.jsonl", #"{"qid": "9", "pid": 1, "score": 1}"#)
    let other = try RetrievalData.load(folder.file("T2Retrieval"))
    #expect(other.ignoresIdenticalIDs && other.judgements == RelevanceJudgements(["9": ["1": 1]]))
    try write("T2Retrieval/qrels.jsonl", #"{"qid": "8", "pid": 1, "score": 1}"#)
    refusal("query 8", "queries.jsonl lacks") { _ = try RetrievalData.load(folder.file("T2Retrieval")) }
    refusal("has no qrels/train.tsv") { _ = try RetrievalData.load(folder.file("b"), split: "train") }
  }

  @Test func readsRerankings() throws {
    try write(
      "r.jsonl",
      #"{"query": ["a", "b"], "positive": ["p"], "negative": ["n"]}"# + "\n"
        + #"{"query": "c", "positive": ["p"], "negative": []}"#)
    let data = try RerankingData.load(folder.file("r.jsonl"))
    #expect(data.rows == [.init(queries: ["a", "b"], positive: ["p"], negative: ["n"])] && data.leftOut == 1)
    try write("r.jsonl", #"{"query": "c", "positive": ["p"]}"#)
    refusal("line 1", "negative is missing") { _ = try RerankingData.load(folder.file("r.jsonl")) }
  }
}
