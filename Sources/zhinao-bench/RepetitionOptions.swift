import ArgumentParser
import ToolSupport

/// `--repetitions`, for every command that measures.
struct RepetitionOptions: ParsableArguments {
  @Option(
    name: .customLong("repetitions"), parsing: .unconditional,
    help: ArgumentHelp("Measure this many times; results are medians.", valueName: "n"))
  var count = 5

  func validate() throws { try OptionRange.check("--repetitions", count, 1...1000) }
}
