import Files
import JSON
import Tasks
import TestSupport
import Testing

/// Prompts of multiple-choice questions against lm-eval itself and OpenCompass' rules (`golden/choices.json`).
@Suite struct ChoiceTaskTests {
  /// The 40 questions of the goldens, and the examples.
  static func subject(_ language: String, title: String) throws -> ChoiceSubject {
    let json = try JSONValue.parse(file: Fixture.path("golden/choice-questions.json"))
    func items(_ name: String) throws -> [ChoiceItem] {
      try #require(json["\(name)_\(language)"]?.arrayValue).enumerated().map { index, row in
        let parts = try #require(row.arrayValue)
        return ChoiceItem(
          id: "\(name)/\(index)", subject: "common_sense", question: try #require(parts[0].stringValue),
          choices: try #require(parts[1].arrayValue).map { try #require($0.stringValue) },
          answer: try #require(parts[2].intValue))
      }
    }
    return ChoiceSubject(
      name: "common_sense", title: title, examples: try items("dev"), items: try items("test"))
  }

  static func golden(_ part: String, _ name: String) throws -> [JSONValue] {
    try #require(
      try JSONValue.parse(file: Fixture.path("golden/choice-prompts.json"))[part]?[name]?.arrayValue)
  }

  @Test(arguments: [("ceval", "zh", "常识"), ("cmmlu", "zh", "常识"), ("mmlu", "en", "common sense")], [0, 2])
  func lettersAsLMEval(task: (name: String, language: String, title: String), shots: Int) throws {
    let found = try #require(ChoiceTask.named(task.name))
    let subject = try Self.subject(task.language, title: task.title)
    let goldens = try Self.golden("lm_eval", "letters-\(task.language)-\(shots)shot")
    #expect(goldens.count == 20)
    for (item, golden) in zip(subject.items, goldens) {
      let prompt = try found.prompt(item, of: subject, shots: shots, mode: .lmEval)
      var context = try #require(golden["context"]?.stringValue)
      if task.name == "cmmlu" {
        context = context.bytes.replacing(
          "以下是中国关于常识的单项选择题，请选出其中的正确答案。", with: "以下是关于常识的单项选择题，请直接给出正确答案的选项。")
      }
      #expect(
        prompt
          == .continuations(
            context: context, continuations: [" A", " B", " C", " D"], choices: ["A", "B", "C", "D"]))
    }
  }

  @Test(arguments: [("cloze", " "), ("cloze-no-delimiter", "")])
  func textsAsLMEval(name: String, delimiter: String) throws {
    var template = ChoiceTemplate.texts
    template.delimiter = delimiter
    let task = ChoiceTask.choices(template)
    for golden in try Self.golden("lm_eval", name)
      + (delimiter == " " ? Self.golden("lm_eval", "full-answer") : [])
    {
      let choices = try #require(golden["choices"]?.arrayValue).map { try #require($0.stringValue) }
      let context = try #require(golden["context"]?.stringValue)
      let item = ChoiceItem(id: "1", subject: "s", question: context, choices: choices, answer: 0)
      let prompt = try task.prompt(item, of: ChoiceSubject(name: "s", title: "s"), shots: 0, mode: .lmEval)
      #expect(
        prompt
          == .continuations(
            context: context, continuations: choices.map { delimiter + $0 }, choices: choices))
    }
  }

  @Test(
    arguments: [
      ("ceval", ChoiceMode.string, "zh", "常识"), ("mmlu", .string, "en", "common sense"),
      ("ceval", .roundsJoined, "zh", "常识"), ("cmmlu", .roundsJoined, "en", "常识"),
      ("ceval", .roundsNewline, "zh", "常识"), ("cmmlu", .roundsNewline, "en", "常识"),
    ], [0, 2])
  func wholePromptsAsOpenCompass(
    task: (name: String, mode: ChoiceMode, language: String, title: String), shots: Int
  ) throws {
    let found = try #require(ChoiceTask.named(task.name))
    let subject = try Self.subject(task.language, title: task.title)
    let goldens = try Self.golden("opencompass", "\(task.mode.rawValue)-\(task.language)-\(shots)shot")
    #expect(goldens.count == (task.mode == .string ? 20 : 8))
    for (item, golden) in zip(subject.items, goldens) {
      guard case .prompts(let prompts) = try found.prompt(item, of: subject, shots: shots, mode: task.mode)
      else {
        Issue.record("not whole prompts")
        continue
      }
      let first = try #require(golden.stringValue)
      #expect(prompts == ["A", "B", "C", "D"].map { first.dropLast() + $0 })
    }
  }

  @Test func refusesModesAndExamplesThatATaskDoesNotHave() throws {
    let subject = try Self.subject("en", title: "common sense")
    let mmlu = try #require(ChoiceTask.named("mmlu"))
    #expect(throws: DataError.self) {
      try mmlu.prompt(subject.items[0], of: subject, shots: 0, mode: .roundsJoined)
    }
    let error = #expect(throws: DataError.self) {
      try mmlu.prompt(subject.items[0], of: subject, shots: 6, mode: .lmEval)
    }
    #expect(error?.description.contains("5 examples for common sense") == true)
  }

  /// What is put into a template is not looked at again, and text without a meaning stays.
  @Test func templatesAreFilledOnce() throws {
    let item = ChoiceItem(
      id: "1", subject: "s", question: "{A} or {question}?", choices: ["{B}", "two"], answer: 0,
      fields: ["hint": "h"])
    let template = ChoiceTemplate(
      question: "{hint} {question}\n{options}\n{C} {unknown} {A}{", scored: .letters)
    let prompt = try ChoiceTask.choices(template)
      .prompt(item, of: ChoiceSubject(name: "s", title: "s"), shots: 0, mode: .lmEval)
    #expect(
      prompt
        == .continuations(
          context: "h {A} or {question}?\nA. {B}\nB. two\n{C} {unknown} {B}{", continuations: [" A", " B"],
          choices: ["A", "B"]))
  }
}
