import ArgumentParser
import ToolSupport

@main
enum Entry {
  static func main() { ToolMain.run(Search.self) }
}

struct Search: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-search",
    abstract: "Embed, search and rerank texts.",
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
      """,
    version: ToolVersion.generator,
    subcommands: [
      EmbedCommand.self, SimilarityCommand.self, RerankCommand.self, IndexCommand.self, QueryCommand.self,
      VerifyCommand.self,
    ])
}
