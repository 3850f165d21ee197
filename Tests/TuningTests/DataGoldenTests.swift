import Calibration
import Files
import JSON
import TestSupport
import Testing
import Tokenization
import Training
import Tuning

/// Rows beside those of 360Zhinao's own script.
@Suite struct DataGoldenTests {
  static func model() throws -> TuningModel {
    let tokenizer = try TokenizerLoader.load(FolderFiles(Fixture.tinyZhinao))
    return TuningModel(
      tokenizer: tokenizer, template: try ChatTemplate.detected(tokenizer: tokenizer),
      endOfText: tokenizer.specialTokens["<eod>"], stopTokens: [], vocabularySize: 3072)
  }

  /// Rows of the golden without what pads them.
  static func rows(_ golden: JSONValue, _ mode: String) throws -> [TrainingRow] {
    let pad = try #require(golden["pad_id"]?.intValue)
    return try #require(golden[mode]?.arrayValue).map { row in
      var tokens = try #require(row["input_ids"]?.arrayValue).compactMap(\.intValue)
      var labels = try #require(row["labels"]?.arrayValue).compactMap(\.intValue)
      while tokens.last == pad {
        tokens.removeLast()
        #expect(labels.removeLast() == -100)
      }
      return TrainingRow(tokens: tokens, labels: labels.map { $0 == -100 ? nil : $0 })
    }
  }

  @Test(arguments: [("separate", TuningPacking.separate), ("packed", .concat)])
  func everyIDAndLabelEqualsTheVendors(mode: String, packing: TuningPacking) throws {
    let golden = try JSONValue.parse(Array(Fixture.data("golden/finetune.json")))
    let folder = try TemporaryFolder()
    let path = folder.file("data.json")
    try AtomicFile.write(try #require(golden["conversations"]).serialized(), to: path)
    let dataset = try TuningDataset.load(
      files: [TuningFile(path)], model: try Self.model(),
      options: TuningDataOptions(maximumLength: 160, packing: packing))
    let expected = try Self.rows(golden, mode)
    #expect(Array(dataset.rows) == expected)
    let source = try #require(dataset.report.sources.first)
    #expect(source.records == (packing == .concat ? 7 : 9))
    #expect(source.leftOut.count == (packing == .concat ? 2 : 0))
    #expect(source.cutRows == (packing == .concat ? 0 : 2))
    // A turn of the role "observation" is learned in one of the modes only, and that must be seen.
    #expect(dataset.report.notes.contains { $0.contains("finetune.py") } == (packing == .separate))
  }
}
