import Files
import Foundation
import JSON
import TestSupport
import Testing

/// zhinao-evaluate from outside.
@Suite struct EvaluateCommandTests {
  private static let demo: String = {
    let root = URL(fileURLWithPath: Fixture.folder).deletingLastPathComponent().deletingLastPathComponent()
    return root.appendingPathComponent("Sources/zhinao-evaluate/Resources/demo").path
  }()

  private static func results(_ path: String) throws -> JSONValue { try JSONValue.parse(file: path) }

  @Test func choicesInLMEvalsLayout() throws {
    let folder = try TemporaryFolder()
    let (output, samples) = (folder.file("r.json"), folder.file("s.jsonl"))
    let made = try Tool.run(
      "zhinao-evaluate",
      [
        Fixture.tinyZhinao, "--task", "choices=\(Self.demo)/choices", "--shots", "2", "--output", output,
        "--samples",
        samples, "--quiet",
      ])
    #expect(made.code == 0, "\(made.errors)")
    let json = try Self.results(output)
    #expect(json["n-shot"]?["choices"]?.intValue == 2)
    #expect(json["n-samples"]?["choices"]?["effective"]?.intValue == 40)
    let accuracy = try #require(json["results"]?["choices"]?["acc,none"]?.doubleValue)
    #expect(json["results"]?["choices"]?["acc_stderr,none"]?.doubleValue != nil)
    let lines = try String(contentsOfFile: samples, encoding: .utf8).split(separator: "\n").map {
      try JSONValue.parse(String($0))
    }
    #expect(lines.count == 40)
    let right = lines.count { $0["metrics"]?["acc"]?.doubleValue == 1 }
    #expect(abs(accuracy - Double(right) / 40) < 1e-12)
    // What was kept for a kill is gone, and files are not replaced unasked.
    #expect(!FileManager.default.fileExists(atPath: output + ".journal"))
    let again = try Tool.run(
      "zhinao-evaluate", [Fixture.tinyZhinao, "--task", "choices=\(Self.demo)/choices", "--output", output])
    #expect(again.code == 73)
  }

  /// A kept journal answers everything, and a cell that is done is not run again, whatever the grid around it.
  @Test func journalsAreUsedAgain() throws {
    let folder = try TemporaryFolder()
    func run(_ name: String, lengths: String, depths: String) throws -> JSONValue {
      let made = try Tool.run(
        "zhinao-evaluate",
        [
          Fixture.tinyZhinao, "--task", "needle-en=\(Self.demo)/haystack/en.txt", "--lengths", lengths,
          "--depths",
          depths, "--journal", folder.file("journal"), "--output", folder.file(name), "--quiet",
        ])
      #expect(made.code == 0, "\(made.errors)")
      return try Self.results(folder.file(name))
    }
    let first = try run("a.json", lengths: "400,600", depths: "0,50")
    #expect(first["n-samples"]?["needle-en"]?["effective"]?.intValue == 4)
    let journals = try FileManager.default.contentsOfDirectory(atPath: folder.file("journal"))
    #expect(journals.count == 1)
    let journal = folder.file("journal") + "/" + journals[0]
    let before = try Data(contentsOf: URL(fileURLWithPath: journal))
    _ = try run("b.json", lengths: "600,400", depths: "50")
    #expect(try Data(contentsOf: URL(fileURLWithPath: journal)) == before)
    _ = try run("c.json", lengths: "400", depths: "0,100")
    let after = try Data(contentsOf: URL(fileURLWithPath: journal))
    #expect(after.starts(with: before) && after.count > before.count)
  }

