import TestSupport
import Testing

/// Every numeric option with the values that break arithmetic: each is refused with 64 before anything is computed.
@Suite struct ExtremeOptionTests {
  private static let model = CommandTests.gqa
  private static let text = Fixture.tinyZhinao + "/eval.en.txt"
  /// No number, or no number of tokens, threads or runs.
  private static let impossible = [
    "0", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "1e3", "nan", "", "１",
    "1\u{301}",
  ]

  private func expectUsageError(_ tool: String, _ arguments: [String]) throws {
    let result = try Tool.run(tool, arguments)
    #expect(result.code == 64, "\(arguments): \(result.code) \(result.errors)")
    #expect(!result.errors.isEmpty)
  }

  @Test(arguments: ["--window", "--stride", "--threads"], impossible)
  func measuring(option: String, value: String) throws {
    try expectUsageError(
      "zhinao-verify", ["perplexity", Self.model, "--text", Self.text, "\(option)=\(value)"])
  }

  @Test(arguments: ["0", "-1", "-9223372036854775808", "9223372036854775808", "nan", ""])
  func windowsToStopAt(value: String) throws {
    try expectUsageError(
      "zhinao-verify", ["compare", Self.model, Self.model, "--text", Self.text, "--max-windows=\(value)"])
  }

  @Test func theLargestWindowsAreMoreThanAnyText() throws {
    let all = ["--max-windows", "9223372036854775807", "--window", "64", "--threads", "1"]
    let folder = try TemporaryFolder()
    let ids = folder.file("ids.json")
    try "[\(Array(repeating: "5", count: 130).joined(separator: ","))]".write(
      toFile: ids, atomically: true, encoding: .utf8)
    #expect(try Tool.run("zhinao-verify", ["perplexity", Self.model, "--ids", ids] + all).code == 0)
    let wide = ["--window", "1048576", "--stride", "1048575"]
    #expect(try Tool.run("zhinao-verify", ["perplexity", Self.model, "--ids", ids] + wide).code == 0)
  }

  @Test(arguments: ["", "1,", "x", "1\u{301}", "9223372036854775808", "１"])
  func idsThatAreNone(value: String) throws {
    let folder = try TemporaryFolder()
    try expectUsageError(
      "zhinao-verify", ["logits", Self.model, "--ids=\(value)", "-o", folder.file("l.safetensors")])
  }

  @Test(arguments: ["--shard-size", "--threads"], impossible)
  func converting(option: String, value: String) throws {
    let folder = try TemporaryFolder()
    try expectUsageError("zhinao-convert", [Self.model, "-o", folder.file("out"), "\(option)=\(value)"])
  }

  @Test func theLargestShardHoldsEverything() throws {
    let folder = try TemporaryFolder()
    #expect(
      try Tool.run("zhinao-convert", [Self.model, "-o", folder.file("out"), "--shard-size", "1000000000"])
        .code == 0)
  }

  @Test(arguments: ["--target-bits", "--target-kl"], impossible)
  func targets(option: String, value: String) throws {
    let folder = try TemporaryFolder()
    try expectUsageError(
      "zhinao-quantize",
      [Self.model, "--calibration", Self.text, "-o", folder.file("out"), "\(option)=\(value)"])
  }

  @Test(arguments: ["", ",", "5", "4,4", "4:", "4:3", "4:9223372036854775808", "1,2", "x"])
  func choicesOfBits(value: String) throws {
    let folder = try TemporaryFolder()
    try expectUsageError(
      "zhinao-quantize",
      [
        Self.model, "--calibration", Self.text, "-o", folder.file("out"), "--target-bits", "5",
        "--bit-choices=\(value)",
      ])
  }

  @Test(
    arguments: ["--prompt-tokens", "--new-tokens", "--context-tokens", "--repetitions", "--threads"],
    impossible)
  func benchmarks(option: String, value: String) throws {
    try expectUsageError("zhinao-bench", [Self.model, "\(option)=\(value)"])
  }

  @Test(arguments: [
    ["--prompt-tokens", "1048576"], ["--context-tokens", "1048576", "--new-tokens", "1048576"],
  ])
  func moreTokensThanTheContextHolds(arguments: [String]) throws {
    try expectUsageError("zhinao-bench", [Self.model] + arguments)
  }

  @Test(arguments: impossible)
  func benchmarksOfParts(value: String) throws {
    try expectUsageError("zhinao-bench", ["kernels", "--order=\(value)"])
    try expectUsageError("zhinao-bench", ["kernels", "--repetitions=\(value)"])
    try expectUsageError("zhinao-bench", ["quantize", "--tokens=\(value)"])
    try expectUsageError("zhinao-bench", ["tokenize", Self.model, Self.text, "--repetitions=\(value)"])
    try expectUsageError("zhinao-bench", ["verify", "x", "--repetitions=\(value)"])
    try expectUsageError("zhinao-bench", ["make-model", "--layers=\(value)", "-o", "x.zhinao"])
    try expectUsageError("zhinao-bench", ["make-model", "--head-bits=\(value)", "-o", "x.zhinao"])
  }

  @Test(arguments: [
    "", "x", "64", "64x", "x64", "64x64x64", "64x63", "0x64", "64x64+", "65568x64", "64x-64", "64x64\u{301}",
  ])
  func shapesThatAreNone(value: String) throws {
    try expectUsageError("zhinao-bench", ["quantize", "--shape=\(value)"])
  }

  /// The model is the default subcommand, wherever its options stand.
  @Test func aModelNeedsNoSubcommand() throws {
    let few = ["--prompt-tokens", "4", "--new-tokens", "2", "--repetitions", "1", "--no-warmup", "--json"]
    for arguments in [[Self.model] + few, few + [Self.model], ["model", Self.model] + few] {
      let result = try Tool.run("zhinao-bench", arguments)
      #expect(result.code == 0, "\(result.errors)")
      #expect(result.output.contains("\"prompt_tokens\": 4"))
    }
    #expect(try Tool.run("zhinao-bench", ["--version"]).code == 0)
  }
}
