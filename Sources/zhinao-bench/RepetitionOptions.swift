import ArgumentParser

/// `--repetitions`, for every command that measures.
struct RepetitionOptions: ParsableArguments {
  @Option(
    name: .customLong("repetitions"), parsing: .unconditional,
    help: ArgumentHelp("Measure this many times; results are medians.", valueName: "n"))
  var count = 5

  func validate() throws {
    guard (1...1000).contains(count) else { throw ValidationError("--repetitions: expected 1 to 1000.") }
  }
}
