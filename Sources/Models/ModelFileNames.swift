import Files

/// Which files of a folder belong to a model.
package enum ModelFileNames {
  /// Those without which a model does not run, or runs otherwise.
  package static let essential = [
    "config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "vocab/360.tiktoken",
    "vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json", "chat_template.jinja", "vocab.txt",
    "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
  ]

  /// The files that make a folder a model: configuration, tokenizer, template, code, licence. Not its weights, and not
  /// whatever else lies there.
  package static func belongsToModel(_ name: String) -> Bool {
    let known: Set<ByteText> = [
      "config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json",
      "special_tokens_map.json",
      "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja",
      "chat_template.json",
      "quantize_config.json", "modules.json", "sentence_bert_config.json",
      "config_sentence_transformers.json", "reranker.json",
    ]
    let text = name.bytes
    if text.hasPrefix(".") || text.contains("/.") { return false }
    let isAtTop = !text.contains("/")
    let base = (text.split(separator: "/").last { !$0.isEmpty } ?? name).bytes
    return known.contains(name)
      || isOfModule(name)
      || (text.hasPrefix("additional_chat_templates/") && base.hasSuffix(".jinja"))
      || base.hasSuffix(".tiktoken") || base.hasPrefix("LICENSE")
      || base.hasPrefix("NOTICE")
      || (isAtTop && (base.hasSuffix(".model") || base.hasSuffix(".py")))
  }

  /// Whether the file is of a module of a sentence-transformers folder, as `1_Pooling/config.json` is.
  private static func isOfModule(_ name: String) -> Bool {
    let parts = Array(name.utf8).split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    guard parts.count == 2, let mark = parts[0].firstIndex(of: UInt8(ascii: "_")) else { return false }
    let digits = parts[0][..<mark]
    let rest = String(decoding: parts[0][(mark + 1)...], as: UTF8.self)
    return !digits.isEmpty && digits.allSatisfy { (48...57).contains($0) }
      && ["Pooling", "Normalize", "Dense"].contains { rest.hasSameBytes(as: $0) }
  }
}
