import Compute
import Evaluation
import JSON
import Models
import Safetensors
import TestSupport
import Testing

/// Divergences, percentiles and intervals against numpy in double precision (Tests/Fixtures/evaluation_fixtures.py).
@Suite struct StatisticsTests {
  static func goldens() throws -> JSONValue {
    try JSONValue.parse(file: Fixture.path("golden/evaluation.json"))
  }

  static func numbers(_ row: JSONValue, _ name: String) throws -> [Double] {
    try #require(row[name]?.arrayValue).map { try #require($0.doubleValue) }
  }
  static func number(_ row: JSONValue, _ name: String) throws -> Double {
    try #require(row[name]?.doubleValue)
  }

  static func sum(_ losses: [Double]) -> LossSum {
    var sum = LossSum()
    sum.add(losses)
    return sum
  }

  /// The logits of a prompt as transformers gave them, without the last row, and the tokens that the rows predict.
  static func logits(_ model: String, prompt: Int) throws -> (logits: AlignedBuffer<Float>, targets: [Int]) {
    let file = try SafetensorsFile(path: Fixture.path("golden/logits-\(model).safetensors"))
    let ids = file.bytes(of: try #require(file.tensor("prompt\(prompt).input_ids"))).bindMemory(
      to: Int32.self)
    let tensor = try #require(file.tensor("prompt\(prompt).logits"))
    let bytes = file.bytes(of: tensor)
    let values = (0..<(ids.count - 1) * tensor.shape[1]).map {
      bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self)
    }
    return (AlignedBuffer(values), ids.dropFirst().map { Int($0) })
  }

  @Test(arguments: 0..<3)
  func divergencesAndLossesOfGivenLogits(prompt: Int) throws {
    let golden = try #require(try Self.goldens()["prompts"]?.arrayValue?[prompt])
    let expected = try Self.numbers(golden, "divergences")
    let (reference, targets) = try Self.logits("tiny-zhinao", prompt: prompt)
    let candidate = try Self.logits("tiny-zhinao-gqa", prompt: prompt).logits
    for isa in InstructionSet.runnable {
      for threads in 1...3 {
        let pool = WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa)))
        let rows = RowComparison(reference, candidate, targets: targets[...], pool: pool)
        #expect(rows.divergences.count == expected.count)
        #expect(
          zip(rows.divergences, expected).allSatisfy { abs($0 - $1) <= Self.divergenceBound },
          "\(isa), \(threads)")
        #expect(rows.agreements == golden["agreements"]?.intValue)
        // The same function of the same numbers.
        #expect(
          rows.losses.reference
            == tokenLosses(reference, rows: targets.count, targets: targets[...], pool: pool))
        for (name, logits) in [("reference_losses", reference), ("candidate_losses", candidate)] {
          let losses = tokenLosses(logits, rows: targets.count, targets: targets[...], pool: pool)
          let known = try Self.numbers(golden, name)
          #expect(losses.count == known.count)
          #expect(
            zip(losses, known).allSatisfy { abs($0 - $1) <= Self.lossBound }, "\(name), \(isa), \(threads)")
        }
      }
    }
  }

  /// exp is computed in single precision, its sum in double precision: one ulp of 1.
  static let lossBound = 0x1p-23
  /// exp is computed in single precision and weights differences of logits of up to about 10: some of its roundings of 6e-8, of
  /// which most cancel.
  static let divergenceBound = 1e-6

  @Test(arguments: 0..<11)
  func percentilesAreValuesOfTheList(row: Int) throws {
    let golden = try #require(try Self.goldens()["spreads"]?.arrayValue?[row])
    let divergences = try Self.numbers(golden, "divergences")
    let losses = Self.sum(divergences)
    let found = Comparison(
      losses: (losses, losses), divergences: divergences, agreements: 0, windows: 1)
    #expect(found.tokensScored == golden["tokens"]?.intValue)
    // A value of the list is copied, not computed.
    #expect(try found.medianKL == Self.number(golden, "median_kl"))
    #expect(try found.kl99 == Self.number(golden, "kl_99"))
    #expect(try found.maximumKL == Self.number(golden, "maximum_kl"))
    #expect(try abs(found.meanKL / Self.number(golden, "mean_kl") - 1) <= 1e-12)
    #expect(found.ratio == 1 && found.top1Agreement == 0)
  }

  /// Sums of at most 46 losses in another order, and a variance from the sum of squares: a few hundred roundings of 1.1e-16.
  @Test(arguments: 0..<3)
  func intervalsAndRatios(prompt: Int) throws {
    let golden = try #require(try Self.goldens()["prompts"]?.arrayValue?[prompt])
    let losses = try ["reference", "candidate"].map {
      try Self.sum(Self.numbers(golden, $0 + "_losses"))
    }
    for (name, losses) in zip(["reference", "candidate"], losses) {
      let row = try #require(golden[name])
      let found = Perplexity(losses: losses, meanByGuide: .nan, windows: 1)
      #expect(try abs(found.perplexity / Self.number(row, "perplexity") - 1) <= 1e-12)
      #expect(try abs(found.meanNLL / Self.number(row, "mean_nll") - 1) <= 1e-12)
      #expect(try abs(found.halfWidth95 / Self.number(row, "half_width_95") - 1) <= 1e-12)
    }
    let agreements = try #require(golden["agreements"]?.intValue)
    let found = Comparison(
      losses: (losses[0], losses[1]), divergences: try Self.numbers(golden, "divergences"),
      agreements: agreements, windows: 1)
    #expect(try abs(found.ratio / Self.number(golden, "perplexity_ratio") - 1) <= 1e-12)
    #expect(try abs(found.top1Agreement - Self.number(golden, "top1_agreement")) <= 1e-15)
  }

  /// Our own logits instead of those of transformers, and rows put together by ``Comparison/measure``.
  @Test(arguments: 0..<3)
  func comparisonOfTwoModels(prompt: Int) throws {
    let golden = try #require(try Self.goldens()["prompts"]?.arrayValue?[prompt])
    let reference = try OpenedModel(path: Fixture.tinyZhinao).decoder()
    let candidate = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa")).decoder()
    let file = try SafetensorsFile(path: Fixture.path("golden/logits-tiny-zhinao.safetensors"))
    let ids = file.bytes(of: try #require(file.tensor("prompt\(prompt).input_ids"))).bindMemory(
      to: Int32.self
    )
    .map { Int($0) }
    let found = try Comparison.measure(
      reference: reference, candidate: candidate, ids: ids, protocol: WindowProtocol(length: ids.count))
    #expect(found.tokensScored == ids.count - 1 && found.windows == 1)
    #expect(try found.top1Agreement == Self.number(golden, "top1_agreement"))
    let values = [
      (found.meanKL, "mean_kl"), (found.medianKL, "median_kl"), (found.kl99, "kl_99"),
      (found.maximumKL, "maximum_kl"),
    ]
    for (value, name) in values {
      #expect(try abs(value - Self.number(golden, name)) <= Self.comparisonBound, "\(name): \(value)")
    }
    for (value, name) in [(found.reference, "reference"), (found.candidate, "candidate")] {
      let expected = try Self.number(try #require(golden[name]), "perplexity")
      #expect(abs(value / expected - 1) <= Self.comparisonBound)
    }
  }

  /// Our logits differ from those of transformers by up to 1.7e-5. A divergence or a mean loss is a weighted mean of them, in which
  /// differences of both signs cancel: 3.2e-6 was found.
  static let comparisonBound = 1e-5
}