  @Test func twoModelsOnTheSameItems() throws {
    let folder = try TemporaryFolder()
    let packed = folder.file("m.zhinao")
    #expect(
      try Tool.run(
        "zhinao-quantize", [Fixture.tinyZhinao, "--method", "rtn", "--group-size", "32", "-o", packed]
      ).code
        == 0)
    let made = try Tool.run(
      "zhinao-evaluate",
      [
        Fixture.tinyZhinao, "--compare", packed, "--task", "choices=\(Self.demo)/choices", "--task",
        "generate=\(Self.demo)/generation", "--metric", "contains", "--metric", "edit_similarity",
        "--max-new-tokens", "8",
        "--mode", "string", "--text", "\(Fixture.tinyZhinao)/eval.en.txt", "--max-windows", "2", "--report",
        folder.file("r.html"), "--report", folder.file("r.md"), "--output", folder.file("r.json"), "--quiet",
      ])
    #expect(made.code == 0, "\(made.errors)")
    let json = try Self.results(folder.file("r.json"))
    let differences = try #require(json["comparison"]?["differences"])
    #expect(differences["choices"]?["acc"]?["mcnemar"]?["p"]?.doubleValue != nil)
    #expect(differences["generate"]?["edit_similarity"]?["interval"]?.arrayValue?.count == 2)
    #expect((json["text"]?["mean_kl"]?.doubleValue ?? 0) > 0)
    let html = try String(contentsOfFile: folder.file("r.html"), encoding: .utf8)
    #expect(html.contains("<svg") && !html.contains("<script"))
    #expect(try String(contentsOfFile: folder.file("r.md"), encoding: .utf8).hasPrefix("# "))
  }

  @Test func rankingsAsSentenceTransformersAndMTEB() throws {
    let folder = try TemporaryFolder()
    let golden = try #require(
      try JSONValue.parse(file: Fixture.path("golden/retrieval-tiny.json"))["retrieval"])
    let made = try Tool.run(
      "zhinao-evaluate",
      [
        Fixture.path("tiny-bert"), "--task", "retrieval=\(Fixture.path("golden/beir-tiny"))", "--task",
        "reranking=\(Fixture.path("golden/rerank-tiny.jsonl"))", "--output", folder.file("r.json"), "--quiet",
      ])
    #expect(made.code == 0, "\(made.errors)")
    let results = try #require(try Self.results(folder.file("r.json"))["results"])
    for (name, expected) in [("ndcg_at_10", 0.54590), ("map_at_1000", 0.47728), ("recall_at_10", 0.65278)] {
      #expect(
        abs((results["retrieval"]?["\(name),none"]?.doubleValue ?? 0) - expected) < 6e-6, "\(name) \(golden)")
    }
    #expect(abs((results["reranking"]?["map,none"]?.doubleValue ?? 0) - 0.96111) < 6e-6)
    let cross = try Tool.run(
      "zhinao-evaluate",
      [
        Fixture.path("tiny-bert-cross"), "--task", "reranking=\(Fixture.path("golden/rerank-tiny.jsonl"))",
        "--json",
        "--quiet",
      ])
    #expect(cross.code == 0, "\(cross.errors)")
    let map = try JSONValue.parse(cross.output)["results"]?["reranking"]?["map,none"]?.doubleValue ?? 0
    #expect(abs(map - 0.88889) < 6e-6)
  }

  @Test func thePlanRunsNothing() throws {
    let folder = try TemporaryFolder()
    let made = try Tool.run(
      "zhinao-evaluate",
      [
        Fixture.tinyZhinao, "--task", "choices=\(Self.demo)/choices", "--output", folder.file("r.json"),
        "--plan", "--json",
      ])
    #expect(made.code == 0, "\(made.errors)")
    let row = try #require(try JSONValue.parse(made.output)["tasks"]?.arrayValue?.first)
    #expect(row["items"]?.intValue == 40 && (row["seconds"]?.doubleValue ?? 0) > 0)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }

  // MARK: Refusals

  /// Files of strangers: the message names the file and the line, and nothing is written.
  @Test(
    arguments: [
      ("choices", "{\"question\": \"a\", \"choices\": [\"b\", \"c\"], \"answer\": 7}\n", "line 1"),
      ("choices", "{\"question\": \"a\"\n", "line 1"),
      ("choices", "{\"question\": \"a\", \"answer\": 0}\n", "choices"),
      ("choices", "", "no items"),
      ("choices", "\u{0}\u{1}\u{2}", "line 1"),
      ("generate", "{\"prompt\": \"a\"}\n", "answer"),
      ("generate", "[1]\n", "line 1"),
      ("needle-en", "", "no text"),
      ("lambada", "{\"text\": \"word\"}\n", "no space"),
      ("reranking", "{\"query\": \"a\", \"positive\": [\"b\"]}\n", "negative"),
    ])
  func hostileFiles(task: (name: String, content: String, message: String)) throws {
    let folder = try TemporaryFolder()
    let data = folder.file("data.jsonl")
    let path = task.name.hasPrefix("needle") ? folder.file("data.txt") : data
    try Data(task.content.utf8).write(to: URL(fileURLWithPath: path))
    let made = try Tool.run(
      "zhinao-evaluate",
      [
        Fixture.tinyZhinao, "--task", "\(task.name)=\(path)", "--lengths", "400", "--output",
        folder.file("r.json"),
        "--report", folder.file("r.html"),
      ])
    #expect(made.code == 65, "\(made.errors)")
    #expect(made.errors.contains(PathParts(path).name), "\(made.errors)")
    #expect(made.errors.contains(task.message), "\(made.errors)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [PathParts(path).name])
  }

  @Test(
    arguments: [
      (["--task", "choices=/no/such/file"], Int32(66), "question"),
      (["--task", "nonsense=x"], 64, "ceval"),
      (["--task", "choices"], 64, "equals sign"),
      ([], 64, "--task"),
      (["--task", "choices=DEMO/choices", "--report", "r.pdf"], 64, ".html"),
      (["--task", "choices=DEMO/choices", "--task", "choices=DEMO/choices"], 64, "twice"),
      (["--task", "choices=DEMO/choices", "--shots", "9"], 65, "examples"),
      (["--task", "mmlu=DEMO/choices"], 65, "which MMLU does not have"),
      (["--task", "generate=DEMO/generation", "--metric", "bleu"], 64, "exact_match"),
      (["--task", "needle-en=DEMO/haystack/en.txt", "--lengths", "210"], 64, "needle"),
      (["--task", "needle-zh=DEMO/haystack/zh.txt", "--lengths", "100000"], 65, "the longest length needs"),
      (["--task", "retrieval=DEMO/retrieval"], 64, "decoder"),
      (["--task", "choices=DEMO/choices", "--text", "x"], 64, "--compare"),
    ])
  func refusals(arguments: [String], code: Int32, message: String) throws {
    let made = try Tool.run(
      "zhinao-evaluate",
      [Fixture.tinyZhinao] + arguments.map { $0.replacingOccurrences(of: "DEMO", with: Self.demo) })
    #expect(made.code == code, "\(made.errors)")
    #expect(made.errors.contains(message), "\(made.errors)")
  }

  @Test func theDemoRunsEveryKind() throws {
    let folder = try TemporaryFolder()
    let made = try Tool.run(
      "zhinao-evaluate",
      ["--demo", "--report", folder.file("r.html"), "--report-language", "zh", "--json", "--quiet"])
    #expect(made.code == 0, "\(made.errors)")
    let results = try #require(try JSONValue.parse(made.output)["results"]?.objectValue)
    for task in ["choices", "generate", "needle-en", "needle-value-zh", "retrieval", "reranking"] {
      #expect(results[task] != nil, "\(task)")
    }
    let html = try String(contentsOfFile: folder.file("r.html"), encoding: .utf8)
    #expect(html.contains("lang=\"zh") && html.contains("演示"))
  }

  @Test func tasksAreListed() throws {
    let all = try Tool.run("zhinao-evaluate", ["tasks", "--json"])
    let names = try #require(try JSONValue.parse(all.output).arrayValue).compactMap {
      $0["name"]?.stringValue
    }
    for name in ["ceval", "cmmlu", "mmlu", "gsm8k", "longbench", "needle-zh", "retrieval", "reranking"] {
      #expect(names.contains(name))
    }
    #expect(try Tool.run("zhinao-evaluate", ["tasks", "ceval"]).output.contains("val/SUBJECT_val.csv"))
    #expect(try Tool.run("zhinao-evaluate", ["tasks", "nonsense"]).code == 64)
  }
}
