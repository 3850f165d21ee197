import ArgumentParser
import ToolSupport

@main struct Tune: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-tune", abstract: "Train a LoRA adapter on a CPU.")
}
