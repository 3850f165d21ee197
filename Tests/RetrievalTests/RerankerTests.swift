import Compute
import Conversion
import Files
import Foundation
import JSON
import Models
import Safetensors
import TestSupport
import Testing
import Tokenization
import Transformer

@testable import Retrieval

/// Scores of decoders beside those of torch (`golden/reranker.json`).
@Suite struct RerankerTests {
  private static let golden = Result { try JSONValue.parse(file: Fixture.path("golden/reranker.json")) }

  /// tiny-zhinao with the head's tensors, and perhaps a `reranker.json`.
  private static func folder(_ folder: TemporaryFolder, settings: String? = nil, head: [TensorPlan]? = nil)
    throws
    -> String
  {
    let path = folder.file("reranker")
    try FileManager.default.copyItem(atPath: Fixture.tinyZhinao, toPath: path)
    let table = try TensorTable(path: path)
    let stored = try SafetensorsFile(path: Fixture.path("golden/reranker.safetensors"))
    let plans =
      table.inFileOrder.map { TensorPlan($0.name, $0.dtype, $0.shape) }
      + (head ?? stored.tensors.map { TensorPlan($0.name, $0.dtype, $0.shape) })
    let merged = folder.file("merged.safetensors")
    try SafetensorsWriter.write(to: merged, tensors: plans) { plan, emit in
      if let tensor = table[plan.name] { return try emit(tensor.bytes) }
      if head == nil, let tensor = stored.tensor(plan.name) { return try emit(stored.bytes(of: tensor)) }
      try [UInt8](repeating: 0, count: plan.byteCount).withUnsafeBytes { try emit($0) }
    }
    for file in table.files { try FileManager.default.removeItem(atPath: file.path) }
    try? FileManager.default.removeItem(atPath: path + "/model.safetensors.index.json")
    try FileManager.default.moveItem(atPath: merged, toPath: path + "/model.safetensors")
    if let settings { try AtomicFile.write(settings, to: path + "/reranker.json") }
    return path
  }

  private static func options(_ position: String, norm: Bool = true, maximumLength: Int? = nil) throws
    -> RerankerOptions
  {
    var options = RerankerOptions()
    options.position = RerankerOptions.Position(position)
    try #require(options.position != nil)
    options.finalNorm = norm
    options.maximumLength = maximumLength
    return options
  }

  private struct Pair {
    var query, passage: String
    var ids: [Int]
    var maximumLength: Int?
    var json: JSONValue

    init(_ json: JSONValue) throws {
      query = try #require(json["query"]?.stringValue)
      passage = try #require(json["passage"]?.stringValue)
      ids = try #require(json["ids"]?.arrayValue).compactMap(\.intValue)
      maximumLength = json["max_len"]?.intValue
      self.json = json
    }
  }

  private static func pairs() throws -> [Pair] {
    try #require(golden.get()["pairs"]?.arrayValue).map(Pair.init)
  }

  @Test func idsAreThoseOfTheReference() throws {
    let folder = try TemporaryFolder()
    let model = try OpenedModel(path: Self.folder(folder))
    for pair in try Self.pairs() {
      for name in ["before-placeholder", "placeholder", "last-non-pad", "-5"] {
        let reranker = try HeadReranker(
          model, try Self.options(name, maximumLength: pair.maximumLength))
        let place = name == "-5" ? "offset-from-end-5" : name
        guard let expected = pair.json["positions"]?[place]?.intValue else {
          #expect(throws: RetrievalError.self) {
            try reranker.encode(query: pair.query, passage: pair.passage)
          }
          continue
        }
        let encoded = try reranker.encode(query: pair.query, passage: pair.passage)
        #expect(encoded.ids == pair.ids)
        #expect(encoded.position == expected)
        if pair.maximumLength != nil { #expect(encoded.isTruncated) }
      }
    }
  }

  @Test(arguments: ["before-placeholder", "placeholder", "last-non-pad", "-5"], [true, false])
  func scoresAreThoseOfTorch(position: String, norm: Bool) throws {
    let folder = try TemporaryFolder()
    let reranker = try HeadReranker(
      OpenedModel(path: Self.folder(folder)), Self.options(position, norm: norm))
    let place = position == "-5" ? "offset-from-end-5" : position
    for pair in try Self.pairs() where pair.maximumLength == nil {
      let scores = pair.json["scores"]?[norm ? "final-norm" : "no-final-norm"]?[place]
      let expected = try #require(scores?["score"]?.doubleValue)
      let found = try #require(try reranker.scores(query: pair.query, passages: [pair.passage]).first)
      // States have channels a thousand times larger than others; without the norm their products nearly cancel.
      #expect(abs(Double(found.raw) - expected) <= max(1e-3, 2e-5 * abs(expected)))
      let sigmoid = try #require(scores?["sigmoid"]?.doubleValue)
      #expect(abs(Double(found.relevance) - sigmoid) <= 1e-3)
      #expect(found.tokenCount == pair.ids.count)
    }
  }

