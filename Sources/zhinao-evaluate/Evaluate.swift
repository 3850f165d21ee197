import ArgumentParser
import ToolSupport

@main
enum Entry {
  static func main() {
    let asksForScript = CommandLine.arguments.contains { $0.hasPrefix("--generate-completion-script") }
    if asksForScript { ToolMain.run(CompletedCommand.self) }
    ToolMain.run(Evaluate.self, outlivesTerminal: true)
  }
}

/// What shells complete. ArgumentParser's scripts do not offer the options of a default subcommand, so that here they are the
/// command's own.
struct CompletedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-evaluate", version: ToolVersion.generator, subcommands: [TasksCommand.self])

  @OptionGroup var run: RunOptions
}

/// The command itself has no arguments, so that its subcommands can have them. Its help is the default subcommand's.
struct Evaluate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-evaluate",
    abstract: RunCommand.abstract,
    usage: RunCommand.usage,
    version: ToolVersion.generator,
    subcommands: [RunCommand.self, TasksCommand.self],
    defaultSubcommand: RunCommand.self,
    helpNames: [])
}
