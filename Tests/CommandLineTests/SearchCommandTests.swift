import Files
import Foundation
import JSON
import Safetensors
import TestSupport
import Testing

/// zhinao-search from outside, beside sentence-transformers' results (`golden/retrieval-tiny.json`).
@Suite struct SearchCommandTests {
  private static let encoder = Fixture.path("tiny-bert")
  private static let cross = Fixture.path("tiny-bert-cross")
  private static let corpus = Fixture.path("golden/beir-tiny/corpus.jsonl")

  private static func golden(_ key: String) throws -> JSONValue {
    try #require(try JSONValue.parse(file: Fixture.path("golden/retrieval-tiny.json"))[key])
  }

  private static func lines(_ text: String) throws -> [JSONValue] {
    try text.split(separator: "\n").map { try JSONValue.parse(String($0)) }
  }

  @Test func indexAndQueryFindWhatSentenceTransformersFinds() throws {
    let folder = try TemporaryFolder()
    let index = folder.file("index")
    let made = try Tool.run(
      "zhinao-search", ["index", Self.encoder, "--corpus", Self.corpus, "-o", index, "--json"])
    #expect(made.code == 0, "\(made.errors)")
    #expect(try JSONValue.parse(made.output)["passages"]?.intValue == 91)
    let found = try Tool.run(
      "zhinao-search",
      ["query", index, "--queries", Fixture.path("golden/beir-tiny/queries.jsonl"), "--top", "12", "--json"])
    #expect(found.code == 0, "\(found.errors)")
    let expected = try #require(Self.golden("retrieval")["top12"]?.objectValue)
    let answers = try Self.lines(found.output)
    #expect(answers.count == expected.members.count)
    for answer in answers {
      let id = try #require(answer["_id"]?.stringValue)
      let ids = try #require(answer["results"]?.arrayValue).map { $0["_id"]?.stringValue }
      #expect(ids == expected[id]?.arrayValue?.map(\.stringValue))
    }
    #expect(try Tool.run("zhinao-search", ["verify", index]).code == 0)

    // Another model's vectors mean something else; a changed byte is seen.
    let other = try Tool.run("zhinao-search", ["query", index, "x", "--model", Self.cross])
    #expect(other.code == 65)
    let vectors = index + "/embeddings.safetensors"
    var data = try Data(contentsOf: URL(fileURLWithPath: vectors))
    data[data.count - 3] ^= 1
    try data.write(to: URL(fileURLWithPath: vectors))
    #expect(try Tool.run("zhinao-search", ["verify", index]).code == 65)
    #expect(try Tool.run("zhinao-search", ["query", index, "x", "--check"]).code == 65)
    let again = try Tool.run("zhinao-search", ["index", Self.encoder, "--corpus", Self.corpus, "-o", index])
    #expect(again.code == 73)
  }

  @Test func theThreeFormatsHoldTheSameVectors() throws {
    let folder = try TemporaryFolder()
    let texts = "宝玉\n\nI hope he will overlook it.\n"
    for name in ["v.npy", "v.safetensors", "v.jsonl"] {
      let result = try Tool.run(
        "zhinao-search", ["embed", Self.encoder, "-o", folder.file(name)], input: texts)
      #expect(result.code == 0, "\(result.errors)")
    }
    let file = try SafetensorsFile(path: folder.file("v.safetensors"))
    let tensor = try #require(file.tensor("embeddings"))
    #expect(tensor.shape == [3, 96])
    let bytes = Data(file.bytes(of: tensor))
    let npy = try Data(contentsOf: URL(fileURLWithPath: folder.file("v.npy")))
    #expect(npy.count == 256 + bytes.count)
    #expect(npy.suffix(bytes.count) == bytes)
    #expect(npy.prefix(6) == Data([0x93] + Array("NUMPY".utf8)))
    let rows = try Self.lines(String(contentsOfFile: folder.file("v.jsonl"), encoding: .utf8))
    let floats = try rows.flatMap { try #require($0["embedding"]?.arrayValue) }.map {
      Float($0.doubleValue ?? .nan)
    }
    #expect(bytes == floats.withUnsafeBytes { Data($0) })

    let taken = try Tool.run(
      "zhinao-search", ["embed", Self.encoder, "-o", folder.file("v.npy")], input: "x\n")
    #expect(taken.code == 73)
    let wrong = try Tool.run(
      "zhinao-search", ["embed", Self.encoder, "-o", folder.file("w.npy")],
      input: "{\"text\": \"a\"}\n{\"txt\": 1}\n")
    #expect(wrong.code == 65)
    #expect(wrong.errors.contains("line 2"))
    #expect(!FileManager.default.fileExists(atPath: folder.file("w.npy")))
  }

