import TestSupport
import Testing

/// Every numeric option of the commands that generate, with values at and beyond the ends of its type: the command works, or
/// says what it expected and ends with 64. A trap or a signal would give another code.
@Suite struct ExtremeNumberTests {
  static let numbers = [
    "-9223372036854775808", "-1", "0", "9223372036854775807", "9223372036854775808", "nan", "inf", "-inf",
    "1e300",
    "5e-324", "99999999999999999999999999", "", "0x10",
  ]
  static let model = Fixture.path("tiny-zhinao-gqa")

  @Test(arguments: [
    "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--repetition-penalty", "--seed",
    "--context-size",
    "--threads",
  ])
  func chat(option: String) throws {
    for number in Self.numbers {
      // A context of 24 tokens bounds what an unbounded number of new tokens takes.
      let context = option == "--context-size" ? ["--max-new-tokens", "4"] : ["--context-size", "24"]
      let result = try Tool.run(
        "zhinao-chat", [Self.model, "--raw", "--prompt", "a b c", option, number] + context)
      #expect([0, 64].contains(result.code), "\(option) \(number): \(result.code) \(result.errors)")
    }
  }

  /// The largest context is the model's, however much was asked for.
  @Test func aContextIsAtMostTheModels() throws {
    for size in ["2049", "1000000000000", "9223372036854775807"] {
      let result = try Tool.run(
        "zhinao-chat",
        [Self.model, "--raw", "--prompt", "a", "--context-size", size, "--max-new-tokens", "2"])
      #expect(result.code == 0, "\(result.errors)")
    }
    let full = try Tool.run(
      "zhinao-chat",
      [
        Self.model, "--raw", "--prompt", "a", "--context-size", "8", "--max-new-tokens",
        "9223372036854775807",
        "--json",
      ])
    #expect(full.code == 0 && full.output.contains("\"finish_reason\": \"length\""))
  }

  /// A server that would run is stopped by its address, which is no machine's (RFC 5737): 74.
  @Test(arguments: [
    "--memory-limit", "--context-size", "--parallel", "--queue", "--max-new-tokens", "--request-timeout",
    "--read-timeout", "--max-body", "--connections", "--port", "--rate-limit", "--threads",
  ])
  func serve(option: String) throws {
    for number in Self.numbers {
      let result = try Tool.run(
        "zhinao-serve", [Self.model, "--host", "203.0.113.1", option, number])
      #expect([64, 74].contains(result.code), "\(option) \(number): \(result.code) \(result.errors)")
    }
  }

  @Test(arguments: ["--prompt-tokens", "--new-tokens", "--context-tokens", "--threads"])
  func bench(option: String) throws {
    var small = [
      "--prompt-tokens": "4", "--new-tokens": "2", "--context-tokens": "2", "--repetitions": "1",
      "--threads": "1",
    ]
    for number in Self.numbers {
      small[option] = number
      let result = try Tool.run("zhinao-bench", [Self.model] + small.flatMap { [$0.key, $0.value] })
      #expect([0, 64].contains(result.code), "\(option) \(number): \(result.code) \(result.errors)")
    }
  }

  @Test(arguments: [
    ["--repetitions"], ["kernels", "--repetitions"], ["kernels", "--order"], ["quantize", "--tokens"],
    ["quantize", "--shape"], ["make-model", "-o", "/nonexistent/m.zhinao", "--layers"],
    ["make-model", "-o", "/nonexistent/m.zhinao", "--head-bits"],
  ])
  func benchRefuses(arguments: [String]) throws {
    // What would be measured for hours, or minutes, is left out.
    for number in Self.numbers {
      let model = arguments.count == 1 ? [Self.model] : []
      let result = try Tool.run("zhinao-bench", arguments + [number] + model)
      #expect(result.code == 64, "\(arguments) \(number): \(result.code) \(result.errors)")
    }
  }
}
