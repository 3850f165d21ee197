import ArgumentParser
import ToolSupport

@main
enum Entry {
  static func main() {
    let asksForScript = CommandLine.arguments.contains { $0.hasPrefix("--generate-completion-script") }
    if asksForScript { ToolMain.run(CompletedCommand.self) }
    ToolMain.run(Evaluate.self)
  }
}

/// What shells complete. ArgumentParser's scripts do not offer the options of a default subcommand, so that here they are the
/// command's own.
struct CompletedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-evaluate", version: ToolVersion.generator, subcommands: [TasksCommand.self])

  @OptionGroup var run: RunOptions
}

struct Evaluate: ParsableCommand {
  static let usage = """
    zhinao-evaluate <model> --task <name=path> ... [--compare <model>] [<options>]
    zhinao-evaluate tasks [<name>]
    zhinao-evaluate --demo
    """

  static let configuration = CommandConfiguration(
    commandName: "zhinao-evaluate",
    abstract: "Measure a model on tasks, or two models on the same items.",
    usage: usage,
    discussion: """
      Tasks read the files of their publishers from disk; zhinao-evaluate tasks says which files each of them expects. With \
      --compare, both models answer the same items, and every difference comes with a 95 % confidence interval.

      EXAMPLES
        zhinao-evaluate MODEL_DIR --task ceval=ceval-exam --output results.json
        zhinao-evaluate MODEL_DIR --compare model-int4.zhinao --task mmlu=data --task needle-zh=novel.jsonl --report report.html
        zhinao-evaluate MODEL_DIR --task choices=questions.jsonl --examples dev.jsonl --shots 5
        zhinao-evaluate tasks
        zhinao-evaluate --demo --report demo.html
      """,
    version: ToolVersion.generator,
    subcommands: [RunCommand.self, TasksCommand.self],
    defaultSubcommand: RunCommand.self)
}
