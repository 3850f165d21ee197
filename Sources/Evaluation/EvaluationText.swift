import Files
import JSON
import Tokenization

/// The ids a measurement runs on.
package enum EvaluationText {
  /// The whole text of a file (gzip'd or not) without a byte order mark, encoded once, nothing added at either end.
  package static func ids(textFile path: String, tokenizer: any Tokenizer) throws -> [Int] {
    let bytes = try TextFile.bytes(ofFile: path)
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw EvaluationError(.notUTF8(path: path))
    }
    return tokenizer.encode(text)
  }

  /// Ids from a JSON file: an array of numbers, or an object with one under `ids` or `input_ids`.
  package static func ids(jsonFile path: String) throws -> [Int] {
    let json = try JSONValue.parse(file: path)
    guard let array = json.arrayValue ?? (json["ids"] ?? json["input_ids"])?.arrayValue else {
      throw EvaluationError(.noIDs(path: path))
    }
    return try array.enumerated().map { index, value in
      guard let id = value.intValue else {
        throw EvaluationError(.notAnID(path: path, index: index))
      }
      return id
    }
  }

  /// - Throws: when an id is outside the model's vocabulary.
  package static func check(_ ids: [Int], vocabularySize: Int, path: String) throws {
    if let index = ids.firstIndex(where: { $0 < 0 || $0 >= vocabularySize }) {
      throw EvaluationError(
        .idOutOfVocabulary(path: path, index: index, id: ids[index], vocabularySize: vocabularySize))
    }
  }
}
