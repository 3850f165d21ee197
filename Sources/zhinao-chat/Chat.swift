import ArgumentParser
import Contexts
import Foundation
import Generation
import Models
import Tensors
import Terminal
import Tokenization
import ToolSupport
import Transformer

@main
enum Entry {
  static func main() { ToolMain.run(Chat.self) }
}

struct Chat: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-chat",
    abstract: "Chat with a model.",
    discussion: """
      On a terminal, without --prompt: a conversation. /help lists its commands; Ctrl-C stops an answer, exit or Ctrl-D \
      ends. Sampling is what the model's generation_config.json says, unless an option says otherwise: with do_sample, or, \
      without it, as soon as it gives a temperature, top_k or top_p; otherwise the most likely token (Docs/chat.md). \
      Names of special tokens in what you type are text, unless --special-tokens.

      With --prompt, or with text on standard input: one answer, for scripts. The most likely token unless --temperature, --top-k or --top-p is given. Names of \
      special tokens in the prompt are tokens, as in the reference, unless --plain-text.

      EXAMPLES
        zhinao-chat model-int4.zhinao
        zhinao-chat model-int4.zhinao --prompt "你好，请介绍一下你自己。"
        zhinao-chat model.zhinao --raw --prompt "Once upon a time"
        zhinao-chat model.zhinao --prompt "讲个故事" --temperature 0.8 --seed 7
        zhinao-chat model.zhinao --json < question.txt
        zhinao-chat model-int4.zhinao --lora my-adapter
        zhinao-chat model-int4.zhinao --save-context book.zhctx < book-and-question.txt
        zhinao-chat model-int4.zhinao --context book.zhctx < book-and-another-question.txt
        zhinao-chat --generate-completion-script bash   (Docs/chat.md)
      """,
    version: ToolVersion.generator)

  enum Contents: EnumerableFlag {
    case plainText
    case specialTokens

    static func help(for value: Contents) -> ArgumentHelp? {
      switch value {
      case .plainText: "Treat names of special tokens as ordinary text (default in a conversation)."
      case .specialTokens: "Treat names of special tokens as tokens (default for one answer)."
      }
    }
  }

  @Argument(
    help: "A model: .zhinao file, .gguf file, Hugging Face folder or AutoGPTQ folder.",
    completion: .file(extensions: ["zhinao", "gguf"]))
  var model: String
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("Print the answer to this text and exit; - reads standard input.", valueName: "text"))
  var prompt: String?
  @Option(
    help: ArgumentHelp("System message, instead of the default of the chat template.", valueName: "text"))
  var system: String?
  @Flag(help: "Continue the text as it is, without a chat template.")
  var raw = false
  @Flag(exclusivity: .exclusive)
  var contents: Contents?
  @OptionGroup(title: "Sampling") var sampling: SamplingOptions
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Room for prompt and answer, in tokens, at most the model's (default: for one answer what it needs, in a "
        + "conversation what fits into the available memory).", valueName: "n"))
  var contextSize: Int?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Maximum memory of the process, for example 6GiB: bounds the default of --context-size, and refuses a prompt that "
        + "needs more (default: four fifths of the available memory for a conversation, none for one answer).",
      valueName: "size"))
  var memoryLimit: String?
  @OptionGroup(title: "Saved contexts") var contexts: ContextOptions
  @OptionGroup var adapters: AdapterOptions
  @OptionGroup var products: ArithmeticOptions
  @OptionGroup var keysAndValues: KVCacheOptions
  @Option(
    help: ArgumentHelp(
      "File for the history of entered lines (default: ~/.local/state/zhinao/chat_history).",
      valueName: "file"),
    completion: .file())
  var historyFile: String?
  @Flag(help: "Do not save entered lines.")
  var noHistory = false
  @Flag(help: "First check that this machine computes the results recorded in the .zhinao file.")
  var selfCheck = false
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  var arithmetic: Int4Arithmetic { products.arithmetic ?? .fast }
  var cacheType: KVCacheType { keysAndValues.type(beside: arithmetic) }

  func validate() throws {
    if let contextSize, contextSize < 2 { throw ValidationError("--context-size: expected at least 2.") }
    _ = try memoryBytes()
    if noHistory && historyFile != nil {
      throw ValidationError("--no-history and --history-file cannot be combined.")
    }
  }

  func memoryBytes() throws -> Int? { try OptionRange.byteCount("--memory-limit", memoryLimit) }

  /// - Throws: ``GenerationError/memoryLimitTooSmall`` when a context of so many tokens needs more than `--memory-limit`.
  func checkMemory(_ tokens: Int, of decoder: Decoder, weightBytes: Int) throws {
    guard let limit = try memoryBytes() else { return }
    let c = decoder.configuration
    let sequence = MemoryPlan.sequenceBytes(c, tokens: tokens, type: cacheType)
    guard weightBytes + sequence > limit else { return }
    let token = MemoryPlan.bytesPerToken(c, type: cacheType)
    throw GenerationError.memoryLimitTooSmall(
      limit: limit, needed: weightBytes + sequence, weights: weightBytes, work: sequence - tokens * token,
      token: token)
  }

  func run() throws {
    if let prompt = try promptText() {
      try SingleAnswer(options: self, prompt: prompt).run()
      return
    }
    guard !output.json else {
      throw ValidationError("--json: give --prompt, or text on standard input.")
    }
    guard let device = TerminalDevice() else {
      throw ValidationError("standard output is not a terminal: give --prompt.")
    }
    try InteractiveChat(options: self, device: device).run()
  }

  /// What to say once, or nil for a conversation.
  private func promptText() throws -> String? {
    if let prompt, prompt != "-" { return prompt }
    guard prompt == "-" || isatty(STDIN_FILENO) != 1 else { return nil }
    let text = try SingleAnswer.standardInput()
    if text.isEmpty { throw ValidationError("Nothing to say: standard input is empty; give --prompt.") }
    return text
  }

  func open() throws -> OpenedModel {
    compute.apply()
    let opened = try opening.open(model)
    if selfCheck, let failure = try opened.selfCheck().compactMap(\.firstFailure).first {
      throw ModelError(.selfCheckFailed("\(failure)"), path: model)
    }
    return opened
  }

  func identity(_ opened: OpenedModel) throws -> ContextIdentity? {
    try contexts.identity(opened, adapters: adapters, arithmetic: arithmetic, cacheType: cacheType)
  }

  func template(_ opened: OpenedModel, _ tokenizer: any Tokenizer) throws -> ChatTemplate? {
    Output.warn(tokenizer.discrepancies)
    guard !raw else { return nil }
    let template = try ChatTemplate.detected(tokenizer: tokenizer, files: opened.files)
    if let note = template?.note { Output.warn("\(model): \(note)") }
    return template
  }

  func specialTokens(default usual: SpecialTokens) -> SpecialTokens {
    switch contents {
    case .plainText: .plain
    case .specialTokens: .recognized
    case nil: usual
    }
  }
}
