import Evaluation
import JSON
import Models
import TestSupport
import Testing

@Suite struct EvaluationTests {
  static func ids(_ model: OpenedModel, _ language: String) throws -> [Int] {
    try EvaluationText.ids(
      textFile: Fixture.tinyZhinao + "/eval.\(language).txt", tokenizer: model.tokenizer())
  }

  /// Relative. Logits differ by up to 1.63e-5 in either direction, also because transformers rounds the angles of positions to fp32, and means over
  /// thousands of tokens by far less: 2.65e-8 was found. Kernels give the same bits on every instruction set and with any number of threads, so that the
  /// bound needs no margin for the machine.
  static let perplexityBound = 2.8e-8

  /// Every protocol of the goldens, on the smaller model; on the larger one the short windows.
  @Test(arguments: ["tiny-zhinao", "tiny-zhinao-gqa"])
  func perplexityAgreesWithTransformers(name: String) throws {
    let model = try OpenedModel(path: name == "tiny-zhinao" ? Fixture.tinyZhinao : Fixture.path(name))
    let decoder = try model.decoder()
    let golden = try #require(
      try JSONValue.parse(file: Fixture.path("golden/perplexity.json"))[name]?.arrayValue)
    for row in golden {
      let ids = try Self.ids(model, #require(row["eval"]?.stringValue))
      #expect(ids.count == row["tokens_in_text"]?.intValue)
      let windowing = WindowProtocol(
        length: try #require(row["length"]?.intValue), stride: row["stride"]?.intValue)
      let found = try Perplexity.measure(decoder, ids: ids, protocol: windowing)
      #expect(found.tokensScored == row["tokens_scored"]?.intValue)
      #expect(found.windows == row["windows"]?.intValue)
      let expected = try #require(row["perplexity"]?.doubleValue)
      #expect(abs(found.perplexity / expected - 1) <= Self.perplexityBound)
      if let guide = row["perplexity_hf_guide_weights"]?.doubleValue {
        #expect(abs(found.huggingFaceGuide / guide - 1) <= Self.perplexityBound)
      }
    }
  }

  @Test func aModelDoesNotDifferFromItself() throws {
    let model = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa"))
    let result = try Comparison.measure(
      reference: model.decoder(), candidate: model.decoder(), ids: Self.ids(model, "en"),
      protocol: WindowProtocol(length: 128, maximumWindows: 4))
    #expect(result.ratio == 1 && result.top1Agreement == 1 && result.maximumKL < 1e-6)
    #expect(result.tokensScored == 4 * 127)
  }

  @Test func windowsFollowTheProtocols() throws {
    let alone = try WindowProtocol(length: 4).windows(of: 11)
    #expect(alone.map(\.range) == [0..<4, 4..<8] && alone.map(\.firstScored) == [1, 5])
    let strided = try WindowProtocol(length: 4, stride: 2).windows(of: 9)
    #expect(strided.map(\.range) == [0..<4, 2..<6, 4..<8, 6..<9])
    #expect(strided.map(\.firstScored) == [1, 4, 6, 8])
    #expect(strided.map(\.scoredCount) == [3, 2, 2, 1])
    #expect(throws: EvaluationError.self) { try WindowProtocol(length: 4).windows(of: 3) }
    #expect(throws: EvaluationError.self) { try WindowProtocol(length: 1).windows(of: 3) }
    #expect(throws: EvaluationError.self) { try WindowProtocol(length: 4, stride: 5).windows(of: 30) }
  }
}
