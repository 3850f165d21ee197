import TestSupport
import Testing

@Suite struct ServeCommandTests {
  @Test(arguments: [
    ["--port", "70000"], ["--parallel", "0"], ["--context-size", "1"], ["--memory-limit", "much"],
    ["--max-body", "x"], ["--rate-limit", "0"], ["--request-timeout", "0"],
    ["--served-model-name", "a", "--served-model-name", "b"], ["--memory-limit", "20MB"],
    ["--task", "chat"], ["--task", "embed"], ["--task", "rerank"], ["--task", "auto", "--task", "auto"],
    ["--batch-tokens", "0"], ["--max-inputs", "0"],
  ])
  func usageErrorsEndWith64(arguments: [String]) throws {
    let result = try Tool.run("zhinao-serve", [Fixture.tinyZhinao] + arguments)
    #expect(result.code == 64, "\(result.errors)")
  }

  @Test func otherErrorsHaveTheirCodes() throws {
    #expect(try Tool.run("zhinao-serve", ["/nonexistent"]).code == 66)
    let keys = try Tool.run("zhinao-serve", [Fixture.tinyZhinao, "--api-key-file", "/nonexistent"])
    #expect(keys.code == 66)
    let settings = try Tool.run("zhinao-serve", [Fixture.tinyZhinao, "--reranker-settings", "/nonexistent"])
    #expect(settings.code == 66)
    let encoder = try Tool.run("zhinao-serve", [Fixture.path("tiny-bert"), "--task", "generate"])
    #expect(encoder.code == 64 && encoder.errors.contains("is an encoder"))
    let twins = try Tool.run("zhinao-serve", [Fixture.path("tiny-bert"), Fixture.path("tiny-bert")])
    #expect(twins.code == 64 && twins.errors.contains("--served-model-name"))
    // An address that is no machine's (RFC 5737).
    let address = try Tool.run("zhinao-serve", [Fixture.tinyZhinao, "--host", "203.0.113.1"])
    #expect(address.code == 74)
    #expect(address.errors.contains("cannot serve on 203.0.113.1"))
    #expect(address.errors.contains("context 2048 tokens"), "the memory plan is said first")
  }
}
