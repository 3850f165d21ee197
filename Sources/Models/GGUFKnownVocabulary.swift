import Files

/// Published vocabularies, told by all of their tokens. Files of early 2024 do not say how their tokenizer cuts text; whoever has
/// exactly the tokens of Llama 3 cuts it as Llama 3 does.
enum GGUFKnownVocabulary {
  private struct Entry {
    var preTokenizer: String
    /// How many tokens, from id 0 on, the digest is of.
    var count: Int
    /// SHA-256 of the tokens as the file spells them, a newline between two.
    var digest: String
  }
  private static let entries = [
    // Llama 3, 3.1, 3.2, 3.3
    Entry(
      preTokenizer: "llama-bpe", count: 128_000,
      digest: "8dd8b994f25dc533e90df9906b38f5729193ae5b07a383cb23058e0e0960dc10"),
    // Qwen, Qwen1.5, Qwen2, Qwen2.5, Qwen3
    Entry(
      preTokenizer: "qwen2", count: 151_643,
      digest: "36c3749fd3c87e2402f612459b45ae4e6ce5488a3ecde47a8a3ea3ed3d5dda5a"),
    // SmolLM2
    Entry(
      preTokenizer: "smollm", count: 49_152,
      digest: "d1f2ce856b324081b621d9e2e8dbd22879f462329f3fd4aa39fa758dddb2ce55"),
  ]

  /// llama.cpp's name for how the vocabulary's tokenizer cuts text, or nil when nobody published it.
  static func preTokenizer(_ tokens: [String]) -> String? {
    entries.first { $0.count <= tokens.count && digest(tokens.prefix($0.count)) == $0.digest }?.preTokenizer
  }

  static func digest(_ tokens: some Sequence<String>) -> String {
    var text: [UInt8] = []
    for token in tokens {
      if !text.isEmpty { text.append(10) }
      text += token.utf8
    }
    return text.withUnsafeBytes { Checksum.sha256($0) }
  }
}