  /// The prefix that pairs share is computed once; no bit may tell.
  @Test func aScoreDoesNotDependOnOtherPassages() throws {
    let folder = try TemporaryFolder()
    let reranker = try HeadReranker(
      OpenedModel(path: Self.folder(folder)), Self.options("placeholder"))
    let query = "a rather long query, so that what the pairs share is worth a pass of its own"
    let passages = (0..<40).map { "passage \($0) " + String(repeating: "宝玉 said ", count: $0 % 7) }
    let together = try reranker.scores(query: query, passages: passages)
    for (passage, score) in zip(passages, together) {
      #expect(try reranker.scores(query: query, passages: [passage]) == [score])
    }
    #expect(try reranker.scores(query: query, passages: []).isEmpty)
  }

  @Test(arguments: KVCacheType.allCases) func statesAfterAPrefixAreTheSameBits(type: KVCacheType) throws {
    let decoder = try OpenedModel(path: Fixture.tinyZhinao).decoder()
    let prefix = (0..<37).map { ($0 * 71) % 3000 }
    let rest = [[5, 6, 7], [8], (0..<50).map { ($0 * 13) % 3000 }]
    let cache = decoder.makeCache(capacity: 64, type: type)
    _ = decoder.hiddenStates(prefix, cache: cache)
    let found = decoder.residualStates(rest, after: cache)
    var row = 0
    for tokens in rest {
      let whole = decoder.makeCache(capacity: 128, type: type)
      _ = decoder.hiddenStates(prefix, cache: whole)
      let expected = decoder.hiddenStates(tokens, cache: whole)
      let width = decoder.configuration.hiddenSize
      let normed = AlignedBuffer<Float>(count: tokens.count * width)
      decoder.steps.normalize(
        found.pointer + row * width, weight: decoder.finalNorm, rows: tokens.count, into: normed.pointer)
      #expect(normed.array.map(\.bitPattern) == expected.array.map(\.bitPattern))
      row += tokens.count
    }
  }

  @Test func commonPrefixLeavesEachPairAToken() {
    #expect(DecoderPairs.commonPrefix([[1, 2, 3], [1, 2, 4]]) == 2)
    #expect(DecoderPairs.commonPrefix([[1, 2], [1, 2, 4]]) == 1)
    #expect(DecoderPairs.commonPrefix([[1], [1]]) == 0)
    #expect(DecoderPairs.commonPrefix([[1, 2, 3]]) == 0)
    #expect(DecoderPairs.commonPrefix([]) == 0)
  }

