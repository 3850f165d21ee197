import Compute
import Files
import Foundation
import JSON
import Safetensors
import TestSupport
import Testing

/// Runs the built executables as a person would.
struct Tool {
  var output: String
  var errors: String
  var code: Int32

  static func run(
    _ name: String, _ arguments: [String], input: String = "", environment: [String: String] = [:]
  )
    throws -> Tool
  {
    let process = Process()
    let folder = try #require(Bundle.main.executableURL).deletingLastPathComponent()
    process.executableURL = folder.appendingPathComponent(name)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let scratch = try TemporaryFolder()
    try AtomicFile.write(input, to: scratch.file("in"))
    for file in ["out", "err"] {
      _ = FileManager.default.createFile(atPath: scratch.file(file), contents: nil)
    }
    process.standardInput = try FileHandle(forReadingFrom: URL(fileURLWithPath: scratch.file("in")))
    process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: scratch.file("out")))
    process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: scratch.file("err")))
    try process.run()
    process.waitUntilExit()
    return Tool(
      output: try String(contentsOfFile: scratch.file("out"), encoding: .utf8),
      errors: try String(contentsOfFile: scratch.file("err"), encoding: .utf8),
      code: process.terminationStatus)
  }
}

@Suite struct CommandTests {
  static let gqa = Fixture.path("tiny-zhinao-gqa")

  /// A file proves the arithmetic of the machine that reads it: right tables pass, a wrong one is caught and located.
  @Test func aWrongKernelIsCaught() throws {
    let folder = try TemporaryFolder()
    let float = folder.file("m.zhinao")
    let int4 = folder.file("m-int4.zhinao")
    #expect(try Tool.run("zhinao-convert", [Self.gqa, "-o", float]).code == 0)
    let quantized = try Tool.run(
      "zhinao-quantize", [Self.gqa, "--method", "rtn", "--group-size", "32", "-o", int4])
    #expect(quantized.code == 0, "\(quantized.errors)")
    for path in [float, int4] {
      for isa in ["", "scalar"] {
        let good = try Tool.run(
          "zhinao-verify", ["self-check", path, "--json"], environment: ["ZHINAO_ISA": isa])
        #expect(good.code == 0, "\(good.output)\(good.errors)")
        let checks = try JSONValue.parse(good.output)["checks"]?.arrayValue
        #expect(checks?.first?["largest_relative_difference"]?.doubleValue == 0)
      }
      let bad = try Tool.run("zhinao-verify", ["self-check", path], environment: ["ZHINAO_ISA": "faulty"])
      #expect(bad.code == 65)
      #expect(bad.output.contains("exact FAILED at sequence 0, after layer"))
      let refused = try Tool.run(
        "zhinao-chat", [path, "--prompt", "a", "--max-new-tokens", "1", "--self-check"],
        environment: ["ZHINAO_ISA": "faulty"])
      #expect(refused.code == 65)
    }
  }

