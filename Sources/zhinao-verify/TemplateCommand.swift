import ArgumentParser
import Files
import Foundation
import GGUF
import JSON
import Models
import PackedModel
import Templates
import Tokenization
import ToolSupport

struct TemplateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "template",
    abstract: "Write conversations as the model's chat template does, one JSON object on each line.",
    discussion: """
      Reads one object of variables a line from standard input, like {"messages": [{"role": "user", "content": "…"}], \
      "add_generation_prompt": true}, and answers each with one line: {"text": …, "ids": […]}, or {"error": …} when the \
      template refuses the conversation or does not fit it. The template sees the variables as they are (tools, \
      enable_thinking and others); what is not given is undefined, except for bos_token, eos_token and the other special \
      tokens, which come from the model. With continue_final_message the text ends with that of the final message.

      MODEL may also be a .jinja file; then there are no ids, and no special tokens that are not given. Special tokens come only \
      from the template: their names in messages are encoded as ordinary text.

      EXAMPLES
        zhinao-verify template MODEL_DIR < cases.jsonl
        zhinao-verify template chat_template.jinja --date 2026-11-30 < cases.jsonl
      """)

  @Argument(
    help: "A model or a .jinja file.", completion: .file(extensions: ["jinja", "zhinao", "gguf"]))
  var model: String
  @Option(
    help: ArgumentHelp(
      "The date that the template sees, at noon (default: this moment).", valueName: "YYYY-MM-DD"))
  var date: String?
  @Flag(help: "Treat names of special tokens in messages as tokens, as the reference tokenizers do.")
  var specialTokens = false
  @Flag(help: "Has no effect: the output is always JSON, one object on each line.")
  var json = false

  func validate() throws { _ = try clock() }

  @OptionGroup var preTokenizer: PreTokenizerOption

  func run() throws {
    let clock = try clock()
    let (template, tokenizer) = try open()
    var number = 0
    var answers = ""
    try StandardInput.forEachLine { line in
      number += 1
      if line.allSatisfy({ " \t\r".utf8.contains($0) }) { return }
      func bad(_ detail: String) -> FileError {
        FileError(.badContent, path: "standard input", detail: "line \(number): \(detail)")
      }
      let value: JSONValue
      do throws(JSONError) { value = try JSONValue.parse(line) } catch { throw bad(error.description) }
      guard var variables = value.objectValue else { throw bad("expected an object of variables") }
      let continues = variables["continue_final_message"]?.boolValue ?? false
      variables["continue_final_message"] = nil
      var prompt = ChatPrompt(variables: variables)
      prompt.continuesFinalMessage = continues
      prompt.clock = clock
      answers += answer(prompt, template, tokenizer).serialized() + "\n"
      if answers.utf8.count > 1 << 16 {
        try Output.stream(answers)
        answers = ""
      }
    }
    try Output.stream(answers)
  }

  private func answer(_ prompt: ChatPrompt, _ template: ChatTemplate, _ tokenizer: (any Tokenizer)?)
    -> JSONValue
  {
    do throws(ChatTemplateError) {
      let segments = try template.segments(of: prompt)
      var object = JSONObject([("text", .string(segments.map(\.text).joined()))])
      if let tokenizer {
        let ids = template.encode(
          segments, tokenizer: tokenizer, contents: specialTokens ? .recognized : .plain)
        object["ids"] = .array(ids.map { .init($0) })
      }
      return .object(object)
    } catch {
      return ["error": .string(error.detail)]
    }
  }

  private func clock() throws -> TemplateClock? {
    guard let date else { return nil }
    let parts = date.bytes.split(separator: "-").map { Int($0) }
    guard parts.count == 3, let year = parts[0], let month = parts[1], let day = parts[2],
      (1...9999).contains(year), (1...12).contains(month), (1...31).contains(day)
    else { throw ValidationError("--date: expected a date like 2026-11-30.") }
    return TemplateClock(year: year, month: month, day: day, hour: 12)
  }

  // MARK: Opening

  private func open() throws -> (ChatTemplate, (any Tokenizer)?) {
    if model.bytes.hasSuffix(".jinja") {
      let file = try MappedFile(path: model)
      let source = withExtendedLifetime(file) { String(decoding: file.bytes, as: UTF8.self) }
      return (.own(ModelTemplate(source: source, label: model)), nil)
    }
    let files = try files()
    let own = try ModelTemplate(files)
    let tokenizer: any Tokenizer
    do { tokenizer = try TokenizerLoader.load(files) } catch let error as TokenizationError {
      guard let own else { throw error }
      Output.warn("\(error); there are no ids")
      return (.own(own), nil)
    }
    guard let template = try ChatTemplate.detected(tokenizer: tokenizer, files: files) else {
      throw FileError(
        .badContent, path: model, detail: "has no chat template, and its special tokens fit no default one")
    }
    if let note = template.note { Output.warn("\(model): \(note)") }
    return (template, tokenizer)
  }

  private func files() throws -> any ModelFiles {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: model, isDirectory: &isFolder) else {
      throw FileError(.cannotOpen, path: model, detail: "no such file or folder")
    }
    if isFolder.boolValue { return FolderFiles(model) }
    if GGUFFile.isGGUF(path: model) {
      return try OpenedModel(path: model, preTokenizer: preTokenizer.preTokenizer).files
    }
    return try PackedModelFile(path: model).files
  }
}
