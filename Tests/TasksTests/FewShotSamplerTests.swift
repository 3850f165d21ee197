import Files
import JSON
import Tasks
import TestSupport
import Testing

/// Examples as lm-eval draws them. The numbers are those of CPython 3.11's `random.Random`.
@Suite struct FewShotSamplerTests {
  @Test(
    arguments: [
      (5, 7473, [[6374, 3610, 957, 61, 742], [7462, 6610, 4769, 286, 5501]]),
      (5, 20, [[14, 3, 0, 2, 1], [2, 3, 11, 7, 0]]),
      (
        10, 39905,
        [
          [28883, 7657, 490, 5940, 38156, 2288, 5500, 6450, 23241, 15519],
          [1142, 2019, 1038, 22681, 31735, 30379, 9735, 5982, 11999, 7498],
        ]
      ),
      (3, 3, [[1, 0, 2], [0, 2, 1]]),
      (8, 60, [[49, 28, 7, 0, 5, 51, 37, 2], [42, 44, 5, 6, 49, 22, 15, 1]]),
      (6, 90, [[56, 14, 0, 11, 74, 4], [85, 88, 10, 12, 45, 30]]),
    ])
  func samplesAsPython(test: (k: Int, n: Int, expected: [[Int]])) {
    var sampler = FewShotSampler(.drawn(seed: FewShotSampling.usualSeed))
    #expect((0..<2).map { _ in sampler.next(test.k, of: test.n) } == test.expected)
  }

  @Test func belowAsPython() {
    var generator = PythonRandom(seed: .max)
    #expect((0..<5).map { _ in generator.index(below: 1000) } == [650, 634, 208, 220, 621])
    // Beyond one state of the generator.
    generator = PythonRandom(seed: 0)
    let drawn = (0..<1500).map { _ in generator.index(below: 7) }
    #expect(drawn.reduce(0, +) == 4400 && drawn.suffix(5) == [5, 6, 0, 2, 1])
  }

  @Test func theFirstOnesForEveryQuestion() {
    var sampler = FewShotSampler(.first)
    #expect(sampler.next(3, of: 10) == [0, 1, 2] && sampler.next(3, of: 10) == [0, 1, 2])
  }

  /// Prompts of GSM8K with drawn examples, and with the first rows.
  @Test func examplesOfGSM8K() throws {
    let folder = try TemporaryFolder()
    func rows(_ count: Int, _ name: String) -> String {
      (0..<count).map { "{\"question\": \"\(name)\($0)\", \"answer\": \"#### \($0)\"}\n" }.joined()
    }
    try AtomicFile.write(rows(20, "t"), to: folder.file("train.jsonl"))
    try AtomicFile.write(rows(2, "q"), to: folder.file("test.jsonl"))
    let task = try #require(GenerationTask.named("gsm8k"))
    let drawn = try task.load(folder.path).items
    for (item, expected) in zip(drawn, [[14, 3, 0, 2, 1], [2, 3, 11, 7, 0]]) {
      let examples = expected.map { "Question: t\($0)\nAnswer: #### \($0)\n\n" }.joined()
      #expect(item.prompt == examples + "Question: q\(item.id)\nAnswer:")
    }
    let first = try task.load(folder.path, shots: 1, sampling: .first).items
    #expect(
      first.map(\.prompt) == ["0", "1"].map { "Question: t0\nAnswer: #### 0\n\nQuestion: q\($0)\nAnswer:" })
  }
}
