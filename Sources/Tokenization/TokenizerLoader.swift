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
    if let json = try files.json(named: "tokenizer.json") {
      let sources = try AddedTokenSources(json, files)
      var tokenizer = try BytePairTokenizer(sources.document, path: files.label(of: "tokenizer.json"))
      tokenizer.discrepancies = sources.discrepancies
      return tokenizer
    }
    throw TokenizationError(.noTokenizer, path: files.location)
  }

  /// `tokenizer.json` with what the files beside it say about added tokens; nil: there is none.
  package static func document(_ files: any ModelFiles) throws -> JSONValue? {
    try files.json(named: "tokenizer.json").map { try AddedTokenSources($0, files).document }
  }

  /// The tokenizer of one vocabulary file, named `*.tiktoken` or `*.json`.
  package static func load(file path: String) throws -> any Tokenizer {
    if path.bytes.hasSuffix(".json") {
      return try BytePairTokenizer(try JSONValue.parse(file: path), path: path)
    }
    return try ZhinaoTokenizer(vocabulary: try Gzip.contents(ofFile: path), path: path)
  }
}
