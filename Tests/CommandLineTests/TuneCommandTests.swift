import Files
import Foundation
import JSON
import Safetensors
import TestSupport
import Testing

/// zhinao-tune from outside.
@Suite struct TuneCommandTests {
  private static let model = Fixture.path("tiny-zhinao-gqa")
  private static let data: String = {
    let root = URL(fileURLWithPath: Fixture.folder).deletingLastPathComponent().deletingLastPathComponent()
    return root.appendingPathComponent("Sources/zhinao-tune/Resources/demo/conversations.jsonl").path
  }()
  private static let quick = [
    model, "--data", data, "--max-length", "48", "--steps", "3", "--batch-size", "2",
  ]

  private static func bytes(_ path: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: path))
  }

  @Test func writesWhatPEFTReadsAndSaysIt() throws {
    let folder = try TemporaryFolder()
    let result = try Tool.run(
      "zhinao-tune",
      Self.quick + [
        "--validation-fraction", "0.1", "--output", folder.file("adapter"), "--tensorboard",
        folder.file("events"),
        "--report-html", folder.file("report.html"), "--json", "--target", "q_proj", "--target", "down_proj",
        "--save-module", "norm", "--rank", "4", "--alpha", "8", "--base-name", "me/model",
      ])
    try #require(result.code == 0, "\(result.errors)")
    let json = try JSONValue.parse(result.output)
    #expect(json["steps"] == 3 && json["adapter"]?.stringValue == folder.file("adapter"))
    #expect(json["log"]?.arrayValue?.count == 5)
    let configuration = try JSONValue.parse(file: folder.file("adapter/adapter_config.json"))
    #expect(configuration["target_modules"] == ["q_proj", "down_proj"] && configuration["r"] == 4)
    #expect(configuration["base_model_name_or_path"] == "me/model")
    let tensors = try SafetensorsFile(path: folder.file("adapter/adapter_model.safetensors"))
    #expect(
      tensors.tensor("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight")?.shape == [4, 128])
    #expect(tensors.tensor("base_model.model.model.norm.weight")?.shape == [128])
    #expect(
      try String(contentsOfFile: folder.file("adapter/README.md"), encoding: .utf8).contains("me/model"))
    let events = try FileManager.default.contentsOfDirectory(atPath: folder.file("events"))
    #expect(events.count == 1 && events[0].hasPrefix("events.out.tfevents."))
    #expect(
      try String(contentsOfFile: folder.file("report.html"), encoding: .utf8).contains("Validation loss"))
    #expect(!FileManager.default.fileExists(atPath: folder.file("adapter.partial")))
    #expect(result.errors.contains("plan: 3 steps of 2 rows") && result.errors.contains("memory: "))
    // What is there is not overwritten by accident.
    let again = try Tool.run("zhinao-tune", Self.quick + ["--output", folder.file("adapter")])
    #expect(again.code == 73 && again.errors.contains("--overwrite"))
  }

  @Test func neitherThreadsNorMemoryChangeAByte() throws {
    let folder = try TemporaryFolder()
    var found: [Data] = []
    for (index, options) in [
      ["--threads", "1"], ["--threads", "3", "--scratch", folder.path], ["--memory-limit", "8GB"],
    ].enumerated() {
      let output = folder.file("adapter\(index)")
      let result = try Tool.run(
        "zhinao-tune", Self.quick + ["--dropout", "0.2", "--output", output] + options)
      try #require(result.code == 0, "\(result.errors)")
      found.append(try Self.bytes("\(output)/adapter_model.safetensors"))
    }
    #expect(found[1] == found[0] && found[2] == found[0])
  }

  @Test func anAdapterContinues() throws {
    let folder = try TemporaryFolder()
    let first = folder.file("first")
    _ = try Tool.run("zhinao-tune", Self.quick + ["--rank", "4", "--output", first])
    let second = try Tool.run(
      "zhinao-tune",
      Self.quick + ["--init-from", first, "--output", folder.file("more"), "--adapter-name", "style"])
    #expect(second.code == 0, "\(second.errors)")
    #expect(
      try JSONValue.parse(file: folder.file("more/style/adapter_config.json"))["r"] == 4)
    let other = try Tool.run(
      "zhinao-tune", Self.quick + ["--init-from", first, "--rank", "8", "--output", folder.file("other")])
    #expect(other.code == 64 && other.errors.contains("--rank 8"))
    let strange = try Tool.run(
      "zhinao-tune",
      [Fixture.tinyZhinao] + Self.quick.dropFirst() + ["--init-from", first, "--output", folder.file("x")])
    #expect(strange.code == 65 && strange.errors.contains("lora_A.weight has the shape"))
  }

  @Test func rowsAndPlan() throws {
    let rows = try Tool.run("zhinao-tune", Self.quick + ["--print-rows"])
    let lines = rows.output.split(separator: "\n")
    #expect(rows.code == 0 && lines.count == 30)
    let row = try JSONValue.parse(String(lines[0]))
    #expect(row["input_ids"]?.arrayValue?.count == row["labels"]?.arrayValue?.count)
    let plan = try Tool.run("zhinao-tune", Self.quick + ["--plan", "--json"])
    let json = try JSONValue.parse(plan.output)
    #expect(json["steps"] == 3 && (json["memory_bytes"]?.intValue ?? 0) > 0)
  }

  @Test func whatIsWrongIsSaid() throws {
    let folder = try TemporaryFolder()
    let output = ["--output", folder.file("adapter")]
    for (arguments, code, text) in [
      ([], 64, "Specify a MODEL or --demo"), ([Self.model], 64, "--data"),
      ([Self.model, "--data", Self.data], 64, "--output FOLDER"),
      (Self.quick + output + ["--target", "c_attn"], 65, "no projection is called c_attn"),
      (Self.quick + output + ["--save-module", "lm_head"], 65, "lm_head cannot be trained as a whole"),
      (Self.quick + output + ["--patience", "1"], 64, "--patience needs a validation"),
      (Self.quick + output + ["--memory-limit", "1MB"], 65, "more than the limit"),
      (Self.quick + output + ["--adapter-name", "../x"], 64, "--adapter-name"),
      (Self.quick + output + ["--epochs", "1"], 64, "exclude each other"),
      (["--demo", "--data", Self.data], 64, "--demo has"),
    ] as [([String], Int32, String)] {
      let result = try Tool.run("zhinao-tune", arguments)
      #expect(
        result.code == code && result.errors.contains(text), "\(arguments): \(result.code) \(result.errors)")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }
}