  /// Each of the faults that cost people hours is named; the checkpoint without one passes.
  @Test func lintNamesWhatIsWrong() throws {
    let folder = try TemporaryFolder()
    let good = folder.file("good")
    let quantized = try Tool.run(
      "zhinao-quantize",
      [
        Self.gqa, "--method", "rtn", "--group-size", "32", "-o", folder.file("q.zhinao"), "--gptq-output",
        good,
      ])
    #expect(quantized.code == 0, "\(quantized.errors)")
    let passed = try Tool.run("zhinao-verify", ["lint", good, "--json"])
    #expect(passed.code == 0, "\(passed.output)")
    #expect(try JSONValue.parse(passed.output)["findings"]?.arrayValue?.isEmpty == true)

    /// Lints a copy of the good checkpoint after `damage`, which is given the copy's folder.
    func rules(_ name: String, _ damage: (String) throws -> Void) throws -> [String] {
      let copy = folder.file(name)
      try FileManager.default.copyItem(atPath: good, toPath: copy)
      try damage(copy)
      let result = try Tool.run("zhinao-verify", ["lint", copy, "--json"])
      #expect(result.code == 65, "\(name): \(result.output)\(result.errors)")
      let findings = try JSONValue.parse(result.output)["findings"]?.arrayValue ?? []
      return Array(Set(findings.compactMap { $0["rule"]?.stringValue })).sorted()
    }
    /// Changes the bytes of the tensors whose names end so.
    func edit(_ copy: String, _ suffix: String, _ change: (inout [UInt8], Range<Int>) -> Void) throws {
      let path = copy + "/model.safetensors"
      let ranges = try SafetensorsFile(path: path).tensors.filter { $0.name.hasSuffix(suffix) }.map(\.range)
      #expect(!ranges.isEmpty)
      var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
      for range in ranges { change(&bytes, range) }
      try Data(bytes).write(to: URL(fileURLWithPath: path))
    }
    #expect(
      try rules("v2-as-v1") { copy in
        try edit(copy, ".qzeros") { bytes, range in for i in range { bytes[i] = 0x88 } }
      } == ["zero-point-format"])
    #expect(
      try rules("mixed-order") { copy in
        // The first channel of one group changes places with the first of the next.
        try edit(copy, "up_proj.g_idx") { bytes, range in
          bytes.swapAt(range.lowerBound, range.lowerBound + 4 * 32)
        }
      } == ["g_idx"])
    #expect(
      try rules("nan-scale") { copy in
        try edit(copy, "0.mlp.down_proj.scales") { bytes, range in
          (bytes[range.lowerBound], bytes[range.lowerBound + 1]) = (0x00, 0x7E)
        }
      } == ["scales"])
    #expect(
      try rules("missing-shard") { copy in
        try FileManager.default.removeItem(atPath: copy + "/model.safetensors")
        let index = #"{"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}"#
        try AtomicFile.write(index, to: copy + "/model.safetensors.index.json")
      } == ["shards"])
    #expect(
      try rules("truncated-vocabulary") { copy in
        let path = copy + "/vocab/360.tiktoken"
        let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
        try AtomicFile.write(lines.dropLast(100).joined(separator: "\n"), to: path)
      } == ["vocabulary"])
  }

  @Test func theWholePath() throws {
    let folder = try TemporaryFolder()
    let float = folder.file("m.zhinao")
    let int4 = folder.file("m-int4.zhinao")
    let gptq = folder.file("m-gptq")
    #expect(try Tool.run("zhinao-convert", [Self.gqa, "-o", float]).code == 0)
    let quantized = try Tool.run(
      "zhinao-quantize",
      [
        Self.gqa, "--calibration", Fixture.tinyZhinao + "/calibration.json", "--sequence-length", "128",
        "--samples", "8",
        "--group-size", "32", "-o", int4, "--gptq-output", gptq, "--json",
      ])
    #expect(quantized.code == 0, "\(quantized.errors)")
    #expect(try JSONValue.parse(quantized.output)["modules"]?.intValue == 10)
    #expect(FileManager.default.fileExists(atPath: int4 + ".report.json"))
    #expect(!FileManager.default.fileExists(atPath: int4 + ".partial"))
    for path in [float, int4, gptq] {
      #expect(try Tool.run("zhinao-verify", ["integrity", path]).code == 0)
    }
    let compared = try Tool.run(
      "zhinao-verify",
      [
        "compare", Self.gqa, int4, "--text", Fixture.tinyZhinao + "/eval.en.txt", "--window", "128",
        "--max-windows", "4", "--json",
      ])
    let comparison = try JSONValue.parse(compared.output)
    let ratio = try #require(comparison["perplexity_ratio"]?.doubleValue)
    #expect(ratio > 0.9 && ratio < 1.3)
    #expect(comparison["worst_positions"]?.arrayValue?.count == 20)
    #expect(comparison["by_token_class"]?.arrayValue?.isEmpty == false)
    #expect(comparison["top_k_overlap"]?["10"]?.doubleValue ?? 0 > 0.5)
    // The same text from the packed file and from the AutoGPTQ folder.
    let texts = try [int4, gptq].map {
      try Tool.run("zhinao-chat", [$0, "--prompt", "宝玉", "--max-new-tokens", "24", "--quiet"])
    }
    #expect(texts[0].code == 0 && texts[0].output == texts[1].output && !texts[0].output.isEmpty)
    // AutoGPTQ → .zhinao → AutoGPTQ.
    let packed = folder.file("from-gptq.zhinao")
    let back = folder.file("back")
    #expect(try Tool.run("zhinao-convert", [gptq, "-o", packed]).code == 0)
    #expect(try Tool.run("zhinao-convert", [packed, "-o", back]).code == 0)
    let (a, b) = (try TensorTable(path: gptq), try TensorTable(path: back))
    #expect(a.names == b.names)
    #expect(a.names.allSatisfy { Array(a[$0]!.bytes) == Array(b[$0]!.bytes) })
  }

  /// Ids are compared without a tokenizer too, which is said; encoders have no predictions to tell apart.
  @Test func comparisonsHaveDetails() throws {
    let folder = try TemporaryFolder()
    let (bare, ids) = (folder.file("bare"), folder.file("ids.json"))
    try FileManager.default.copyItem(atPath: Self.gqa, toPath: bare)
    try FileManager.default.removeItem(atPath: bare + "/vocab/360.tiktoken")
    try AtomicFile.write("[\((0..<40).map { "\($0 * 7 % 300)" }.joined(separator: ","))]", to: ids)
    let options = ["--ids", ids, "--window", "20", "--details", "--worst", "2"]
    let named = try Tool.run("zhinao-verify", ["compare", Self.gqa, Self.gqa] + options)
    #expect(named.code == 0 && named.output.contains("kind of token"))
    #expect(!named.errors.contains("warning:"))
    #expect(named.output.contains("2. KL") && !named.output.contains("3. KL"))
    let unnamed = try Tool.run("zhinao-verify", ["compare", bare, Self.gqa] + options)
    #expect(unnamed.code == 0 && !unnamed.output.contains("kind of token"))
    #expect(unnamed.errors.components(separatedBy: "warning:").count == 2, "\(unnamed.errors)")
    let encoder = Fixture.path("tiny-bert")
    let refused = try Tool.run("zhinao-verify", ["compare", encoder, encoder, "--text", ids, "--details"])
    #expect(refused.code == 64 && refused.errors.contains("--details"))
  }

  @Test func calibrationFilesHaveWeights() throws {
    let folder = try TemporaryFolder()
    let (chinese, english) = (Fixture.tinyZhinao + "/eval.zh.txt", Fixture.tinyZhinao + "/eval.en.txt")
    func run(_ files: [String]) throws -> Tool {
      try Tool.run(
        "zhinao-quantize",
        [Self.gqa, "--sequence-length", "64", "--samples", "8", "--group-size", "32", "--overwrite"]
          + ["--gptq-output", folder.file("out")] + files.flatMap { ["--calibration", $0] })
    }
    let mixed = try run([chinese + ":3", english])
    #expect(mixed.code == 0 && mixed.errors.contains("in 6 windows (weight 3)"), "\(mixed.errors)")
    let report = try JSONValue.parse(
      String(contentsOfFile: folder.file("out/quantization_report.json"), encoding: .utf8))
    let sources = try #require(report["calibration"]?["sources"]?.arrayValue)
    #expect(sources.map { $0["windows_used"]?.intValue } == [6, 2])
    #expect(sources.map { $0["weight"]?.doubleValue } == [3, 1])
    for weight in ["0", "-1", "nan", "three"] {
      let refused = try run([chinese + ":" + weight])
      #expect(refused.code == 64 && refused.errors.contains("weight \(weight)"), "\(refused.errors)")
    }
  }

  /// Every instruction set this machine has, each with 1, 2 and 3 threads; and one with bf16, which only some can multiply.
  @Test func instructionSetsAndThreadsGiveTheSameFile() throws {
    let folder = try TemporaryFolder()
    func digest(_ isa: String, threads: Int, _ arithmetic: String) throws -> String? {
      let path = folder.file("\(isa)-\(threads)-\(arithmetic).zhinao")
      let tool = try Tool.run(
        "zhinao-quantize",
        [
          Self.gqa, "--calibration", Fixture.tinyZhinao + "/calibration.jsonl", "--sequence-length", "64",
          "--samples", "6", "--group-size", "64", "--no-sym", "-o", path, "--threads", "\(threads)",
          "--calibration-arithmetic", arithmetic, "--print-digest", "--json",
        ], environment: ["ZHINAO_ISA": isa])
      #expect(tool.code == 0, "\(tool.errors)")
      let printed = try JSONValue.parse(tool.output)["sha256"]?[path]?.stringValue
      #expect(printed == (try Checksum.sha256(ofFile: path)))
      return printed
    }
    var digests: [String: String] = [:]
    var rounded: [String: String] = [:]
    for isa in InstructionSet.runnable.map(\.rawValue) {
      for threads in 1...3 {
        digests["\(isa), \(threads) threads"] = try digest(isa, threads: threads, "fp32")
      }
      rounded[isa] = try digest(isa, threads: 2, "bf16")
    }
    #expect(digests.count == 3 * InstructionSet.runnable.count)
    #expect(Set(digests.values).count == 1, "\(digests)")
    #expect(rounded.count == InstructionSet.runnable.count)
    #expect(Set(rounded.values).count == 1, "\(rounded)")
    #expect(digests.values.first != rounded.values.first)
  }

  /// A file names the checkpoint it came from, and the proof fails for any other.
  @Test func aFileProvesItsSource() throws {
    let folder = try TemporaryFolder()
    let source = folder.file("source")
    try FileManager.default.copyItem(atPath: Self.gqa, toPath: source)
    let float = folder.file("m.zhinao")
    let int4 = folder.file("q.zhinao")
    #expect(try Tool.run("zhinao-convert", [source, "-o", float]).code == 0)
    #expect(
      try Tool.run("zhinao-quantize", [source, "--method", "rtn", "--group-size", "32", "-o", int4]).code == 0
    )
    func prove(_ file: String) throws -> Tool {
      try Tool.run("zhinao-verify", ["integrity", file, "--provenance", source])
    }
    #expect(try prove(float).code == 0)
    #expect(try prove(int4).code == 0)
    let shard = source + "/model-00002-of-00002.safetensors"
    var bytes = try Data(contentsOf: URL(fileURLWithPath: shard))
    bytes[bytes.count - 3] ^= 1
    try bytes.write(to: URL(fileURLWithPath: shard))
    let changed = try prove(float)
    #expect(changed.code == 65)
    #expect(
      changed.output.contains(
        "model-00002-of-00002.safetensors is not the file that this model was made from"))
    #expect(changed.output.contains("the source gives other bytes"))
  }

  /// `--verify full` refuses what `--verify header` cannot see; `none` still refuses what is unsafe.
  @Test func openingVerifiesAsMuchAsAsked() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("m.zhinao")
    #expect(try Tool.run("zhinao-convert", [Self.gqa, "-o", path]).code == 0)
    var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    bytes[bytes.count - 4000] ^= 1
    try bytes.write(to: URL(fileURLWithPath: path))
    func logits(_ level: String) throws -> Int32 {
      try Tool.run(
        "zhinao-verify", ["logits", path, "--ids", "1", "-o", folder.file("l"), "--verify", level]
      ).code
    }
    #expect(try logits("header") == 0)
    #expect(try logits("full") == 65)
    bytes[16] ^= 1
    try bytes.write(to: URL(fileURLWithPath: path))
    #expect(try logits("none") == 65)
  }

  /// Faults of configuration files are put right, and the result is what the weights always were.
  @Test func lintRepairs() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("gptq")
    let made = try Tool.run(
      "zhinao-quantize",
      [
        Self.gqa, "--method", "rtn", "--group-size", "32", "--gptq-output", path, "--checkpoint-format",
        "gptq_v2",
      ])
    #expect(made.code == 0, "\(made.errors)")
    let config = path + "/quantize_config.json"
    for file in [config, path + "/config.json"] {
      let text = try String(contentsOfFile: file, encoding: .utf8)
      try AtomicFile.write(text.replacingOccurrences(of: "gptq_v2", with: "gptq"), to: file)
    }
    #expect(try Tool.run("zhinao-verify", ["lint", path]).code == 65)
    let fixed = try Tool.run("zhinao-verify", ["lint", path, "--fix"])
    #expect(fixed.code == 0, "\(fixed.output)")
    #expect(fixed.errors.contains("checkpoint_format becomes gptq_v2"))
    #expect(try JSONValue.parse(file: config)["checkpoint_format"]?.stringValue == "gptq_v2")
  }

  /// One answer a line, from a template alone and from a model, whose special tokens come from the template only.
  @Test func conversationsAreWrittenAsTheTemplateSays() throws {
    let folder = try TemporaryFolder()
    let template = folder.file("t.jinja")
    try AtomicFile.write(
      "{{ bos_token }}{{ messages[0].content }} {{ strftime_now('%d.%m.%Y') }}{% if tools is defined %}{{ raise_exception('No tools.') }}{% endif %}",
      to: template)
    let input = #"""
      {"messages": [{"role": "user", "content": "<eod>"}], "bos_token": "<s>"}
      {"messages": [{"role": "user", "content": "a"}], "tools": null}

      """#
    let tool = try Tool.run("zhinao-verify", ["template", template, "--date", "2026-11-30"], input: input)
    #expect(tool.output == "{\"text\":\"<s><eod> 30.11.2026\"}\n{\"error\":\"No tools.\"}\n")
    #expect(tool.code == 0 && tool.errors.isEmpty)
    let model = try Tool.run("zhinao-verify", ["template", Fixture.tinyZhinao], input: input)
    let first = try JSONValue.parse(model.output.bytes.split(separator: "\n")[0])
    let tokenized = try Tool.run(
      "zhinao-verify", ["tokenize", Fixture.tinyZhinao], input: #"{"text": "<eod>"}"# + "\n")
    let end = try #require(try JSONValue.parse(tokenized.output)["ids"]?.arrayValue?.first)
    #expect(first["text"]?.stringValue?.contains("<|im_start|>user\n<eod><|im_end|>") == true)
    #expect(first["ids"]?.arrayValue?.contains(end) == false)
    #expect(model.errors.contains("warning") && model.errors.contains("no chat template"))
    #expect(
      try Tool.run("zhinao-verify", ["template", template, "--date", "tomorrow"], input: "").code == 64)
  }

  /// The report says in words why a module needed more damping, and which.
  @Test func singularInputsAreExplained() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("q.zhinao")
    let tool = try Tool.run(
      "zhinao-quantize",
      [
        Self.gqa, "--calibration", Fixture.tinyZhinao + "/calibration.jsonl", "--sequence-length", "16",
        "--samples", "1", "-o", path,
      ])
    #expect(tool.code == 0, "\(tool.errors)")
    #expect(tool.output.contains("16 tokens for 128 channels limit the rank of H to 16"))
    let report = try JSONValue.parse(file: path + ".report.json")
    let first = try #require(report["modules"]?.arrayValue?.first?["inputs"])
    #expect(first["tokens"]?.intValue == 16 && first["channels"]?.intValue == 128)
    #expect((first["effective_rank"]?.intValue ?? 99) <= 16)
    #expect(report["diagnosis"]?.arrayValue?.count == 10)
  }

  /// Integers become the floats they stand for, without a quantization left in the configuration.
  @Test func dequantizedFoldersAreFloatModels() throws {
    let folder = try TemporaryFolder()
    let (int4, floats) = (folder.file("q.zhinao"), folder.file("floats"))
    #expect(
      try Tool.run("zhinao-quantize", [Self.gqa, "--method", "rtn", "--group-size", "32", "-o", int4]).code
        == 0)
    let made = try Tool.run("zhinao-convert", [int4, "-o", floats, "--dequantize", "--dtype", "float32"])
    #expect(made.code == 0, "\(made.errors)")
    #expect(try JSONValue.parse(file: floats + "/config.json")["quantization_config"] == nil)
    let logits = try [int4, floats].map { model in
      let out = folder.file("\(model.hashValue)")
      #expect(try Tool.run("zhinao-verify", ["logits", model, "--ids", "5,6,7", "-o", out]).code == 0)
      return try Checksum.sha256(ofFile: out)
    }
    #expect(logits[0] == logits[1])
  }

  @Test func logitsAndTokens() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("l.safetensors")
    #expect(try Tool.run("zhinao-verify", ["logits", Self.gqa, "--ids", "1,2,3", "-o", path]).code == 0)
    #expect(try SafetensorsFile(path: path).tensor("logits")?.shape == [3, 3072])
    let tokens = try Tool.run(
      "zhinao-verify", ["tokenize", Self.gqa], input: "{\"text\": \"你好\\u2028\"}\n{\"ids\": [72, 105]}\n")
    let lines = tokens.output.split(separator: "\n")
    #expect(lines.count == 2 && tokens.code == 0)
    #expect(try JSONValue.parse(String(lines[0]))["decoded"]?.stringValue == "你好\u{2028}")
  }

  /// Bad input: one or two lines, exit 65 or 66, nothing left behind.
  @Test func badInputIsReportedAndLeavesNothing() throws {
    let folder = try TemporaryFolder()
    func copy(_ name: String, _ change: (String) throws -> Void) throws -> String {
      let path = folder.file(name)
      try FileManager.default.copyItem(atPath: Self.gqa, toPath: path)
      try change(path)
      return path
    }
    func data(_ path: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path)) }
    let shard = "/model-00001-of-00002.safetensors"
    let cases: [(String, Int32)] = [
      (
        try copy("truncated") { path in
          try data(path + shard).dropLast(100).write(to: URL(fileURLWithPath: path + shard))
        }, 65
      ),
      (try copy("missing-shard") { try FileManager.default.removeItem(atPath: $0 + shard) }, 66),
      (
        try copy("oversized-header") { path in
          var bytes = try data(path + shard)
          bytes.replaceSubrange(0..<8, with: [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F])
          try bytes.write(to: URL(fileURLWithPath: path + shard))
        }, 65
      ),
      (
        try copy("nan") { path in
          let file = try SafetensorsFile(path: path + shard)
          var bytes = try data(path + shard)
          let tensor = try #require(file.tensors.first { $0.name.contains("proj.weight") })
          bytes.replaceSubrange(tensor.range.lowerBound..<tensor.range.lowerBound + 2, with: [0xC0, 0x7F])
          try bytes.write(to: URL(fileURLWithPath: path + shard))
        }, 65
      ),
      (
        try copy("wrong-vocabulary") { path in
          try FileManager.default.removeItem(atPath: path + "/vocab/360.tiktoken")
          try FileManager.default.copyItem(
            atPath: Fixture.path("cl100k_base.tiktoken"), toPath: path + "/vocab/360.tiktoken")
        }, 65
      ),
      (try copy("no-config") { try FileManager.default.removeItem(atPath: $0 + "/config.json") }, 66),
      (
        try copy("bad-config") {
          try "{".write(toFile: $0 + "/config.json", atomically: true, encoding: .utf8)
        }, 65
      ),
      (folder.file("nowhere"), 66),
    ]
    let outputs = try TemporaryFolder()
    for (path, code) in cases {
      let runs = [
        ("zhinao-convert", [path, "-o", outputs.file("x.zhinao")]),
        (
          "zhinao-quantize",
          [
            path, "--calibration", Fixture.tinyZhinao + "/calibration.jsonl", "--samples", "2",
            "--sequence-length", "32",
            "--group-size", "32", "-o", outputs.file("x.zhinao"), "--gptq-output", outputs.file("g"),
          ]
        ),
      ]
      for (name, arguments) in runs {
        let tool = try Tool.run(name, arguments)
        #expect(tool.code == code, "\(name) \(path): \(tool.code) \(tool.errors)")
        let lines = tool.errors.split(separator: "\n").filter {
          $0.hasPrefix("error: ") || !$0.contains("records")
        }
        #expect(lines.count <= 2 && lines.contains { $0.hasPrefix("error: ") }, "\(tool.errors)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: outputs.path) == [], "\(name) \(path)")
      }
    }
  }

  /// A tokenizer that cannot be read stops what needs it, and nothing else.
  @Test func weightsConvertBesideATokenizerThatCannotBeRead() throws {
    let folder = try TemporaryFolder()
    let source = folder.file("m")
    try FileManager.default.copyItem(atPath: Self.gqa, toPath: source)
    try FileManager.default.removeItem(atPath: source + "/vocab/360.tiktoken")
    try AtomicFile.write(
      #"{"model": {"type": "Unigram", "vocab": []}}"#, to: source + "/tokenizer.json")
    for output in ["m.zhinao", "m.gguf", "hf"] {
      let path = folder.file(output)
      let made = try Tool.run("zhinao-convert", [source, "-o", path])
      #expect(
        made.code == 0 && made.errors.contains("warning: ") && made.errors.contains("Unigram"),
        "\(made.errors)")
      #expect(
        try Tool.run("zhinao-verify", ["logits", path, "--ids", "1,2", "-o", folder.file("l")]).code == 0)
      let chat = try Tool.run("zhinao-chat", [path, "--prompt", "Hi", "-q"])
      #expect(chat.code != 0 && chat.errors.hasPrefix("error: "), "\(chat.errors)")
    }
    let quantized = try Tool.run(
      "zhinao-quantize", [source, "--method", "rtn", "--group-size", "32", "-o", folder.file("q.zhinao")])
    #expect(quantized.code == 0, "\(quantized.errors)")
  }

  @Test func aSmallerHeadStaysInThePackedFile() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("h.zhinao")
    let made = try Tool.run(
      "zhinao-quantize", [Self.gqa, "--method", "rtn", "--group-size", "32", "--head-bits", "8", "-o", path])
    #expect(made.code == 0, "\(made.errors)")
    #expect(try Tool.run("zhinao-verify", ["integrity", path]).code == 0)
    let text = [
      "--text", Fixture.tinyZhinao + "/eval.en.txt", "--window", "128", "--max-windows", "4", "--json",
    ]
    func perplexity(_ model: String, _ more: [String] = []) throws -> Double {
      let tool = try Tool.run("zhinao-verify", ["perplexity", model] + text + more)
      return try #require(try JSONValue.parse(tool.output)["perplexity"]?.doubleValue)
    }
    let (float, exact, fast) = (
      try perplexity(Self.gqa), try perplexity(path), try perplexity(path, ["--arithmetic", "fast"])
    )
    #expect(exact < 1.2 * float && abs(fast / exact - 1) < 0.02)
    // A folder cannot hold it, and says so.
    let export = try Tool.run("zhinao-convert", [path, "-o", folder.file("g")])
    #expect(export.code == 65 && export.errors.contains("--head-bits"))
  }

  @Test func memoryIsBoundedOrTheRunRefused() throws {
    let folder = try TemporaryFolder()
    let common = [
      Self.gqa, "--calibration", Fixture.tinyZhinao + "/calibration.jsonl", "--sequence-length", "64",
      "--samples",
      "6", "--group-size", "64",
    ]
    let refused = try Tool.run(
      "zhinao-quantize", common + ["-o", folder.file("a.zhinao"), "--memory-limit", "1MB"])
    #expect(refused.code == 64 && refused.errors.contains("--memory-limit"), "\(refused.errors)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    for (name, more) in [("b", ["--memory-limit", "1GiB"]), ("c", ["--scratch", folder.path])] {
      #expect(
        try Tool.run("zhinao-quantize", common + more + ["-o", folder.file("\(name).zhinao")]).code == 0)
    }
    #expect(
      try Checksum.sha256(ofFile: folder.file("b.zhinao")) == Checksum.sha256(ofFile: folder.file("c.zhinao"))
    )
  }

  @Test func benchMakesAndMeasuresAModel() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("r.zhinao")
    #expect(
      try Tool.run("zhinao-bench", ["make-model", "--shape", "tiny", "--encoding", "int4", "-o", path]).code
        == 0)
    #expect(try Tool.run("zhinao-verify", ["integrity", path]).code == 0)
    let tool = try Tool.run(
      "zhinao-bench",
      [path, "--prompt-tokens", "32", "--new-tokens", "4", "--repetitions", "1", "--json"])
    let json = try JSONValue.parse(tool.output)
    for key in [
      "prompt_tokens_per_second", "generation_tokens_per_second", "achieved_gb_per_second",
      "measured_gb_per_second", "load_seconds", "peak_rss_bytes", "threads",
    ] { #expect((json[key]?.doubleValue ?? 0) > 0, "\(key)") }
    let folderPath = folder.file("hf")
    #expect(
      try Tool.run("zhinao-bench", ["make-model", "--shape", "tiny", "--encoding", "bf16", "-o", folderPath])
        .code == 0)
    #expect(try Tool.run("zhinao-verify", ["integrity", folderPath]).code == 0)
  }

  /// What scripts rely on: one answer, from an argument or from standard input; special tokens as asked.
  @Test func chatAnswersScripts() throws {
    let limit = ["--max-new-tokens", "8", "--json"]
    func chat(_ arguments: [String], input: String = "") throws -> JSONValue {
      let tool = try Tool.run("zhinao-chat", [Self.gqa] + arguments + limit, input: input)
      #expect(tool.code == 0, "\(tool.errors)")
      return try JSONValue.parse(tool.output)
    }
    let asked = try chat(["--prompt", "宝玉<|im_end|>"])
    #expect(asked["ids"]?.arrayValue?.isEmpty == false)
    for (arguments, input) in [
      (["--prompt", "-"], "宝玉<|im_end|>"), ([], "宝玉<|im_end|>"), (["--special-tokens"], "宝玉<|im_end|>"),
    ] {
      let same = try chat(arguments, input: input)
      #expect(same["ids"] == asked["ids"] && same["prompt_ids"] == asked["prompt_ids"])
    }
    let plain = try chat(["--prompt", "宝玉<|im_end|>", "--plain-text"])
    #expect((plain["prompt_tokens"]?.intValue ?? 0) > (asked["prompt_tokens"]?.intValue ?? 0))
    // Without a terminal there is no conversation.
    #expect(try Tool.run("zhinao-chat", [Self.gqa]).code == 64)
    #expect(
      try Tool.run("zhinao-chat", [Self.gqa, "--prompt", "a", "--plain-text", "--special-tokens"]).code == 64)
  }

  /// The scripts are valid, and bash really completes with them.
  @Test(arguments: ["zhinao-chat", "zhinao-convert", "zhinao-quantize", "zhinao-verify", "zhinao-bench"])
  func shellsComplete(tool: String) throws {
    for shell in ["bash", "zsh", "fish"] {
      let script = try Tool.run(tool, ["--generate-completion-script", shell])
      #expect(script.code == 0 && script.output.contains(tool), "\(shell)")
    }
    let folder = try TemporaryFolder()
    try AtomicFile.write(
      try Tool.run(tool, ["--generate-completion-script", "bash"]).output, to: folder.file("c"))
    let bash = Process()
    let output = Pipe()
    bash.executableURL = URL(fileURLWithPath: "/bin/bash")
    // Of zhinao-quantize an option of its default subcommand.
    let (start, option) = tool == "zhinao-quantize" ? ("--samp", "--samples") : ("--vers", "--version")
    bash.arguments = [
      "-c",
      """
      source \(folder.file("c")) || exit
      COMP_WORDS=(\(tool) \(start)); COMP_CWORD=1; COMP_LINE="\(tool) \(start)"; COMP_POINT=${#COMP_LINE}
      function=$(complete -p \(tool) | grep -o -- '-F [^ ]*' | cut -c4-)
      "$function" \(tool) \(start) \(tool); echo "${COMPREPLY[@]}"
      """,
    ]
    bash.standardOutput = output
    try bash.run()
    let replies = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    bash.waitUntilExit()
    #expect(replies.contains(option), "\(replies)")
  }

  @Test func usageErrorsHaveTheirOwnCode() throws {
    #expect(try Tool.run("zhinao-convert", []).code == 64)
    #expect(try Tool.run("zhinao-quantize", [Self.gqa]).code == 64)
    #expect(
      try Tool.run("zhinao-quantize", [Self.gqa, "--bits", "5", "--method", "rtn", "-o", "/tmp/x.zhinao"])
        .code == 64)
    #expect(try Tool.run("zhinao-verify", ["perplexity", Self.gqa]).code == 64)
    #expect(
      try Tool.run("zhinao-chat", [Self.gqa, "--prompt", "x"], environment: ["ZHINAO_ISA": "mmx"]).code == 64)
    for tool in ["zhinao-convert", "zhinao-quantize", "zhinao-verify", "zhinao-chat"] {
      let help = try Tool.run(tool, ["--help"])
      #expect(help.code == 0 && help.output.contains("EXAMPLE"))
    }
    #expect(try Tool.run("zhinao-quantize", ["solve", "--help"]).output.contains("EXAMPLE"))
  }

  @Test func existingOutputsAreNotOverwritten() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("x.zhinao")
    try AtomicFile.write("mine", to: path)
    #expect(try Tool.run("zhinao-convert", [Self.gqa, "-o", path]).code == 73)
    #expect(try Tool.run("zhinao-quantize", [Self.gqa, "--method", "rtn", "-o", path]).code == 73)
    #expect(try String(contentsOfFile: path, encoding: .utf8) == "mine")
    #expect(try Tool.run("zhinao-convert", [Self.gqa, "-o", path, "--overwrite"]).code == 0)
  }

  /// This process holds the outputs, as a quantization under way does. The missing model shows that nothing is done first.
  @Test func outputsOfAnotherProcessAreRefusedAtOnce() throws {
    let folder = try TemporaryFolder()
    let (file, gptq) = (folder.file("x.zhinao"), folder.file("gptq"))
    let locks = try [file, gptq].map(OutputLock.init(output:))
    for arguments in [
      ["-o", file], ["--gptq-output", gptq + "/"], ["-o", folder.file("y"), "--gptq-output", gptq],
    ] {
      let tool = try Tool.run("zhinao-quantize", ["/nowhere", "--method", "rtn"] + arguments)
      #expect(tool.code == 73)
      #expect(tool.errors.contains("process \(getpid()) is writing it"), "\(tool.errors)")
    }
    for output in [file, gptq] {
      let tool = try Tool.run("zhinao-convert", [Self.gqa, "-o", output])
      #expect(tool.code == 73)
      #expect(tool.errors.contains("process \(getpid()) is writing it"), "\(tool.errors)")
    }
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        == [".gptq.lock", ".x.zhinao.lock"])
    withExtendedLifetime(locks) {}
  }

  /// A folder may be called like a subcommand's cousin, and options may come first.
  @Test func theModelNeedsNoSubcommand() throws {
    let folder = try TemporaryFolder()
    try FileManager.default.copyItem(atPath: Self.gqa, toPath: folder.file("quantize"))
    let tool = try Tool.run(
      "zhinao-quantize",
      ["--method", "rtn", "--group-size", "32", folder.file("quantize"), "-o", folder.file("x.zhinao")])
    #expect(tool.code == 0, "\(tool.errors)")
    for help in [["--help"], ["-h"]] {
      let tool = try Tool.run("zhinao-quantize", help)
      #expect(tool.code == 0 && tool.output.contains("--calibration") && tool.output.contains("solve"))
    }
    for arguments in [[], ["--method", "rtn"], [folder.file("quantize")]] {
      let tool = try Tool.run("zhinao-quantize", arguments)
      #expect(
        tool.code == 64 && tool.errors.contains("zhinao-quantize [<options>] <model>"), "\(tool.errors)")
    }
    #expect(try Tool.run("zhinao-quantize", ["--version"]).output.hasPrefix("zhinao-toolchain"))
    #expect(try Tool.run("zhinao-quantize", ["solve", "--help"]).output.contains("zhinao-quantize solve"))
  }

  @Test func damageIsFound() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("x.zhinao")
    #expect(try Tool.run("zhinao-convert", [Self.gqa, "-o", path]).code == 0)
    var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    bytes[bytes.count / 2] ^= 4
    try bytes.write(to: URL(fileURLWithPath: path))
    let tool = try Tool.run("zhinao-verify", ["integrity", path])
    #expect(tool.code == 65 && tool.output.contains("damaged"))
  }
}