  @Test func yesAndNoGiveTheReferencesProbabilities() throws {
    let yesNo = try #require(Self.golden.get()["yes_no"])
    var options = RerankerOptions()
    options.template = .qwen3Reranker
    options.prefix = yesNo["prefix"]?.stringValue
    options.suffix = yesNo["suffix"]?.stringValue
    options.yes = "是"
    options.no = "不"
    options.maximumLength = 1024
    let model = try OpenedModel(path: Fixture.tinyZhinao)
    let reranker = try #require(try RerankerLoader.open(model, options: options) as? YesNoReranker)
    #expect(reranker.remarks.isEmpty)
    for json in try #require(yesNo["pairs"]?.arrayValue) {
      let pair = try Pair(json)
      #expect(reranker.encode(query: pair.query, passage: pair.passage).ids == pair.ids)
      let score = try #require(try reranker.scores(query: pair.query, passages: [pair.passage]).first)
      let expected = try #require(json["score"]?.doubleValue)
      #expect(abs(Double(score.relevance) - expected) <= 1e-5)
    }
    // Of several tokens the first counts, and that is said.
    options.yes = "certainly, yes"
    #expect(try !RerankerLoader.open(model, options: options).remarks.isEmpty)
  }

  @Test func flagEmbeddingsLimits() throws {
    let tokenizer = try OpenedModel(path: Fixture.tinyZhinao).tokenizer()
    let prompt = try YesNoPrompt(
      flag: YesNoPrompt.flagInstruction, tokenizer, limit: 40, context: 4096, path: "m")
    func ids(_ text: String) -> [Int] { tokenizer.encode(text) }
    let closing = ids("\n") + ids(YesNoPrompt.flagInstruction)
    func encode(_ query: String, _ passage: String) -> [Int] {
      prompt.encode(
        query: query, passage: passage, instruction: YesNoPrompt.flagInstruction, tokenizer, .recognized
      ).ids
    }
    #expect(encode("q", "p") == ids("A: q") + ids("\n") + ids("B: p") + closing)
    let long = String(repeating: "宝玉 said ", count: 60)
    // The query is cut to three quarters, the passage to the whole limit, both together to the limit and the closing part.
    #expect(
      encode(long, long)
        == ids("A: " + long).prefix(30)
        + (ids("\n") + ids("B: " + long).prefix(40)).prefix(10 + closing.count)
        + closing)
  }

  @Test func textsThatLookLikePlaceholdersStayText() throws {
    let tokenizer = try OpenedModel(path: Fixture.tinyZhinao).tokenizer()
    let prompt = try YesNoPrompt(
      prefix: "", body: "{query}|{document}", suffix: "!", tokenizer, limit: 512, path: "m")
    #expect(
      prompt.encode(query: "{document}", passage: "p", instruction: "", tokenizer, .recognized).ids
        == tokenizer.encode("{document}|p") + tokenizer.encode("!"))
  }

  // MARK: Refusals

  private func refusal(_ path: String, _ options: RerankerOptions = RerankerOptions()) throws
    -> RetrievalError.Reason?
  {
    do {
      _ = try RerankerLoader.open(OpenedModel(path: path, accepting: .all), options: options)
      return nil
    } catch let error as RetrievalError {
      #expect(!error.description.isEmpty)
      return error.reason
    }
  }

  @Test func aPositionIsNeverGuessed() throws {
    let folder = try TemporaryFolder()
    #expect(try refusal(Self.folder(folder)) == .positionNotStated(head: "linear.weight"))
    #expect(try refusal(Fixture.tinyZhinao) == .noScore(head: "linear.weight"))
    var options = try Self.options("placeholder")
    options.answerLength = 1024
    let path = folder.file("reranker")
    #expect(
      try refusal(path, options) == .badSetting("answer_len", "is 1024, expected less than max_len, 1024"))
    options = try Self.options("placeholder")
    options.biasName = "linear.b"
    #expect(try refusal(path, options) != nil)
    options = RerankerOptions()
    options.kind = .yesNo
    #expect(try refusal(path, options) != nil)
    options.body = "{query}"
    options.prefix = ""
    options.suffix = ""
    #expect(
      try refusal(path, options)
        == .badSetting("body", "has no {document}, so that scores would not depend on it"))
    options.template = .qwen3Reranker
    options.prefix = nil
    options.body = nil
    options.suffix = nil
    options.maximumLength = 10
    guard case .noRoomForPair? = try refusal(path, options) else {
      Issue.record("a prompt without room was accepted")
      return
    }
  }

  @Test func settingsOfTheOtherKindAreRefused() throws {
    let folder = try TemporaryFolder()
    let path = try Self.folder(folder)
    var options = RerankerOptions()
    options.template = .qwen3Reranker
    options.finalNorm = false
    #expect(
      try refusal(path, options)
        == .badSetting("final_norm", "is for a head, but the model scores with yes and no"))
    options = try Self.options("placeholder")
    options.instruction = "Judge."
    #expect(
      try refusal(path, options)
        == .badSetting("a prompt for yes and no", "is stated, but the model scores with a head"))
  }

  @Test func headsOfOtherShapesAreRefused() throws {
    let folder = try TemporaryFolder()
    let path = try Self.folder(folder, head: [TensorPlan("linear.weight", .bf16, [2, 256])])
    #expect(
      try refusal(path, Self.options("placeholder"))
        == .headShape(name: "linear.weight", found: [2, 256], hiddenSize: 256))
  }

  @Test func settingsComeFromTheFileAndSurvivePacking() throws {
    let folder = try TemporaryFolder()
    let path = try Self.folder(
      folder, settings: #"{"type": "head", "position": "placeholder", "final_norm": false}"#)
    let pair = try #require(try Self.pairs().first)
    let stated = try RerankerLoader.open(OpenedModel(path: path))
    let expected = try stated.scores(query: pair.query, passages: [pair.passage])
    let explicit = try HeadReranker(OpenedModel(path: path), Self.options("placeholder", norm: false))
    #expect(try explicit.scores(query: pair.query, passages: [pair.passage]) == expected)
    // Options win over the file.
    let other = try RerankerLoader.open(
      OpenedModel(path: path), options: Self.options("last-non-pad", norm: false))
    #expect(try other.scores(query: pair.query, passages: [pair.passage]) != expected)

    let packed = folder.file("m.zhinao")
    try ModelPacker(ModelContents(OpenedModel(path: path))).write(
      to: packed, generator: "test", provenance: JSONObject())
    let reranker = try RerankerLoader.open(OpenedModel(path: packed))
    #expect(try reranker.scores(query: pair.query, passages: [pair.passage]) == expected)
  }

  @Test(arguments: [
    #"{"position": "middle"}"#, #"{"positon": "placeholder"}"#, #"{"type": "magic"}"#, #"{"final_norm": 1}"#,
    "[]",
    #"{"position": 1.5}"#, #"{"max_len": 0}"#,
  ])
  func wrongSettingsAreNamed(text: String) throws {
    #expect(throws: JSONFieldError.self) {
      try RerankerOptions(try JSONValue.parse(text), document: "reranker.json")
    }
  }

  @Test func positionsHaveNames() {
    #expect(RerankerOptions.Position("-5") == .offset(-5))
    #expect(RerankerOptions.Position("placeholder")?.text == "placeholder")
    #expect(RerankerOptions.Position("") == nil)
    #expect(RerankerOptions.Position("99999999999999") == nil)
  }
}
