import Files
import Foundation
import TestSupport
import Testing
import Tokenization
import Training
import Tuning

/// Answers in conversations of models that bring a chat template.
@Suite struct DataTemplateTests {
  static func model(_ template: String, tokenizer file: String = "smol") throws -> TuningModel {
    let folder = try TemporaryFolder()
    let json = try Data(contentsOf: URL(fileURLWithPath: Fixture.path("tokenizers/\(file).json")))
    try json.write(to: URL(fileURLWithPath: folder.file("tokenizer.json")))
    let tokenizer = try TokenizerLoader.load(FolderFiles(folder.path))
    let own = ChatTemplate.own(ModelTemplate(source: template, label: "chat_template.jinja"))
    return TuningModel(
      tokenizer: tokenizer, template: own, endOfText: nil,
      stopTokens: Set(own.stopTokens(tokenizer)), vocabularySize: 1 << 20)
  }

  static let chatML = """
    {% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
    """

  static let conversation =
    #"{"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "One."}, {"role": "user", "content": "More?"}, {"role": "assistant", "content": "Two."}]}"#

  /// What is learned, each stretch as text, and the whole row.
  static func learned(
    _ template: String, _ record: String = conversation, _ options: TuningDataOptions = TuningDataOptions()
  ) throws -> (stretches: [String], text: String, dataset: TuningDataset) {
    let model = try model(template)
    let folder = try TemporaryFolder()
    try AtomicFile.write(record, to: folder.file("data.jsonl"))
    let dataset = try TuningDataset.load(
      files: [TuningFile(folder.file("data.jsonl"))], model: model, options: options)
    let row = dataset.rows[0]
    var stretches: [[Int]] = []
    for (place, label) in row.labels.enumerated() {
      guard let label else { continue }
      if place > 0, row.labels[place - 1] != nil, !stretches.isEmpty {
        stretches[stretches.count - 1].append(label)
      } else {
        stretches.append([label])
      }
    }
    return (
      try stretches.map { try model.tokenizer.decode($0) }, try model.tokenizer.decode(row.tokens), dataset
    )
  }

  @Test func answersCountWithTheTokenThatEndsThem() throws {
    let (stretches, text, dataset) = try Self.learned(Self.chatML)
    #expect(stretches == ["One.<|im_end|>", "Two.<|im_end|>"])
    #expect(text.hasPrefix("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi?"))
    #expect(text.hasSuffix("Two.<|im_end|>\n"))
    #expect(dataset.report.notes.isEmpty)
    // The ids are those of the whole text.
    let model = try Self.model(Self.chatML)
    #expect(dataset.rows[0].tokens == model.tokenizer.encode(text))
  }

  @Test func partsCanBeChosen() throws {
    let last = TuningDataOptions(trainedPart: .last)
    #expect(try Self.learned(Self.chatML, Self.conversation, last).stretches == ["Two.<|im_end|>"])
    let all = TuningDataOptions(trainedPart: .all)
    let everything = try Self.learned(Self.chatML, Self.conversation, all)
    #expect(everything.stretches == [everything.text])
  }

