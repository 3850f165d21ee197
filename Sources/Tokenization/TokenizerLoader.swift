import Files
import JSON

/// Finds a model's tokenizer among its files.
package enum TokenizerLoader {
  /// - Throws: when there is none, or it breaks a rule of its format.
  package static func load(_ files: any ModelFiles) throws -> any Tokenizer {
    let names = files.names
    // Beside tokenizer.json, only 360Zhinao's own file counts: others may be left from the original release.
    let vocabularies = names.filter {
      $0.bytes.hasSuffix(".tiktoken")
        && ($0.hasSameBytes(as: "vocab/360.tiktoken") || !names.contains("tokenizer.json"))
    }
    let preferred = vocabularies.contains("vocab/360.tiktoken") ? "vocab/360.tiktoken" : vocabularies.first
    if let preferred, vocabularies.count == 1 || preferred == "vocab/360.tiktoken",
      let bytes = try files.bytes(named: preferred)
    {
      return try ZhinaoTokenizer(vocabulary: bytes, path: files.label(of: preferred))
    }
    if vocabularies.count > 1 {
      throw TokenizationError(.severalVocabularies, path: files.location)
    }
    guard let document = try document(files) else {
      throw TokenizationError(.noTokenizer, path: files.location)
    }
    if document.isWordPiece { return try WordPieceTokenizer(document, files: files) }
    var tokenizer = try BytePairTokenizer(document.json, path: document.path)
    tokenizer.discrepancies = document.discrepancies
    return tokenizer
  }

  /// A tokenizer as `tokenizer.json` has it.
  package struct Document {
    package let json: JSONValue
    /// The file that it is from.
    package let path: String
    /// Where the files beside it say other things about added tokens.
    package var discrepancies: [Discrepancy] = []

    var isWordPiece: Bool { json["model"]?["type"]?.stringValue == "WordPiece" }
  }

  /// The tokenizer of `tokenizer.json` with what the files beside it say about added tokens, of `vocab.json` with `merges.txt`, of
  /// SentencePiece's `tokenizer.model`, or of WordPiece's `vocab.txt`. Nil when there is none of them.
  package static func document(_ files: any ModelFiles) throws -> Document? {
    if let json = try files.json(named: "tokenizer.json") {
      let sources = try AddedTokenSources(json, files)
      return Document(
        json: sources.document, path: files.label(of: "tokenizer.json"), discrepancies: sources.discrepancies)
    }
    let slow = try SlowTokenizer(files)
    if let json = try slow.bytePair() { return Document(json: json, path: files.label(of: "vocab.json")) }
    if let json = try slow.sentencePiece() {
      return Document(json: json, path: files.label(of: "tokenizer.model"))
    }
    return try WordPieceVocabularyFile.document(files)
  }

  /// The tokenizer of one vocabulary file, named `*.tiktoken`, `*.json`, or `*.txt` for WordPiece.
  package static func load(file path: String) throws -> any Tokenizer {
    if path.bytes.hasSuffix(".json") {
      let document = Document(json: try JSONValue.parse(file: path), path: path)
      return document.isWordPiece
        ? try WordPieceTokenizer(document.json, path: path) : try BytePairTokenizer(document.json, path: path)
    }
    if path.bytes.hasSuffix(".txt") {
      return try WordPieceTokenizer(vocabulary: try Gzip.contents(ofFile: path), path: path)
    }
    return try ZhinaoTokenizer(vocabulary: try Gzip.contents(ofFile: path), path: path)
  }
}