  @Test func crossEncodersScoreAsTheReferenceDoes() throws {
    let folder = try TemporaryFolder()
    let rows = try Self.lines(
      String(contentsOfFile: Fixture.path("golden/rerank-tiny.jsonl"), encoding: .utf8))
    let expected = try #require(Self.golden("reranking")["per_query"]?.arrayValue)
    for (row, golden) in zip(rows, expected) {
      let query = try #require(row["query"]?.stringValue)
      let passages = ["positive", "negative"].flatMap { row[$0]?.arrayValue ?? [] }
      let pairs = passages.map { JSONValue.object(JSONObject([("query", .string(query)), ("passage", $0)])) }
      try AtomicFile.write(
        pairs.map { $0.serialized() + "\n" }.joined(), to: folder.file("pairs.jsonl"))
      let result = try Tool.run(
        "zhinao-search",
        ["rerank", Self.cross, "--pairs", folder.file("pairs.jsonl"), "--raw-scores", "--json"])
      #expect(result.code == 0, "\(result.errors)")
      let scores = try Self.lines(result.output).map { try #require($0["score"]?.doubleValue) }
      let wanted = try #require(golden["cross_encoder"]?.arrayValue).compactMap(\.doubleValue)
      #expect(scores.count == wanted.count)
      for (a, b) in zip(scores, wanted) { #expect(abs(a - b) < 1e-3) }
    }
  }

  @Test func aDecoderIsNotScoredByAGuess() throws {
    let result = try Tool.run("zhinao-search", ["rerank", Fixture.tinyZhinao, "--query", "x"], input: "a\n")
    #expect(result.code == 65)
    #expect(result.errors.contains("--template"))
    let asked = try Tool.run(
      "zhinao-search",
      [
        "rerank", Fixture.tinyZhinao, "--query", "x", "--template", "qwen3-reranker", "--yes", "是", "--no",
        "不", "--json",
      ],
      input: "a\nb\n")
    #expect(asked.code == 0, "\(asked.errors)")
    #expect(try JSONValue.parse(asked.output)["results"]?.arrayValue?.count == 2)
    let encoder = try Tool.run(
      "zhinao-search", ["embed", Fixture.tinyZhinao, "-o", "/dev/null.npy"], input: "a\n")
    #expect(encoder.code == 65)
  }

  @Test(arguments: [
    ["rerank", encoder], ["rerank", encoder, "--query", "a", "--pairs", "b"], ["query", "i"],
    ["query", "i", "q", "--top", "0"], ["query", "i", "q", "--candidates", "-1"],
    ["embed", encoder, "-o", "x.txt"],
    ["embed", encoder, "-o", "x.npy", "--dimensions", "0"],
    ["embed", encoder, "-o", "x.npy", "--prompt", "a", "--prompt-name", "b"],
    ["rerank", cross, "--query", "a", "--position", "middle"],
    ["rerank", cross, "--query", "a", "--max-length", "0"],
    ["index", encoder, "--corpus", "c", "-o", "o", "--type", "int4"],
  ])
  func commandLinesThatMakeNoSense(arguments: [String]) throws {
    let result = try Tool.run("zhinao-search", arguments, input: "a\n")
    #expect(result.code == 64, "\(arguments): \(result.code) \(result.errors)")
  }

  @Test func theDemoQuantizesSearchesAndReranks() throws {
    let result = try Tool.run("zhinao-search", ["--demo", "--json"])
    #expect(result.code == 0, "\(result.errors)")
    let json = try JSONValue.parse(result.output)
    let rows = try #require(json["rows"]?.arrayValue)
    #expect(rows.map { $0["name"]?.stringValue } == ["bf16", "8 bits", "4 bits"])
    let sizes = try rows.map { try #require($0["bytes"]?.intValue) }
    #expect(sizes == sizes.sorted(by: >))
    for key in ["ndcg_at_10", "reranked_ndcg_at_10"] {
      let values = try rows.map { try #require($0[key]?.doubleValue) }
      #expect(values[0] > (key == "ndcg_at_10" ? 0.7 : 0.9))
      // So few queries move it by a hundredth at a time.
      #expect(abs(values[1] - values[0]) < 0.03 && abs(values[2] - values[0]) < 0.1)
    }
    #expect(json["example"]?["found"]?.arrayValue?.count == 3)
  }

  @Test func withoutASubcommandThereIsHelp() throws {
    let help = try Tool.run("zhinao-search", [])
    #expect(help.code == 0 && help.output.contains("SUBCOMMANDS") && help.output.contains("--demo"))
    #expect(try Tool.run("zhinao-search", ["serach", "x"]).code == 64)
    #expect(try Tool.run("zhinao-search", ["--demo", "x"]).code == 64)
  }
}
