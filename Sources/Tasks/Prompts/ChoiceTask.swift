import Files
import Foundation

/// A task of multiple-choice questions: which files it reads and what a model is asked.
///
/// The prompts are those of lm-eval 0.4.13 (`tasks/*/*.yaml`) and of OpenCompass' configurations (`ceval_ppl_578f8d`,
/// `ceval_internal_ppl_1cd8bf`, `cmmlu_ppl_8b9c76`, `mmlu_ppl_ac766d`, `hellaswag_ppl_47bff9`, `ARC_c_ppl_a450bd`).
package struct ChoiceTask: Sendable {
  enum Kind: Equatable, Sendable {
    case ceval, cmmlu, mmlu, hellaswag
    case arc(challenge: Bool)
    case choices(ChoiceTemplate)
  }

  /// How the figure of a group comes from those of its subjects.
  package enum Weighting: String, Sendable {
    /// Every question counts the same: lm-eval's `weight_by_size`.
    case questions
  }

  let kind: Kind
  package let name: String
  package let title: String
  /// Under which terms the publishers give out the data.
  package let licence: String
  /// Which file is expected where, as the end of a sentence.
  package let layout: String
  package let modes: [ChoiceMode]
  /// Of lm-eval mode; OpenCompass' PPL mode has only `acc`.
  package let metrics: [String]
  package let splits: [String]
  /// The split that is evaluated when none is named.
  package var usualSplit: String { splits[0] }
  package var weighting: Weighting { .questions }
  /// How many examples the published protocols give.
  package let usualShots: Int

  package static let all: [ChoiceTask] = [
    ChoiceTask(
      kind: .ceval, name: "ceval", title: "C-Eval",
      licence: "CC BY-NC-SA 4.0 (ceval/ceval-exam on Hugging Face, ceval-exam.zip)",
      layout:
        "a folder with dev/SUBJECT_dev.csv and val/SUBJECT_val.csv for each of 52 subjects, as ceval-exam.zip has it",
      modes: ChoiceMode.allCases, metrics: ["acc", "acc_norm"], splits: ["val", "test", "dev"], usualShots: 5),
    ChoiceTask(
      kind: .cmmlu, name: "cmmlu", title: "CMMLU",
      licence: "CC BY-NC 4.0 (haonan-li/cmmlu on Hugging Face, cmmlu_v1_0_1.zip)",
      layout:
        "a folder with dev/SUBJECT.csv and test/SUBJECT.csv for each of 67 subjects, as cmmlu_v1_0_1.zip has it",
      modes: [.lmEval, .roundsJoined, .roundsNewline], metrics: ["acc", "acc_norm"], splits: ["test", "dev"],
      usualShots: 5),
    ChoiceTask(
      kind: .mmlu, name: "mmlu", title: "MMLU",
      licence: "the MIT licence (hendrycks/test on GitHub, data.tar)",
      layout:
        "a folder with dev/SUBJECT_dev.csv and test/SUBJECT_test.csv for each of 57 subjects, as data.tar has it",
      modes: [.lmEval, .string], metrics: ["acc"], splits: ["test", "val", "dev"], usualShots: 5),
    ChoiceTask(
      kind: .hellaswag, name: "hellaswag", title: "HellaSwag",
      licence: "the MIT licence (rowanz/hellaswag on GitHub)",
      layout: "hellaswag_val.jsonl, or a folder with it and, for examples, hellaswag_train.jsonl",
      modes: [.lmEval, .roundsJoined, .roundsNewline], metrics: ["acc", "acc_norm", "acc_bytes"],
      splits: ["val", "train"], usualShots: 0),
    ChoiceTask(
      kind: .arc(challenge: false), name: "arc-easy", title: "ARC-Easy",
      licence: "CC BY-SA 4.0 (Allen Institute for AI, ARC-V1-Feb2018.zip)",
      layout: "ARC-Easy-Test.jsonl, or a folder with it and, for examples, ARC-Easy-Train.jsonl",
      modes: [.lmEval, .roundsJoined, .roundsNewline], metrics: ["acc", "acc_norm", "acc_bytes"],
      splits: ["Test", "Dev", "Train"], usualShots: 0),
    ChoiceTask(
      kind: .arc(challenge: true), name: "arc-challenge", title: "ARC-Challenge",
      licence: "CC BY-SA 4.0 (Allen Institute for AI, ARC-V1-Feb2018.zip)",
      layout: "ARC-Challenge-Test.jsonl, or a folder with it and, for examples, ARC-Challenge-Train.jsonl",
      modes: [.lmEval, .roundsJoined, .roundsNewline], metrics: ["acc", "acc_norm", "acc_bytes"],
      splits: ["Test", "Dev", "Train"], usualShots: 0),
    choices(),
  ]

  /// Whether lm-eval draws the examples of each question, instead of taking the first ones.
  package var drawsExamples: Bool {
    switch kind {
    case .hellaswag, .arc: true
    case .ceval, .cmmlu, .mmlu, .choices: false
    }
  }

  package static func named(_ name: String) -> ChoiceTask? { all.first { $0.name == name } }

  /// Questions of the user's own.
  package static func choices(_ template: ChoiceTemplate = .letters) -> ChoiceTask {
    ChoiceTask(
      kind: .choices(template), name: "choices", title: "Multiple choice",
      licence: "the terms of their owner",
      layout:
        "a JSON Lines file whose objects have question, choices (a list of texts) and answer (an index from 0, a letter or the text), and "
        + "may have subject, group and id; or a folder with test.jsonl and, for examples, dev.jsonl",
      modes: [.lmEval, .string], metrics: ["acc", "acc_norm", "acc_bytes"],
      splits: ["test", "dev", "val", "train"],
      usualShots: 0)
  }

  // MARK: Prompts

  /// Whether the protocol of `mode` has the question: OpenCompass leaves out questions of ARC without four choices.
  package func includes(_ item: ChoiceItem, mode: ChoiceMode) -> Bool {
    if mode != .lmEval, case .arc = kind { return item.choices.count == 4 }
    return true
  }

  /// What a model is asked.
  /// - Parameter shots: the first so many examples of the subject stand before the question.
  /// - Throws: ``DataError`` for a mode that the task does not have, or more shots than examples.
  package func prompt(_ item: ChoiceItem, of subject: ChoiceSubject, shots: Int, mode: ChoiceMode) throws
    -> ChoicePrompt
  {
    guard modes.contains(mode) else {
      throw DataError(
        .unknownMode(task: title, mode: mode.rawValue, known: modes.map(\.rawValue)), path: name)
    }
    guard shots <= subject.examples.count else {
      throw DataError(
        .tooFewExamples(
          subject: subject.title, found: subject.examples.count, wanted: shots, expected: layout), path: name)
    }
    let examples = subject.examples.prefix(shots)
    if mode == .lmEval { return continuations(item, subject, examples) }
    if mode == .string { return strings(item, subject, examples) }
    let between = mode == .roundsJoined ? "" : "\n"
    let before = examples.flatMap { example in
      let (human, answers) = rounds(example, subject)
      return [human, answers[example.answer]]
    }
    let (human, answers) = rounds(item, subject)
    return .prompts(answers.map { (before + [human, $0]).joined(separator: between) })
  }

  /// lm-eval: description, then each example as its text, delimiter, answer and a blank line, then the text of the question.
  private func continuations(
    _ item: ChoiceItem, _ subject: ChoiceSubject, _ examples: ArraySlice<ChoiceItem>
  ) -> ChoicePrompt {
    let template = template
    var context = ChoiceTemplate.fill(template.description, item, subject)
    func text(_ item: ChoiceItem) -> String {
      var item = item
      // The YAML files of these three say question.strip().
      if stripsQuestions { item.question = item.question.bytes.trimmed }
      return template.text(item, subject: subject)
    }
    for example in examples {
      context +=
        text(example) + template.delimiter + template.choices(example)[example.answer] + template.separator
    }
    context += text(item)
    let choices = template.choices(item)
    return .continuations(
      context: context, continuations: choices.map { template.delimiter + $0 }, choices: choices)
  }

  private var stripsQuestions: Bool { [.ceval, .cmmlu, .mmlu].contains(kind) }

  private var template: ChoiceTemplate {
    let four = "{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\n"
    switch kind {
    case .ceval:
      return ChoiceTemplate(
        description: "以下是中国关于{subject}的单项选择题，请选出其中的正确答案。\n\n", question: four + "答案：", scored: .letters)
    case .cmmlu:
      return ChoiceTemplate(
        description: "以下是关于{subject}的单项选择题，请直接给出正确答案的选项。\n\n", question: four + "答案：", scored: .letters)
    case .mmlu:
      return ChoiceTemplate(
        description: "The following are multiple choice questions (with answers) about {subject}.\n\n",
        question: four + "Answer:", scored: .letters)
    case .hellaswag: return .texts
    case .arc: return ChoiceTemplate(question: "Question: {question}\nAnswer:", scored: .texts)
    case .choices(let template): return template
    }
  }

  /// OpenCompass' string templates: a hint; the examples, each with a line feed at its end and one between them, and one more after
  /// all, also after none; the question and the label.
  private func strings(_ item: ChoiceItem, _ subject: ChoiceSubject, _ examples: ArraySlice<ChoiceItem>)
    -> ChoicePrompt
  {
    let four = "{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\n"
    let hint: String
    let body: String
    var labels: (ChoiceItem) -> [String] = { $0.choices.indices.map(ChoiceTemplate.letter) }
    switch kind {
    case .ceval:
      hint = "以下是关于{subject}的单项选择题，请直接给出正确答案的选项。\n"
      body = four + "答案: "
    case .choices(let template):
      hint = template.description
      body = template.question + template.delimiter
      labels = template.choices
    default:
      // Two spaces, as in the original.
      hint = "The following are multiple choice questions (with answers) about  {subject}.\n\n"
      body = four + "Answer: "
    }
    let before = examples.map { ChoiceTemplate.fill(body, $0, subject) + labels($0)[$0.answer] + "\n" }
    let start =
      ChoiceTemplate.fill(hint, item, subject) + before.joined(separator: "\n") + "\n"
      + ChoiceTemplate.fill(body, item, subject)
    return .prompts(labels(item).map { start + $0 })
  }

  /// What the two sides of OpenCompass' round templates say; the second for each label.
  private func rounds(_ item: ChoiceItem, _ subject: ChoiceSubject) -> (String, [String]) {
    let letters = item.choices.indices.map(ChoiceTemplate.letter)
    func filled(_ template: String) -> String { ChoiceTemplate.fill(template, item, subject) }
    switch kind {
    case .ceval:
      return (
        filled("以下是中国关于{subject}考试的单项选择题，请选出其中的正确答案。\n{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\n答案: "),
        letters
      )
    case .cmmlu:
      return (
        filled("以下是关于{subject}的单项选择题，请直接给出正确答案的选项。\n题目：{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}"),
        letters.map { "答案是: \($0)" }
      )
    case .hellaswag:
      // `query.split(': ', 2)[-1]`: what follows the first two ": ".
      let parts = item.question.bytes
      var start = item.question.startIndex
      for _ in 0..<2 {
        if let found = parts.range(of: ": ", from: start) { start = found.upperBound }
      }
      return (String(item.question[start...]), item.choices)
    default: return (filled("Question: {question}\nAnswer: "), item.choices)
    }
  }
}
