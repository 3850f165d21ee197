import Files
import JSON

/// Finds a model's tokenizer among its files.
package enum TokenizerLoader {
  /// - Throws: when there is none, or it breaks a rule of its format.
  package static func load(_ files: any ModelFiles) throws -> any Tokenizer {
    let names = files.names
    let vocabularies = names.filter { $0.bytes.hasSuffix(".tiktoken") }
    let preferred = vocabularies.contains("vocab/360.tiktoken") ? "vocab/360.tiktoken" : vocabularies.first
    if let preferred, vocabularies.count == 1 || preferred == "vocab/360.tiktoken",
      let bytes = try files.bytes(named: preferred)
    {
      return try ZhinaoTokenizer(vocabulary: bytes, path: files.label(of: preferred))
    }
    if vocabularies.count > 1 {
      throw TokenizationError(.severalVocabularies, path: files.location)
    }
    guard let (json, path) = try document(files) else {
      throw TokenizationError(.noTokenizer, path: files.location)
    }
    guard path.hasSameBytes(as: files.label(of: "tokenizer.json")) else {
      return try BytePairTokenizer(json, path: path)
    }
    let sources = try AddedTokenSources(json, files)
    var tokenizer = try BytePairTokenizer(sources.document, path: path)
    tokenizer.discrepancies = sources.discrepancies
    return tokenizer
  }

  /// The tokenizer as `tokenizer.json` has it, and the file that it is from: that file itself, `vocab.json` with `merges.txt`, or
  /// SentencePiece's `tokenizer.model`. Nil when there is none of them.
  package static func document(_ files: any ModelFiles) throws -> (json: JSONValue, path: String)? {
    if let json = try files.json(named: "tokenizer.json") { return (json, files.label(of: "tokenizer.json")) }
    let slow = try SlowTokenizer(files)
    if let json = try slow.bytePair() { return (json, files.label(of: "vocab.json")) }
    if let json = try slow.sentencePiece() { return (json, files.label(of: "tokenizer.model")) }
    return nil
  }

  /// The tokenizer of one vocabulary file, named `*.tiktoken` or `*.json`.
  package static func load(file path: String) throws -> any Tokenizer {
    if path.bytes.hasSuffix(".json") {
      return try BytePairTokenizer(try JSONValue.parse(file: path), path: path)
    }
    return try ZhinaoTokenizer(vocabulary: try Gzip.contents(ofFile: path), path: path)
  }
}
