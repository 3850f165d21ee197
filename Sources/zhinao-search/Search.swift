import ArgumentParser
import ToolSupport

@main
struct Search: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-search", abstract: "Embeds, searches and reranks texts.")
}
