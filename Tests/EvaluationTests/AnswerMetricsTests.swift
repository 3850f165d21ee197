import Evaluation
import Files
import JSON
import TestSupport
import Testing

/// Metrics of answers against LongBench's own code, lm-eval's and OpenCompass' rules (`golden/metrics.json`).
@Suite struct AnswerMetricsTests {
  static func goldens(_ name: String) throws -> [JSONValue] {
    try #require(
      try JSONValue.parse(file: Fixture.path("golden/metrics.json"))["answers"]?[name]?.arrayValue)
  }

  static func text(_ row: JSONValue, _ name: String) throws -> String {
    try #require(row[name]?.stringValue)
  }

  static func expect(_ row: JSONValue, _ name: String, _ found: Double) throws {
    let expected = try #require(row[name]?.doubleValue)
    #expect(abs(found - expected) < 1e-9, "\(name) of \(row.serialized())")
  }

  /// Each metric that takes an answer and an expected one.
  @Test(arguments: [
    ("qa_f1", "score", "qa_f1"), ("qa_f1_zh", "score_per_character", "qa_f1_zh_per_character"),
    ("rouge_zh", "score_per_character", "rouge_zh_per_character"), ("rouge_l_on_tokens", "score", "rouge_l"),
    ("code_sim", "score", "code_sim_indel"), ("count", "score", "count"), ("retrieval", "score", "retrieval"),
    ("retrieval_zh", "score", "retrieval_zh"), ("classification", "score", "classification"),
  ])
  func equalTheOriginals(test: (golden: String, key: String, metric: String)) throws {
    let metric = try #require(AnswerMetric.named(test.metric))
    let rows = try Self.goldens(test.golden)
    #expect(rows.count >= 3)
    for row in rows {
      let classes = row["classes"]?.arrayValue?.compactMap(\.stringValue) ?? []
      try Self.expect(
        row, test.key,
        metric.score(Self.text(row, "prediction"), [Self.text(row, "truth")], classes: classes))
    }
  }

  /// With the words of a segmenter, the metrics are LongBench's own.
  @Test func chineseWordsOfASegmenter() throws {
    for row in try Self.goldens("qa_f1_zh") {
      let words = try ["jieba_prediction", "jieba_truth"].map { name in
        try #require(row[name]?.arrayValue).compactMap(\.stringValue)
      }
      try Self.expect(row, "score", TokenF1.chinese(words: words[0], words[1]))
    }
  }

  @Test func bothRatiosOfCode() throws {
    for row in try Self.goldens("code_sim") {
      let line = CodeSimilarity.line(of: try Self.text(row, "prediction"))
      #expect(try String(String.UnicodeScalarView(line)) == Self.text(row, "line"))
      let truth = Array(try Self.text(row, "truth").unicodeScalars)
      try Self.expect(row, "ratio_indel", CodeSimilarity.similarity(line, truth, .indel))
      try Self.expect(row, "ratio_difflib", CodeSimilarity.similarity(line, truth, .difflib))
      #expect(try EditDistance.levenshtein(line, truth) == row["levenshtein"]?.intValue)
    }
  }

  @Test func numbersOfGSM8K() throws {
    for row in try Self.goldens("gsm8k_extract") {
      let text = try Self.text(row, "text")
      #expect(try GSM8K.number(in: text, by: .openCompass) == Self.text(row, "opencompass"), "\(text)")
      #expect(try GSM8K.number(in: text, by: .strict) == Self.text(row, "lm_eval_strict"), "\(text)")
      #expect(try GSM8K.number(in: text, by: .flexible) == Self.text(row, "lm_eval_flexible"), "\(text)")
    }
    let solution = "So 6 * 200 = <<6*200=1200>>1,200.\n#### 1,200"
    #expect(try GSM8K.isCorrect("#### 1,200.", solution: solution, by: .strict))
    #expect(try GSM8K.isCorrect("It is $1200.", solution: solution, by: .flexible))
    #expect(try !GSM8K.isCorrect("It is 1,200", solution: solution, by: .openCompass))
    #expect(try GSM8K.isCorrect("It is 1200.0", solution: solution, by: .openCompass))
    #expect(try !GSM8K.isCorrect("", solution: solution, by: .strict))
    #expect(throws: MetricError.self) { try GSM8K.isCorrect("1", solution: "1", by: .openCompass) }
  }

  @Test func firstWords() throws {
    for row in try Self.goldens("lambada_first_word") {
      let (answer, truth) = (try Self.text(row, "prediction"), try Self.text(row, "truth"))
      #expect(try FirstWord.of(answer) == Self.text(row, "word"))
      #expect(FirstWord.isCorrect(answer, truth) == row["correct"]?.boolValue, "\(answer)")
    }
  }

  @Test func needles() throws {
    let json = try JSONValue.parse(file: Fixture.path("golden/needle-scores.json"))
    let needle = try #require(json["needle_en"]?.stringValue)
    for row in try #require(json["scores"]?.arrayValue) {
      let answer = try Self.text(row, "answer")
      if try Self.text(row, "lang") == "en" {
        try Self.expect(row, "score", NeedleScore.english(answer, needle: needle))
      } else {
        try Self.expect(row, "score_readme_edit", NeedleScore.chinese(answer))
      }
    }
    #expect(NeedleScore.value("It is 1234567.", digits: "1234567") == 100)
    #expect(NeedleScore.value("It is 123.", digits: "1234567") == 0)
    // Each `.+?` needs a character, and none crosses a line.
    for (answer, score) in [("sandwich dolores sunny", 100.0), ("sandwichdolores sunny", 0)] {
      #expect(try (NeedleScore.english(answer, needle: needle) == 100) == (score == 100))
    }
    #expect(try NeedleScore.english("sandwich\ndolores sunny", needle: needle) < 100)
    #expect(try NeedleScore.english("sandwich sandwich, dolores, sunny dolores", needle: needle) == 100)
  }

  // MARK: Cases of our own

  @Test func emptyTexts() throws {
    // These need something in what is expected.
    for metric in AnswerMetric.all
    where !["retrieval", "gsm8k", "regex"].contains(where: metric.name.hasPrefix) {
      let score = try metric.score("", [""])
      #expect(score >= 0 && score <= 1, "\(metric.name)")
      #expect(try metric.score("an answer", []) == 0)
    }
    #expect(try EditDistance.similarity([], []) == 1)
    #expect(try EditDistance.commonSubsequence([], ["a"]) == 0)
  }

  @Test func generalMetrics() throws {
    func score(_ name: String, _ answer: String, _ truths: [String]) throws -> Double {
      try #require(AnswerMetric.named(name)).score(answer, truths)
    }
    #expect(try score("exact_match", " 曹雪芹\n", ["吴承恩", "曹雪芹"]) == 1)
    #expect(try score("exact_match", "Paris.", ["Paris"]) == 0)
    #expect(try score("contains", "It is Paris.", ["Paris"]) == 1)
    #expect(try score("regex", "on 12 May", [#"\b\d+ (May|June)\b"#]) == 1)
    #expect(try score("edit_similarity", "kitten", ["sitting"]) == 1 - 3.0 / 7)
    #expect(throws: MetricError(.badPattern("("))) { try score("regex", "", ["("]) }
    #expect(throws: MetricError.self) { try score("retrieval", "1", ["twelve"]) }
  }

  /// As OpenCompass' own functions answer.
  @Test func lettersOfChoices() {
    for (answer, option, capital) in [
      ("答案是 B", "B", "B"), ("答案：C。", "C", "C"), ("I think the answer is (D).", "D", "I"),
      ("The correct answer is: \\boxed{A}", "A", "T"), ("选 E", "", "E"), ("", "", ""), ("故选A", "A", "A"),
      ("B. because A is wrong", "B", "B"), ("无", "", ""),
    ] {
      #expect(OptionLetter.firstOption(answer) == option, "\(answer)")
      #expect(OptionLetter.firstCapital(answer) == capital, "\(answer)")
    }
    #expect(OptionLetter.firstOption("答案是E", options: "ABCDE") == "E")
  }

  /// The tables of 64 cells at a time against the textbook's.
  @Test func distancesOfRandomTexts() throws {
    var generator = SplitMix64(seed: 30)
    for round in 0..<200 {
      func text() -> [Unicode.Scalar] {
        (0..<Int.random(in: 0...(round < 100 ? 12 : 200), using: &generator)).map { _ in
          ["a", "b", "c", "王", "莽"].randomElement(using: &generator)!
        }
      }
      let (a, b) = (text(), text())
      var (distances, lengths) = (Array(0...b.count), [Int](repeating: 0, count: b.count + 1))
      for (i, x) in a.enumerated() {
        var (diagonal, common) = (distances[0], 0)
        distances[0] = i + 1
        for (j, y) in b.enumerated() {
          (diagonal, distances[j + 1]) = (
            distances[j + 1], min(diagonal + (x == y ? 0 : 1), distances[j] + 1, distances[j + 1] + 1)
          )
          (common, lengths[j + 1]) = (
            lengths[j + 1], x == y ? common + 1 : max(lengths[j], lengths[j + 1])
          )
        }
      }
      #expect(try EditDistance.levenshtein(a, b) == distances[b.count])
      #expect(try EditDistance.commonSubsequence(a, b) == lengths[b.count])
    }
  }

  @Test func whatWouldNotEndIsRefused() throws {
    let long = [Unicode.Scalar](repeating: "a", count: 1 << 19)
    #expect(throws: MetricError.self) { try EditDistance.levenshtein(long, long) }
    let words = String(repeating: "a ", count: 1 << 15)
    #expect(throws: MetricError.self) { try RougeL.score(words, words) }
    let line = [Unicode.Scalar](repeating: "a", count: 150)
    #expect(try CodeSimilarity.similarity(line, line, .difflib) == 1)
  }
}
