import Files
import Foundation

/// How a generated answer is compared with an expected one: a number between 0 and 1.
package struct AnswerMetric: Sendable {
  /// As options and reports have it, for example `qa_f1`.
  package let name: String
  /// The end of a sentence that says what is measured.
  package let summary: String
  private let compare: @Sendable (_ answer: String, _ truth: String, _ classes: [String]) throws -> Double

  private init(
    _ name: String, _ summary: String,
    _ compare: @escaping @Sendable (_ answer: String, _ truth: String, _ classes: [String]) throws -> Double
  ) {
    (self.name, self.summary, self.compare) = (name, summary, compare)
  }

  /// The best score against any of the expected answers; 0 without any, as in LongBench.
  /// - Parameter classes: all that an answer may name, for `classification`.
  /// - Throws: ``MetricError``.
  package func score(_ answer: String, _ truths: [String], classes: [String] = []) throws -> Double {
    var best = 0.0
    for truth in truths { best = max(best, try compare(answer, truth, classes)) }
    return best
  }

  // MARK: Metrics

  package static let exactMatch = AnswerMetric(
    "exact_match", "the answer is the expected one, white space at both ends aside"
  ) { answer, truth, _ in answer.bytes.trimmed.hasSameBytes(as: truth.bytes.trimmed) ? 1 : 0 }

  package static let contains = AnswerMetric("contains", "the expected answer stands in the answer") {
    answer, truth, _ in
    let part = truth.bytes.trimmed
    return part.isEmpty || answer.bytes.contains(part) ? 1 : 0
  }

  /// The expected answers are patterns. They are compiled when a task is loaded, see ``AnswerPatterns``.
  package static let regularExpression = AnswerMetric(
    "regex", "the expected answer, a regular expression of ICU, matches somewhere in the answer"
  ) { answer, truth, _ in try AnswerPatterns.shared.matches(answer, truth) ? 1 : 0 }

  package static let f1 = AnswerMetric("qa_f1", "F1 of English words, as LongBench and SQuAD") {
    answer, truth, _ in TokenF1.english(answer, truth)
  }

  package static let f1PerCharacter = AnswerMetric(
    "qa_f1_zh_per_character", "F1 of characters without punctuation, in place of LongBench's qa_f1_zh"
  ) { answer, truth, _ in TokenF1.chinesePerCharacter(answer, truth) }

  package static let editSimilarity = AnswerMetric(
    "edit_similarity", "1 − Levenshtein distance / longer length, in characters"
  ) { answer, truth, _ in
    try EditDistance.similarity(
      Array(answer.bytes.trimmed.unicodeScalars), Array(truth.bytes.trimmed.unicodeScalars))
  }

  package static let rougeL = AnswerMetric(
    "rouge_l", "ROUGE-L of words between spaces, as the package rouge 1.0.1"
  ) { answer, truth, _ in try RougeL.score(answer, truth) }

  package static let rougeLPerCharacter = AnswerMetric(
    "rouge_zh_per_character", "ROUGE-L of characters, in place of LongBench's rouge_zh"
  ) { answer, truth, _ in try RougeL.perCharacter(answer, truth) }

  package static let classification = AnswerMetric("classification", "LongBench's score of named classes") {
    answer, truth, classes in LongBenchMetrics.classification(answer, truth, classes: classes)
  }

  package static let retrieval = AnswerMetric(
    "retrieval", "the share of numbers in the answer that are the paragraph's"
  ) { answer, truth, _ in try LongBenchMetrics.retrieval(answer, truth) }

  package static let chineseRetrieval = AnswerMetric(
    "retrieval_zh", "the share of numbers in the answer that are the paragraph's (段落)"
  ) { answer, truth, _ in try LongBenchMetrics.chineseRetrieval(answer, truth) }

  package static let count = AnswerMetric(
    "count", "the share of numbers in the answer that are the right one"
  ) {
    answer, truth, _ in LongBenchMetrics.count(answer, truth)
  }

  /// As LongBench with what its own requirements install.
  package static let codeSimilarity = AnswerMetric("code_sim", "ratio of the first line of code, by difflib")
  {
    answer, truth, _ in try CodeSimilarity.score(answer, truth, ratio: .difflib)
  }

  package static let codeSimilarityIndel = AnswerMetric(
    "code_sim_indel", "ratio of the first line of code, by python-Levenshtein"
  ) { answer, truth, _ in try CodeSimilarity.score(answer, truth, ratio: .indel) }

  package static let firstWord = AnswerMetric(
    "first_word", "the first word is the expected one, as OpenCompass"
  ) {
    answer, truth, _ in FirstWord.isCorrect(answer, truth) ? 1 : 0
  }

  package static let firstOption = AnswerMetric(
    "first_option", "the letter A to D that OpenCompass finds in the answer is the expected one"
  ) { answer, truth, _ in
    OptionLetter.firstOption(answer).hasSameBytes(as: truth.bytes.trimmed) ? 1 : 0
  }

  package static let firstCapital = AnswerMetric(
    "first_capital", "the first capital letter of the answer is the expected one"
  ) { answer, truth, _ in
    OptionLetter.firstCapital(answer).hasSameBytes(as: truth.bytes.trimmed) ? 1 : 0
  }

  package static func gsm8k(_ rule: GSM8K.Rule) -> AnswerMetric {
    AnswerMetric("gsm8k_\(rule.rawValue)", "the number of a GSM8K answer is right, by \(rule.rawValue)") {
      answer, truth, _ in try GSM8K.isCorrect(answer, solution: truth, by: rule) ? 1 : 0
    }
  }

  package static let all: [AnswerMetric] =
    [
      exactMatch, contains, regularExpression, f1, f1PerCharacter, editSimilarity, rougeL, rougeLPerCharacter,
      classification, retrieval, chineseRetrieval, count, codeSimilarity, codeSimilarityIndel, firstWord,
      firstOption, firstCapital,
    ] + GSM8K.Rule.allCases.map(gsm8k)

  package static func named(_ name: String) -> AnswerMetric? { all.first { $0.name == name } }
}

/// Regular expressions that have been compiled, each once.
package final class AnswerPatterns: @unchecked Sendable {
  // Unchecked: the lock guards the table, and NSRegularExpression may be used by several threads.
  package static let shared = AnswerPatterns()
  private let lock = NSLock()
  private var compiled: [ByteText: NSRegularExpression] = [:]

  /// - Throws: ``MetricError`` when the pattern is none.
  @discardableResult package func expression(_ pattern: String) throws -> NSRegularExpression {
    lock.lock()
    defer { lock.unlock() }
    if let known = compiled[pattern] { return known }
    guard let expression = try? NSRegularExpression(pattern: pattern) else {
      throw MetricError(.badPattern(pattern))
    }
    // A file may have a pattern for each item: what is kept is bounded.
    if compiled.count >= 10_000 { compiled.removeAll() }
    compiled[pattern] = expression
    return expression
  }

  package func matches(_ answer: String, _ pattern: String) throws -> Bool {
    let whole = NSRange(location: 0, length: answer.utf16.count)
    return try expression(pattern).firstMatch(in: answer, range: whole) != nil
  }
}