  /// 360Zhinao's labels fit any ChatML.
  @Test func theVendorsLabelsFitChatML() throws {
    let template = Self.chatML.replacingOccurrences(of: "Be kind.", with: "You are a helpful assistant.")
    let vendor = TuningDataOptions(trainedPart: .zhinao)
    let stretches = try Self.learned(template, Self.conversation, vendor).stretches
    #expect(stretches.first == "<|im_start|>")
    #expect(stretches.contains("One.<|im_end|>\n<|im_start|>"))
    #expect(throws: TuningDataError(.notZhinao, path: "")) {
      try Self.learned(Self.chatML, Self.conversation, vendor)
    }
  }

  /// A newline at the start of an answer does not merge with the frame's: a chat asks with the frame alone.
  @Test func whatStandsBeforeAnAnswerIsEncodedAsAChatDoes() throws {
    let record =
      #"{"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "\n\nOne."}]}"#
    let row = try Self.learned(Self.chatML, record).dataset.rows[0]
    let model = try Self.model(Self.chatML)
    let template = try #require(model.template)
    let asked = try template.encode(
      [ChatMessage(role: "user", content: "Hi?")], tokenizer: model.tokenizer, addingGenerationPrompt: true)
    #expect(row.tokens.starts(with: asked))
    #expect(row.labels.prefix(asked.count).allSatisfy { $0 == nil })
    #expect(row.labels[asked.count] != nil)
  }

  /// A tokenizer that puts a mark before every text would put one before an answer, which no model writes there.
  @Test func answersHaveNoMarkOfATextsStart() throws {
    let template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}"
    let model = try Self.model(template, tokenizer: "llama-legacy")
    #expect(model.tokenizer.marksTextStart)
    let folder = try TemporaryFolder()
    try AtomicFile.write(
      Self.conversation + "\n" + #"{"prompt": "[user] Hi?", "completion": " One."}"#,
      to: folder.file("data.jsonl"))
    let rows = try TuningDataset.load(
      files: [TuningFile(folder.file("data.jsonl"))], model: model, options: TuningDataOptions()
    ).rows
    let text = "[user] Hi? [assistant] One. [user] More? [assistant] Two. "
    #expect(rows[0].tokens == model.tokenizer.encode(text))
    let before = model.tokenizer.encode("[user] Hi? ")
    #expect(rows[0].labels.prefix { $0 == nil }.count == before.dropLast().count)
    let opening = model.tokenizer.affixes.prefix
    #expect(rows[1].tokens == opening + model.tokenizer.encode("[user] Hi? One."))
    #expect(
      rows[1].labels.prefix { $0 == nil }.count
        == opening.count + model.tokenizer.encode("[user] Hi?").count)
  }

  @Test func theTemplatesOwnMarksCount() throws {
    let template =
      "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
      + "{% else %}U:{{ m.content }}\n{% endif %}{% endfor %}!"
    #expect(try Self.learned(template).stretches == ["One.<|im_end|>", "Two.<|im_end|>"])
    let last = TuningDataOptions(trainedPart: .last)
    #expect(try Self.learned(template, Self.conversation, last).stretches == ["Two.<|im_end|>"])
  }

  /// A template that writes thoughts in the last answer only, or words at the end, hides where earlier answers are.
  @Test func templatesWithoutPrefixesAreRefusedByName() throws {
    let template =
      "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>{% if loop.last %}<think>{% endif %}{{ m.content }}<|im_end|>"
      + "{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
    do {
      _ = try Self.learned(template)
      Issue.record("the template was taken")
    } catch let error as TuningDataError {
      #expect(error.reason == .noPrefixes(place: "item 0", template: "chat_template.jinja"))
      #expect(error.description.contains("--train-on last"))
    }
    let last = TuningDataOptions(trainedPart: .last)
    #expect(try Self.learned(template, Self.conversation, last).stretches == ["<think>Two.<|im_end|>"])
  }

  /// Reasoning models open answers with a thought that old answers do not have.
  @Test func otherOpeningsAreToldOf() throws {
    let template =
      "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant {{ m.content }}<|im_end|>"
      + "{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant <think>{% endif %}"
    let (stretches, _, dataset) = try Self.learned(template)
    #expect(stretches == ["One.<|im_end|>", "Two.<|im_end|>"])
    #expect(dataset.report.notes.contains { $0.contains("opens the answers of 1 conversations otherwise") })
  }

  @Test func answersWithoutAnEndAreToldOf() throws {
    let template =
      "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    let (stretches, _, dataset) = try Self.learned(template)
    #expect(stretches == ["One.\n", "Two.\n"])
    #expect(dataset.report.notes.contains { $0.contains("does not learn where to stop") })
  }

  /// The same rows every day.
  @Test func aDateInTheTemplateIsFixed() throws {
    let template = "{{ strftime_now('%d %b %Y') }}|" + Self.chatML
    let (_, text, dataset) = try Self.learned(template)
    #expect(text.hasPrefix("26 Jul 2024|"))
    #expect(dataset.report.notes.contains { $0.contains("2024-7-26") })
  }

  @Test func longConversationsKeepWhatFits() throws {
    let full = try Self.learned(Self.chatML).dataset.rows[0]
    let place = try #require(full.labels.firstIndex { $0 != nil })
    let cut = TuningDataOptions(maximumLength: place + 2)
    let row = try Self.learned(Self.chatML, Self.conversation, cut).dataset.rows[0]
    #expect(row.tokens == Array(full.tokens.prefix(place + 2)))
    #expect(row.labels == Array(full.labels.prefix(place + 2)))
  }

  @Test func conversationsThatTheTemplateRefusesAreLeftOut() throws {
    let template =
      "{% if messages[0].content == 'bad' %}{{ raise_exception('no bad words') }}{% endif %}" + Self.chatML
    let bad =
      #"{"messages": [{"role": "user", "content": "bad"}, {"role": "assistant", "content": "One."}]}"#
    let dataset = try Self.learned(template, Self.conversation + "\n" + bad).dataset
    #expect(dataset.rows.count == 1)
    #expect(dataset.report.sources[0].leftOut.reasons.map(\.place) == ["line 2"])
    #expect(throws: (any Error).self) { try Self.learned("{% if %}") }
  }
}
