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
      throw TokenizationError(
        path: files.location, detail: "has several .tiktoken files, none of them vocab/360.tiktoken")
    }
    if let json = try files.json(named: "tokenizer.json") {
      return try BytePairTokenizer(json, path: files.label(of: "tokenizer.json"))
    }
    throw TokenizationError(
      path: files.location, detail: "has no tokenizer: neither vocab/360.tiktoken nor tokenizer.json",
      category: .cannotOpenInput)
  }

  /// The tokenizer of one vocabulary file, named `*.tiktoken` or `*.json`.
  package static func load(file path: String) throws -> any Tokenizer {
    if path.bytes.hasSuffix(".json") {
      return try BytePairTokenizer(try JSONValue.parse(file: path), path: path)
    }
    return try ZhinaoTokenizer(vocabulary: try Gzip.contents(ofFile: path), path: path)
  }
}
