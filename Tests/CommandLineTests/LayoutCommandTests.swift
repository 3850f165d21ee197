import Files
import Foundation
import JSON
import Safetensors
import TestSupport
import Testing

@Suite struct LayoutCommandTests {
  private static func tensors(_ path: String) throws -> [String: Data] {
    let table = try TensorTable(path: path)
    return try Dictionary(uniqueKeysWithValues: table.names.map { ($0, Data(try #require(table[$0]).bytes)) })
  }

  /// Int4 and its neighbours: rows of q, k and v change places, and no code, scale, zero point or group with them.
  @Test(arguments: [
    ["--bits", "4"], ["--bits", "4", "--no-sym", "--desc-act"], ["--bits", "2", "--no-sym"], ["--bits", "3"],
    ["--bits", "8", "--no-sym"],
  ])
  func quantizedModelsComeBackByteForByte(recipe: [String]) throws {
    let folder = try TemporaryFolder()
    let gptq = folder.file("gptq")
    let quantized = try Tool.run(
      "zhinao-quantize",
      [CommandTests.gqa] + recipe + [
        "--group-size", "32", "--calibration", Fixture.tinyZhinao + "/calibration.jsonl", "--samples", "4",
        "--sequence-length", "64", "-o", folder.file("q.zhinao"), "--gptq-output", gptq,
      ])
    #expect(quantized.code == 0, "\(quantized.errors)")
    for source in [gptq, folder.file("q.zhinao")] {
      let (stock, back) = (source + "-stock", source + "-back")
      for arguments in [[source, "-o", stock, "--to", "stock"], [stock, "-o", back, "--to", "zhinao-hf"]] {
        let tool = try Tool.run("zhinao-convert", arguments)
        #expect(tool.code == 0, "\(tool.errors)")
      }
      #expect(try Self.tensors(back) == Self.tensors(gptq))
      #expect(try Self.tensors(stock).keys.contains("model.layers.0.self_attn.v_proj.qzeros"))
      let lint = try Tool.run("zhinao-verify", ["lint", stock])
      #expect(lint.code == 0, "\(lint.output)")
      var digests: [String] = []
      for model in [gptq, stock] {
        let out = folder.file("logits")
        let run = try Tool.run("zhinao-verify", ["logits", model, "--ids", "5,6,7,1999", "-o", out])
        #expect(run.code == 0, "\(run.errors)")
        digests.append(try Checksum.sha256(ofFile: out))
      }
      #expect(digests[0] == digests[1])
    }
  }

  /// Converting and quantizing a linked folder gives files that open and have its tokenizer.
  @Test func linkedFoldersGiveWholeOutputs() throws {
    let folder = try TemporaryFolder()
    let link = folder.file("latest")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: CommandTests.gqa)
    let (packed, hf) = (folder.file("m.zhinao"), folder.file("hf"))
    let (int4, gptq) = (folder.file("q.zhinao"), folder.file("gptq"))
    for arguments in [[link, "-o", packed], [link, "-o", hf]] {
      #expect(try Tool.run("zhinao-convert", arguments).code == 0)
    }
    let quantized = try Tool.run(
      "zhinao-quantize",
      [link, "--method", "rtn", "--group-size", "32", "-o", int4, "--gptq-output", gptq])
    #expect(quantized.code == 0, "\(quantized.errors)")
    let expected = try Tool.run(
      "zhinao-verify", ["tokenize", CommandTests.gqa], input: "{\"text\": \"Hello\"}")
    for path in [packed, hf, int4, gptq] {
      let integrity = try Tool.run("zhinao-verify", ["integrity", path])
      #expect(integrity.code == 0 && !integrity.output.contains("tokenizer"), "\(integrity.output)")
      let ids = try Tool.run("zhinao-verify", ["tokenize", path], input: "{\"text\": \"Hello\"}")
      #expect(ids.code == expected.code && ids.output == expected.output)
    }
  }

  /// A file that cannot be read is found before the work, not after it.
  @Test func quantizationFirstReadsWhatItWillKeep() throws {
    let folder = try TemporaryFolder()
    let source = folder.file("source")
    try FileManager.default.copyItem(atPath: CommandTests.gqa, toPath: source)
    try FileManager.default.createSymbolicLink(
      atPath: source + "/chat_template.jinja", withDestinationPath: "../blobs/0")
    let run = try Tool.run(
      "zhinao-quantize", [source, "--method", "rtn", "--group-size", "32", "-o", folder.file("q.zhinao")])
    #expect(run.code == 65 && run.errors.contains("chat_template.jinja"), "\(run.errors)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["source"])
  }

  /// The one weights file of a folder may have any name, also one that its configuration does not say.
  @Test(arguments: ["gptq_model-4bit-32g", "model", "weights"])
  func aSingleFileMayHaveAnyName(name: String) throws {
    let folder = try TemporaryFolder()
    let gptq = folder.file("gptq")
    let made = try Tool.run(
      "zhinao-quantize",
      [
        CommandTests.gqa, "--method", "rtn", "--group-size", "32", "-o", folder.file("q.zhinao"),
        "--gptq-output", gptq,
      ])
    #expect(made.code == 0, "\(made.errors)")
    let tensors = try Self.tensors(gptq)
    if name != "model" {
      try FileManager.default.moveItem(
        atPath: gptq + "/model.safetensors", toPath: gptq + "/\(name).safetensors")
    }
    #expect(try Tool.run("zhinao-convert", [gptq, "-o", folder.file("a.zhinao")]).code == 0)
    #expect(try Tool.run("zhinao-convert", [folder.file("a.zhinao"), "-o", folder.file("b")]).code == 0)
    #expect(try Self.tensors(folder.file("b")) == tensors)
  }

  /// transformers finds an encoder's blocks only when it is told where they are, and no other engine knows BERT.
  @Test(arguments: [("tiny-bert", "encoder.layer"), ("tiny-bert-cross", "bert.encoder.layer")])
  func foldersOfEncodersNameTheirBlocks(_ fixture: String, _ blocks: String) throws {
    let folder = try TemporaryFolder()
    let gptq = folder.file("gptq")
    let made = try Tool.run(
      "zhinao-quantize",
      [Fixture.path(fixture), "--method", "rtn", "--group-size", "32", "--gptq-output", gptq])
    #expect(made.code == 0, "\(made.errors)")
    let path = gptq + "/config.json"
    var configuration = try #require(try JSONValue.parse(file: path).objectValue)
    #expect(configuration["quantization_config"]?["block_name_to_quantize"]?.stringValue == blocks)
    func engines() throws -> [String?] {
      let report = try JSONValue.parse(Tool.run("zhinao-verify", ["lint", gptq, "--json"]).output)
      let loading = report["engines"]?.arrayValue?.filter { $0["loads"]?.boolValue == true }
      return loading?.map { $0["engine"]?.stringValue } ?? []
    }
    #expect(try engines() == ["transformers"])
    var settings = try #require(configuration["quantization_config"]?.objectValue)
    settings["block_name_to_quantize"] = nil
    configuration["quantization_config"] = .object(settings)
    try AtomicFile.write(JSONValue.object(configuration).serialized(), to: path)
    try FileManager.default.removeItem(atPath: gptq + "/quantize_config.json")
    #expect(try engines().isEmpty)
  }

  /// AutoGPTQ 0.7.1 writes `is_marlin_format: false`, and GPTQModel 7 refuses to load what has the key.
  @Test func lintRemovesTheKeyThatGPTQModelRefuses() throws {
    let folder = try TemporaryFolder()
    let gptq = folder.file("gptq")
    let made = try Tool.run(
      "zhinao-quantize",
      [
        CommandTests.gqa, "--method", "rtn", "--group-size", "32", "-o", folder.file("q.zhinao"),
        "--gptq-output", gptq,
      ])
    #expect(made.code == 0, "\(made.errors)")
    let path = gptq + "/quantize_config.json"
    #expect(!(try String(contentsOfFile: path, encoding: .utf8)).contains("is_marlin_format"))
    var settings = try #require(try JSONValue.parse(file: path).objectValue)
    settings["is_marlin_format"] = false
    try AtomicFile.write(JSONValue.object(settings).serialized(), to: path)
    func loads() throws -> Bool? {
      let report = try JSONValue.parse(Tool.run("zhinao-verify", ["lint", gptq, "--json"]).output)
      let engine = report["engines"]?.arrayValue?.first { $0["engine"]?.stringValue == "GPTQModel" }
      return engine?["loads"]?.boolValue
    }
    #expect(try loads() == false)
    #expect(try Tool.run("zhinao-verify", ["lint", gptq, "--fix"]).code == 0)
    #expect(try loads() == true)
    #expect(!(try String(contentsOfFile: path, encoding: .utf8)).contains("is_marlin_format"))
  }

  @Test func adaptersAreMergedIntoFloatsOnly() throws {
    let folder = try TemporaryFolder()
    let int4 = folder.file("q.zhinao")
    #expect(
      try Tool.run(
        "zhinao-quantize", [CommandTests.gqa, "--method", "rtn", "--group-size", "32", "-o", int4]
      ).code
        == 0)
    let adapter = Fixture.path("lora")
    let refused = try Tool.run("zhinao-convert", [int4, "-o", folder.file("a"), "--merge-lora", adapter])
    #expect(refused.code == 65 && refused.errors.contains("--dequantize"), "\(refused.errors)")
    let merged = try Tool.run(
      "zhinao-convert", [int4, "-o", folder.file("b"), "--merge-lora", adapter, "--dequantize"])
    #expect(merged.code == 0, "\(merged.errors)")
    // The fine-tuned model is quantized like any other.
    let tuned = folder.file("t.zhinao")
    #expect(
      try Tool.run("zhinao-convert", [CommandTests.gqa, "-o", tuned, "--merge-lora", adapter]).code == 0)
    let again = try Tool.run(
      "zhinao-quantize", [tuned, "--method", "rtn", "--group-size", "32", "-o", folder.file("tq.zhinao")])
    #expect(again.code == 0, "\(again.errors)")
  }

  /// Weights that are not read: one line with the way around, exit 65.
  @Test(arguments: [
    (["config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"], "weights_only"),
    (["config.json", "consolidated.00.pth"], "weights_only"),
    (["latest", "zero_to_fp32.py", "config.json"], "zero_to_fp32.py . OUTPUT --safe_serialization"),
    (["global_step200/mp_rank_00_model_states.pt"], "zero_to_fp32.py"),
    (["latest", "step/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"], "zero_to_fp32.py"),
    (["adapter_config.json", "adapter_model.safetensors"], "--merge-lora"),
    (["adapter_config.json", "adapter_model.bin"], "adapter_model.safetensors"),
  ])
  func foreignWeightsAreRefusedWithTheWayAround(names: [String], advice: String) throws {
    let folder = try TemporaryFolder()
    for name in names {
      let path = folder.file("m/" + name)
      try FileManager.default.createDirectory(
        atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
      try AtomicFile.write("{}", to: path)
    }
    let tool = try Tool.run("zhinao-convert", [folder.file("m"), "-o", folder.file("x.zhinao")])
    #expect(tool.code == 65 && tool.errors.contains(advice), "\(tool.code) \(tool.errors)")
    #expect(tool.errors.split(separator: "\n").count == 1)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["m"])
    if let pickle = names.first(where: { $0.hasSuffix(".bin") || $0.hasSuffix(".pth") }) {
      let file = try Tool.run("zhinao-convert", [folder.file("m/" + pickle), "-o", folder.file("x.zhinao")])
      #expect(file.code == 65 && file.errors.contains("pickle"), "\(file.errors)")
    }
  }
}
