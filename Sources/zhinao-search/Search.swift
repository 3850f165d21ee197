import ArgumentParser
import ToolSupport

@main
enum Entry {
  static func main() {
    let asksForScript = CommandLine.arguments.contains { $0.hasPrefix("--generate-completion-script") }
    if asksForScript { ToolMain.run(CompletedCommand.self) }
    ToolMain.run(Search.self)
  }
}

/// What shells complete. ArgumentParser's scripts do not offer the options of a default subcommand, so that here they are the
/// command's own.
struct CompletedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-search", version: ToolVersion.generator, subcommands: Search.shown)

  @OptionGroup var demo: DemoCommand
}

struct Search: ParsableCommand {
  static let usage = """
    zhinao-search <subcommand>
    zhinao-search --demo [<options>]
    """

  static let configuration = CommandConfiguration(
    commandName: "zhinao-search",
    abstract: "Embed, search and rerank texts.",
    usage: usage,
    discussion: """
      A model is a Hugging Face folder or a .zhinao file: an encoder (360Zhinao-search, any BERT embedding model) for vectors, and \
      for reranking a BERT cross-encoder, 360Zhinao-1.8B-Reranking, or a decoder that answers yes or no.

      EXAMPLES
        zhinao-search embed MODEL_DIR -o vectors.npy < texts.txt
        zhinao-search similarity MODEL_DIR "a text" "another"
        zhinao-search index MODEL_DIR --corpus corpus.jsonl -o INDEX
        zhinao-search query INDEX "what is sought" --top 10 --rerank RERANKER_DIR
        zhinao-search rerank RERANKER_DIR --query "what is sought" < passages.txt
        zhinao-search verify INDEX
        zhinao-search --demo
      """,
    version: ToolVersion.generator,
    subcommands: shown + [DemoCommand.self],
    defaultSubcommand: DemoCommand.self)

  static let shown: [any ParsableCommand.Type] = [
    EmbedCommand.self, SimilarityCommand.self, RerankCommand.self, IndexCommand.self, QueryCommand.self,
    VerifyCommand.self,
  ]
}
