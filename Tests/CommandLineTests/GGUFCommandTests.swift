import Files
import Foundation
import GGUF
import JSON
import TestSupport
import Testing

@Suite struct GGUFCommandTests {
  static let llama = Fixture.path("gguf/llama.gguf")

  @Test func everyCommandTakesAFile() throws {
    let folder = try TemporaryFolder()
    let ids = folder.file("ids.json")
    try AtomicFile.write("[" + (0..<64).map { "\($0 * 4)" }.joined(separator: ",") + "]", to: ids)
    let packed = folder.file("m.zhinao")
    #expect(try Tool.run("zhinao-convert", [Self.llama, "-o", packed]).code == 0)
    func perplexity(_ path: String) throws -> Double? {
      let tool = try Tool.run(
        "zhinao-verify", ["perplexity", path, "--ids", ids, "--window", "32", "--json"])
      #expect(tool.code == 0, "\(tool.errors)")
      return try JSONValue.parse(tool.output)["perplexity"]?.doubleValue
    }
    let value = try perplexity(Self.llama)
    #expect(try value != nil && perplexity(packed) == value)
    let chat = try Tool.run(
      "zhinao-chat", [Self.llama, "--prompt", "hello", "--max-new-tokens", "3", "--json"])
    #expect(chat.code == 0 && chat.output.contains("\"prompt_ids\""), "\(chat.errors)")
    let quantized = folder.file("q.zhinao")
    let quantize = try Tool.run(
      "zhinao-quantize", [Self.llama, "--method", "rtn", "--group-size", "32", "-o", quantized])
    #expect(quantize.code == 0, "\(quantize.errors)")
    #expect(try Tool.run("zhinao-verify", ["integrity", Self.llama]).code == 0)
    let tokens = try Tool.run("zhinao-verify", ["tokenize", Self.llama], input: "{\"text\": \"hell\"}\n")
    #expect(tokens.output.hasPrefix("{\"ids\":[258],"), "\(tokens.output)\(tokens.errors)")
    let inspection = try Tool.run("zhinao-convert", ["--inspect", Self.llama])
    #expect(inspection.output.contains("general.architecture") && inspection.output.contains("Q5_1"))
    let half = folder.file("f16.zhinao")
    #expect(try Tool.run("zhinao-convert", [Self.llama, "-o", half, "--dtype", "float16"]).code == 0)
    for path in [packed, half] {
      let proof = try Tool.run("zhinao-verify", ["integrity", path, "--provenance", Self.llama])
      #expect(proof.code == 0, "\(proof.output)\(proof.errors)")
    }
  }

  @Test func codesGoThroughTheCommandLine() throws {
    let folder = try TemporaryFolder()
    let (packed, gguf) = (folder.file("q.zhinao"), folder.file("q.gguf"))
    let source = Fixture.path("tiny-zhinao-gqa")
    let recipe = ["--method", "rtn", "--group-size", "64"]
    #expect(try Tool.run("zhinao-quantize", [source, "-o", packed] + recipe).code == 0)
    let dry = try Tool.run("zhinao-convert", [packed, "-o", gguf, "--dry-run", "--json"])
    #expect(dry.code == 0 && !FileManager.default.fileExists(atPath: gguf))
    let made = try Tool.run("zhinao-convert", [packed, "-o", gguf])
    #expect(made.code == 0 && made.errors.contains("<br>"), "\(made.errors)")
    let file = try GGUFFile(path: gguf)
    #expect(try JSONValue.parse(dry.output)["bytes"]?.intValue == file.byteCount)
    #expect(file.tensor("blk.1.ffn_down.weight")?.type == .q4_0)
    #expect(file.tensor("token_embd.weight")?.type == .bf16)
    #expect(try file.string("general.architecture") == "qwen2" && file.integer("general.file_type") == 2)

    let refused = try Tool.run("zhinao-convert", [packed, "-o", gguf])
    #expect(refused.code == 73 && refused.errors.contains("--overwrite"))
    let half = try Tool.run("zhinao-convert", [packed, "-o", gguf, "--overwrite", "--gguf-type", "f16"])
    #expect(half.code == 0)
    #expect(try GGUFFile(path: gguf).tensor("output.weight")?.type == .f16)

    let ordered = folder.file("act.zhinao")
    let windows = folder.file("windows.jsonl")
    try AtomicFile.write(
      (0..<8).map { "{\"text\": \"\(String(repeating: "word \($0) ", count: 80))\"}" }.joined(
        separator: "\n"),
      to: windows)
    let quantized = try Tool.run(
      "zhinao-quantize",
      [
        source, "-o", ordered, "--calibration", windows, "--group-size", "32", "--preset", "autogptq",
        "--desc-act",
        "--sequence-length", "64",
      ])
    #expect(quantized.code == 0, "\(quantized.errors)")
    let order = try Tool.run("zhinao-convert", [ordered, "-o", folder.file("act.gguf")])
    #expect(order.code == 65 && order.errors.contains("--static-groups"), "\(order.errors)")
    #expect(!FileManager.default.fileExists(atPath: folder.file("act.gguf")))
    let floats = try Tool.run("zhinao-convert", [ordered, "-o", folder.file("act.gguf"), "--dequantize"])
    #expect(floats.code == 0, "\(floats.errors)")
  }

  @Test func aDamagedFileIsRefused() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("x.gguf")
    let bytes = try Fixture.data("gguf/llama.gguf")
    try bytes.prefix(bytes.count / 2).write(to: URL(fileURLWithPath: path))
    let tool = try Tool.run("zhinao-convert", [path, "-o", folder.file("m.zhinao")])
    #expect(tool.code == 65 && tool.errors.contains("(F10)"), "\(tool.errors)")
  }
}
