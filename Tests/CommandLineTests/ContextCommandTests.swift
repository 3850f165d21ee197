import Files
import Foundation
import JSON
import TestSupport
import Testing

/// `--context`, `--save-context` and `--context-cache`.
@Suite struct ContextCommandTests {
  private static let text = String(repeating: "却说曹操引兵追赶，至一山谷。", count: 12)

  private static func answer(_ prompt: String, _ options: [String], model: String = CommandTests.gqa) throws
    -> (tool: Tool, json: JSONValue)
  {
    let tool = try Tool.run(
      "zhinao-chat", [model, "--raw", "--json", "--prompt", prompt, "--max-new-tokens", "12"] + options)
    return (tool, (try? JSONValue.parse(Array(tool.output.utf8))) ?? .null)
  }

  @Test(arguments: [
    [], ["--kv-cache", "f32"], ["--kv-cache", "int8"], ["--kv-cache", "int4"],
    ["--kv-cache", "int4", "--arithmetic", "exact"], ["--arithmetic", "exact"],
    ["--lora", Fixture.path("lora-tiny-zhinao-gqa")],
  ])
  func aReopenedContextGivesTheSameAnswer(options: [String]) throws {
    let folder = try TemporaryFolder()
    let file = folder.file("a.zhctx")
    let question = Self.text + "次日"
    let plain = try Self.answer(question, options)
    #expect(plain.tool.code == 0 && plain.json["saved_tokens"]?.intValue == 0, "\(plain.tool.errors)")
    let saving = try Self.answer(Self.text, options + ["--save-context", file])
    #expect(saving.tool.code == 0 && saving.tool.errors.contains("saved to"), "\(saving.tool.errors)")
    let reopened = try Self.answer(question, options + ["--context", file, "--quiet"])
    #expect(reopened.tool.code == 0 && reopened.tool.errors.isEmpty, "\(reopened.tool.errors)")
    #expect(reopened.json["ids"] == plain.json["ids"])
    let count = try #require(plain.json["prompt_ids"]?.arrayValue?.count)
    let known = try #require(reopened.json["saved_tokens"]?.intValue)
    let unit = options.contains("int4") ? 64 : 16
    #expect(known >= count - 24 - unit && known % unit == 0, "\(known) of \(count)")
    #expect(reopened.json["prompt_tokens"]?.intValue == count - known)
    // A prompt that only begins as the file does.
    let other = String(Self.text.prefix(120)) + "玄德大惊。"
    let both = try Self.answer(other, options + ["--context", file])
    #expect(try both.json["ids"] == Self.answer(other, options).json["ids"])
    #expect((both.json["saved_tokens"]?.intValue ?? 0) >= unit)
    // One with nothing in common, and the same prompt once more.
    #expect(try Self.answer("x", options + ["--context", file]).json["saved_tokens"]?.intValue == 0)
    let again = try Self.answer(Self.text, options + ["--context", file])
    #expect(again.json["ids"] == saving.json["ids"])
    let check = try Tool.run("zhinao-verify", ["integrity", file, "--json"])
    #expect(check.code == 0 && check.output.contains("\"problems\": []"), "\(check.output)")
  }

  @Test func whatDoesNotFitIsRefusedByName() throws {
    let folder = try TemporaryFolder()
    let file = folder.file("a.zhctx")
    _ = try Self.answer(Self.text, ["--save-context", file])
    let adapter = Fixture.path("lora-tiny-zhinao-gqa")
    for (options, part) in [
      (["--kv-cache", "int8"], "keys and values in f16, not in int8"),
      (["--arithmetic", "exact", "--kv-cache", "f16"], "--arithmetic fast, not exact"),
      (["--lora", adapter], "with 0 adapters, not with 1 adapter"),
      (["--kv-cache", "int4"], "keys and values in f16, not in int4"),
    ] {
      let tool = try Self.answer("a", options + ["--context", file]).tool
      #expect(tool.code == 65 && tool.errors.contains(part), "\(tool.errors)")
    }
    let other = try Self.answer("a", ["--context", file], model: Fixture.tinyZhinao).tool
    #expect(
      other.code == 65 && other.errors.contains("another model (tiny-zhinao-gqa), not with tiny-zhinao"))
    let missing = try Self.answer("a", ["--context", folder.file("b.zhctx")]).tool
    #expect(missing.code == 66)
    let foreign = try Self.answer("a", ["--context", CommandTests.gqa + "/config.json"]).tool
    #expect(foreign.code == 65 && foreign.errors.contains("is not a saved context"))
    for path in [folder.path, "/nonexistent/a.zhctx"] {
      let tool = try Self.answer("a", ["--save-context", path]).tool
      #expect(tool.code == 73 && tool.errors.contains(path), "\(tool.errors)")
    }
  }

  @Test func damageIsFoundWhenItIsUsedAndByVerify() throws {
    let folder = try TemporaryFolder()
    let file = folder.file("a.zhctx")
    _ = try Self.answer(Self.text, ["--save-context", file])
    var bytes = Array(try Data(contentsOf: URL(fileURLWithPath: file)))
    bytes[12288] ^= 1
    try Data(bytes).write(to: URL(fileURLWithPath: file))
    let used = try Self.answer(Self.text, ["--context", file]).tool
    #expect(used.code == 65 && used.errors.contains("block 0 of keys and values"), "\(used.errors)")
    let check = try Tool.run("zhinao-verify", ["integrity", file])
    #expect(check.code == 65 && check.output.contains("block 0 of keys and values"), "\(check.output)")
  }

  @Test func aPromptBeyondTheMemoryLimitIsRefused() throws {
    let small = try Self.answer("a b c", ["--memory-limit", "10MB"]).tool
    #expect(small.code == 64 && small.errors.contains("the memory limit of 10000000 bytes is too small"))
    #expect(try Self.answer("a b c", ["--memory-limit", "1GiB"]).tool.code == 0)
  }

  @Test func serversCheckTheirOptions() throws {
    for (options, part) in [
      (["--context-cache-limit", "1GiB"], "give --context-cache as well"),
      (["--context-cache", "x", "--context-cache-limit", "much"], "expected a size like 6GiB"),
    ] {
      let tool = try Tool.run("zhinao-serve", [CommandTests.gqa] + options)
      #expect(tool.code == 64 && tool.errors.contains(part), "\(tool.errors)")
    }
    let tool = try Tool.run(
      "zhinao-serve", [CommandTests.gqa, "--context-cache", CommandTests.gqa + "/config.json"])
    #expect(tool.code == 73 && tool.errors.contains("config.json"), "\(tool.code) \(tool.errors)")
  }
}
