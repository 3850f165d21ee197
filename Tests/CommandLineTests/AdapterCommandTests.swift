import Foundation
import JSON
import TestSupport
import Testing

/// `--lora` of the commands.
@Suite struct AdapterCommandTests {
  private static let adapter = Fixture.path("lora-tiny-zhinao-gqa")

  /// The adapter beside the model answers as the model that it is merged into, and differs from the model alone.
  @Test func adaptersAreUsedWithoutAMerge() throws {
    let folder = try TemporaryFolder()
    let merged = folder.file("merged")
    let merge = try Tool.run(
      "zhinao-convert", [CommandTests.gqa, "-o", merged, "--merge-lora", Self.adapter, "--dtype", "float32"])
    #expect(merge.code == 0, "\(merge.errors)")
    let chat = { (model: String, options: [String]) in
      try Tool.run(
        "zhinao-chat", [model, "--raw", "--prompt", "却说", "--max-new-tokens", "24", "--quiet"] + options)
    }
    let beside = try chat(CommandTests.gqa, ["--lora", Self.adapter])
    let expected = try chat(merged, []).output
    let bare = try chat(CommandTests.gqa, []).output
    #expect(beside.code == 0 && beside.output == expected && beside.output != bare, "\(beside.errors)")
    let ids = folder.file("ids.json")
    try "[\((0..<40).map { "\($0 * 7)" }.joined(separator: ","))]".write(
      toFile: ids, atomically: true, encoding: .utf8)
    let compare = try Tool.run(
      "zhinao-verify",
      ["compare", merged, CommandTests.gqa, "--lora", Self.adapter, "--ids", ids, "--window", "20", "--json"])
    #expect(compare.code == 0, "\(compare.errors)")
    let json = try JSONValue.parse(Array(compare.output.utf8))
    #expect((json["maximum_kl"]?.doubleValue ?? 1) < 1e-6 && json["adapters"]?.arrayValue?.count == 1)
  }

  @Test(
    arguments: [
      (["--lora", "nowhere"], 66, "no such folder"),
      (["--lora", CommandTests.gqa], 66, "adapter_config.json"),
      (["--lora", adapter + ":much"], 64, "much"), (["--lora", Fixture.path("lora") + ":1e39"], 64, "1e39"),
    ] as [([String], Int32, String)])
  func wrongAdaptersAreNamed(arguments: [String], code: Int32, part: String) throws {
    let tool = try Tool.run(
      "zhinao-chat", [CommandTests.gqa, "--prompt", "a", "--max-new-tokens", "1"] + arguments)
    #expect(tool.code == code && tool.errors.contains(part), "\(tool.code) \(tool.errors)")
  }

  /// Found before anything is served.
  @Test(
    arguments: [
      ([CommandTests.gqa, "--lora", "name"], 64, "a name and a folder"),
      ([CommandTests.gqa, "--lora", "=" + adapter], 64, "a name and a folder"),
      (
        [CommandTests.gqa, "--lora", "a=" + adapter, "--lora", "a=" + adapter], 64, "two models are called a"
      ),
      ([CommandTests.gqa, Fixture.tinyZhinao, "--lora", "a=" + adapter], 64, "2 models generate text"),
      ([Fixture.path("tiny-bert"), "--lora", "a=" + adapter], 64, "no model here generates text"),
      ([Fixture.tinyZhinao, "--lora", "a=" + adapter], 65, "is it the adapter's base model?"),
    ] as [([String], Int32, String)])
  func serversRefuseAdaptersThatDoNotFit(arguments: [String], code: Int32, part: String) throws {
    let tool = try Tool.run("zhinao-serve", arguments + ["--port", "0"])
    #expect(tool.code == code && tool.errors.contains(part), "\(tool.code) \(tool.errors)")
  }
}
