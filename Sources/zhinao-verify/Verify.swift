import ArgumentParser
import ToolSupport

@main
enum Entry {
  static func main() { ToolMain.run(Verify.self) }
}

struct Verify: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-verify",
    abstract: "Evaluate models and check model files.",
    discussion: """
      A model is a Hugging Face folder, an AutoGPTQ folder, a .zhinao file or a .gguf file.

      EXAMPLES
        zhinao-verify perplexity model.zhinao --text eval.txt
        zhinao-verify compare MODEL_DIR model-int4.zhinao --text eval.txt
        zhinao-verify logits MODEL_DIR --ids 1,2,3 -o logits.safetensors
        zhinao-verify tokenize MODEL_DIR < cases.jsonl
        zhinao-verify template MODEL_DIR < conversations.jsonl
        zhinao-verify integrity model.zhinao
        zhinao-verify self-check model.zhinao
        zhinao-verify lint MODEL_DIR
      """,
    version: ToolVersion.generator,
    subcommands: [
      PerplexityCommand.self, CompareCommand.self, LogitsCommand.self, TokenizeCommand.self,
      TemplateCommand.self,
      IntegrityCommand.self, SelfCheckCommand.self, LintCommand.self,
    ])
}
