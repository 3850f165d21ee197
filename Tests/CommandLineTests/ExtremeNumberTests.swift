import Files
import JSON
import Safetensors
import TestSupport
import Testing

/// Every numeric option of every command, with values at and beyond the ends of its type: the command works, or says what it
/// expected and ends with 64, 65 or 74. A trap or a signal would give another code.
@Suite struct ExtremeNumberTests {
  static let numbers = [
    "-9223372036854775808", "-1", "0", "9223372036854775807", "9223372036854775808", "nan", "inf", "-inf",
    "1e300", "1e999", "5e-324", "99999999999999999999999999", "", "0x10",
  ]
  /// What options take that measure memory, beside the above.
  static let sizes = [
    "0B", "-1B", "1B", "9223372036854775807B", "9223372036854775807GiB", "8589934592GiB", "1e999GiB",
    "nanGiB",
    "GiB",
  ]
  static let model = Fixture.path("tiny-zhinao-gqa")

  /// What a command is run with beside the option that is tested: little work, so that a value it takes does not run long.
  /// `FOLDER` stands for a folder with a few ids, a packed model and two matrices.
  struct Command: CustomTestStringConvertible, Sendable {
    let tool: String
    let subcommand: String?
    let arguments: [String]
    /// The exit code without the option that is tested. It shows that a number was refused, and not what stands beside it.
    let code: Int32

    /// - Parameter name: of the tool, without `zhinao-`, and of its subcommand.
    init(_ name: String, _ arguments: [String], code: Int32 = 0) {
      let words = name.split(separator: " ").map(String.init)
      (self.tool, self.subcommand) = ("zhinao-" + words[0], words.count > 1 ? words[1] : nil)
      (self.arguments, self.code) = (arguments, code)
    }

    func run(in folder: TemporaryFolder, _ more: [String] = []) throws -> Tool {
      let fixed = arguments.map { $0.replacing("FOLDER", with: folder.path) }
      return try Tool.run(tool, [subcommand].compactMap { $0 } + fixed + more)
    }

    var testDescription: String { [tool, subcommand].compactMap { $0 }.joined(separator: " ") }

    /// The options whose value has a number's name in the help: those that the parser describes, so that none is forgotten.
    func numericOptions() throws -> [(name: String, isSize: Bool)] {
      let numbers = ["n", "k", "p", "t", "x", "MB", "size", "seconds", "1,2,3", "KxN"]
      let description = try JSONValue.parse(Tool.run(tool, ["--experimental-dump-help"]).output)
      let root = try #require(description["command"])
      let command =
        try subcommand.map { name in
          try #require(root["subcommands"]?.arrayValue?.first { $0["commandName"]?.stringValue == name })
        } ?? root
      return (command["arguments"]?.arrayValue ?? []).compactMap { argument in
        guard argument["kind"]?.stringValue == "option",
          let value = argument["valueName"]?.stringValue, numbers.contains(value),
          let name = argument["preferredName"]?["name"]?.stringValue
        else { return nil }
        return ("--" + name, value == "size")
      }
    }
  }

