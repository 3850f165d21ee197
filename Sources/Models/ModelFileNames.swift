/// Which files of a folder belong to a model.
package enum ModelFileNames {
  /// The files that make a folder a model: configuration, tokenizer, template, code, licence. Not its weights, and not
  /// whatever else lies there.
  package static func belongsToModel(_ name: String) -> Bool {
    let known: Set<String> = [
      "config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json",
      "special_tokens_map.json",
      "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja",
      "chat_template.json",
      "quantize_config.json",
    ]
    let base = name.split(separator: "/").last.map(String.init) ?? name
    if name.hasPrefix(".") || name.contains("/.") { return false }
    return known.contains(name) || base.hasSuffix(".tiktoken")
      || (base.hasSuffix(".model") && !name.contains("/"))
      || (base.hasSuffix(".py") && !name.contains("/")) || base.hasPrefix("LICENSE")
      || base.hasPrefix("NOTICE")
  }
}