  static let evaluation = ["--ids", "FOLDER/ids.json", "--window", "4", "--max-windows", "1"]
  static let recipe = ["--bits", "4", "--group-size", "32", "--threads", "1"]
  static let commands = [
    // A context of 24 tokens bounds what an unbounded number of new tokens takes.
    Command(
      "chat", [model, "--raw", "--prompt", "a b c", "--max-new-tokens", "4", "--context-size", "24"]),
    // A server that would run is stopped by its address, which is no machine's (RFC 5737): 74.
    Command("serve", [model, "--host", "203.0.113.1"], code: 74),
    Command("convert", [model, "-o", "FOLDER/out", "--overwrite"]),
    Command("verify perplexity", [model] + evaluation),
    Command("verify compare", [model, model] + evaluation),
    Command("verify logits", [model, "--ids", "1,2", "-o", "FOLDER/logits.safetensors"]),
    Command("verify integrity", [model]),
    Command("verify self-check", ["FOLDER/m.zhinao"]),
    Command(
      "quantize quantize-model",
      [
        model, "--calibration", Fixture.tinyZhinao + "/calibration.jsonl", "--sequence-length", "16",
        "--samples", "2", "-o", "FOLDER/q.zhinao", "--gptq-output", "FOLDER/q", "--overwrite",
      ] + recipe),
    Command(
      "quantize solve",
      [
        "--weights", "FOLDER/W.safetensors", "--inputs", "FOLDER/X.safetensors",
        "-o", "FOLDER/solved.safetensors",
      ] + recipe),
    Command(
      "bench model",
      [
        model, "--prompt-tokens", "4", "--new-tokens", "2", "--context-tokens", "2", "--repetitions", "1",
        "--threads", "1",
      ]),
    Command(
      "bench encoder",
      [Fixture.path("tiny-bert"), "--tokens", "8", "--batches", "1", "--repetitions", "1"]),
    Command(
      "evaluate run-tasks",
      [
        model, "--task", "choices=\(Fixture.folder)/../../Sources/zhinao-evaluate/Resources/demo/choices",
        "--limit", "1",
      ]),
    Command(
      "tune",
      [
        model, "--data", "\(Fixture.folder)/../../Sources/zhinao-tune/Resources/demo/conversations.jsonl",
        "--max-length", "24", "--epochs", "0.001", "--output", "FOLDER/adapter", "--overwrite",
      ]),
    Command(
      "bench attention",
      ["--heads", "2", "--head-dim", "16", "--tokens", "8", "--context", "64", "--repetitions", "1"]),
    Command("bench kernels", ["--order", "16", "--repetitions", "1"]),
    Command("bench quantize", ["--tokens", "64", "--shape", "64x64"]),
    Command("bench tokenize", [model, Fixture.tinyZhinao + "/calibration.jsonl", "--repetitions", "1"]),
    Command("bench verify", ["FOLDER/m.zhinao", "--repetitions", "1"]),
    // A model would take minutes; its folder does not exist: 73.
    Command("bench make-model", ["-o", "/nonexistent/m.zhinao"], code: 73),
  ]

  @Test(arguments: commands)
  func endWithACodeOfTheirOwn(command: Command) throws {
    let folder = try TemporaryFolder()
    try AtomicFile.write("[1, 2, 3, 4, 5, 6, 7, 8]", to: folder.file("ids.json"))
    for name in ["W", "X"] {
      try Self.write(matrix: name, to: folder.file("\(name).safetensors"))
    }
    _ = try Tool.run("zhinao-convert", [Self.model, "-o", folder.file("m.zhinao")])
    let plain = try command.run(in: folder)
    try #require(plain.code == command.code, "\(plain.errors)")
    let options = try command.numericOptions()
    #expect(!options.isEmpty)
    for option in options {
      for number in Self.numbers + (option.isSize ? Self.sizes : []) {
        let result = try command.run(in: folder, ["\(option.name)=\(number)"])
        #expect(
          [0, 64, 65, 74].contains(result.code), "\(option.name) \(number): \(result.code) \(result.errors)")
        #expect(result.code == 0 || !result.errors.isEmpty, "\(option.name) \(number)")
      }
    }
  }

  /// A file with one matrix of 32 × 32.
  static func write(matrix name: String, to path: String) throws {
    let plan = TensorPlan(name, .f32, [32, 32])
    try SafetensorsWriter.write(to: path, tensors: [plan], metadata: []) { _, emit in
      let values = (0..<1024).map { Float($0 * 37 % 101) - 50 }
      try values.withUnsafeBytes { try emit($0) }
    }
  }

  /// Every command that has a numeric option stands in ``commands``.
  @Test(arguments: ["chat", "serve", "convert", "verify", "quantize", "evaluate", "tune", "bench"])
  func noCommandIsForgotten(tool: String) throws {
    let description = try JSONValue.parse(Tool.run("zhinao-" + tool, ["--experimental-dump-help"]).output)
    let subcommands = try #require(description["command"])["subcommands"]?.arrayValue ?? []
    for name in subcommands.compactMap({ $0["commandName"]?.stringValue }) where name != "help" {
      let known = Self.commands.contains { $0.tool == "zhinao-" + tool && $0.subcommand == name }
      #expect(try known || Command("\(tool) \(name)", []).numericOptions().isEmpty, "\(name)")
    }
    #expect(Self.commands.contains { $0.tool == "zhinao-" + tool })
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
}
