import Files
import JSON

/// The Zhinao tokenizer in the terms of `tokenizer.json`, and back.
///
/// tiktoken merges the two neighbours whose bytes together are the token of lowest rank; `tokenizer.json` lists the pairs
/// that may merge, first those that merge first. So the list is, for every token in the order of ranks, each way to cut
/// it into two tokens. `ignore_merges` takes a piece that is a token whole, as tiktoken does. The replacements before
/// encoding are a normalizer; the special tokens are looked for in normalized text, as tiktoken sees it; the decoder
/// puts the spaces back.
package enum ZhinaoTokenizerJSON {
  private static let pattern = SplitPattern.cl100k(digits: 1).regularExpression
  private static let lineBreaks = ["[br]", "<br>"]
  /// Space tokens and what they stand for, longest first: the order of the replacements.
  private static let spaces = [("[space8]", 8), ("[space4]", 4), ("[space3]", 3), ("[space2]", 2)]

  // MARK: Out

  /// The whole document.
  package static func document(_ tokenizer: ZhinaoTokenizer) throws -> JSONValue {
    let tokens = tokenizer.rankedTokens
    let names = Set(ZhinaoTokenizer.specialNames.map { Array($0.utf8) })
    if let rank = tokens.firstIndex(where: names.contains) {
      throw TokenizationError(.rankIsSpecial(rank), path: tokenizer.path)
    }
    let spelled = tokens.map(ByteLevelAlphabet.encoded)
    return [
      "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": addedTokens(after: tokens.count),
      "normalizer": normalizer,
      "pre_tokenizer": [
        "type": "Sequence",
        "pretokenizers": [
          ["type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false],
          ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false],
        ],
      ],
      "post_processor": nil,
      "decoder": [
        "type": "Sequence",
        "decoders": .array(
          [["type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true]]
            + spaces.reversed().map { replacement($0.0, String(repeating: " ", count: $0.1)) }),
      ],
      "model": [
        "type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
        "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
        "vocab": .object(JSONObject(spelled.enumerated().map { ($0.element, .init($0.offset)) })),
        "merges": .array(
          merges(tokenizer).map { [.string(spelled[$0.left]), .string(spelled[$0.right])] }),
      ],
    ]
  }

  private static var normalizer: JSONValue {
    [
      "type": "Sequence",
      "normalizers": .array(
        lineBreaks.map { replacement($0, "\n") }
          + spaces.map { replacement(String(repeating: " ", count: $0.1), $0.0) }),
    ]
  }

  /// Pairs of ranks that merge, in the order of what they merge to, then of the parts.
  static func merges(_ tokenizer: ZhinaoTokenizer) -> [(left: Int, right: Int)] {
    var result: [(left: Int, right: Int)] = []
    for token in tokenizer.rankedTokens where token.count > 1 {
      var ways: [(left: Int, right: Int)] = []
      for cut in 1..<token.count {
        if let left = tokenizer.rank(of: token[..<cut]), let right = tokenizer.rank(of: token[cut...]) {
          ways.append((left, right))
        }
      }
      result += ways.sorted { $0 < $1 }
    }
    return result
  }

  private static func addedTokens(after count: Int) -> JSONValue {
    .array(
      ZhinaoTokenizer.specialNames.enumerated().map { index, name in
        [
          "id": .init(count + index), "content": .string(name), "single_word": false, "lstrip": false,
          // Space tokens are text: skipping special tokens keeps them.
          "rstrip": false, "normalized": true, "special": .bool(!spaces.contains { $0.0 == name }),
        ]
      })
  }

  private static func replacement(_ pattern: String, _ content: String) -> JSONValue {
    ["type": "Replace", "pattern": ["String": .string(pattern)], "content": .string(content)]
  }

  // MARK: Back

  /// The lines of `360.tiktoken`, in the order of ranks, of a `tokenizer.json` that describes a Zhinao tokenizer.
  /// - Throws: when it describes anything else: another pattern, other special tokens, merges that no ranks give.
  package static func vocabulary(_ json: JSONValue, path: String) throws -> [UInt8] {
    let file = TokenizerJSON(json: json, path: path)
    func bad(_ rule: TokenizationError.ZhinaoRule) -> TokenizationError {
      TokenizationError(.notZhinao(rule), path: path)
    }
    let names = ZhinaoTokenizer.specialNames
    let model = try file.bytePairModel()
    let entries = model.vocabulary.filter { entry in !names.contains { $0.hasSameBytes(as: entry.0) } }.sorted
    { $0.1 < $1.1 }
    guard entries.enumerated().allSatisfy({ $0.offset == $0.element.1 }) else {
      throw bad(.ids(count: entries.count))
    }
    let added = try file.addedTokens()
    for (index, name) in names.enumerated() {
      guard
        added.contains(where: { $0.token.bytes == Array(name.utf8) && $0.token.id == entries.count + index })
      else { throw bad(.special(name: name, id: entries.count + index)) }
    }
    guard added.count == names.count else {
      throw bad(.addedTokens(found: added.count, expected: names.count))
    }
    guard try file.preTokenizer() == PreTokenizer(alphabet: .bytes, steps: [.split(.cl100k(digits: 1))])
    else { throw bad(.pattern) }
    let expected = try TokenizerJSON(json: ["normalizer": normalizer], path: path).normalizer()
    guard try file.normalizer() == expected else { throw bad(.normalizer) }

    var lines: [UInt8] = []
    for (text, id) in entries {
      guard let bytes = ByteLevelAlphabet.decoded(text), !bytes.isEmpty else {
        throw bad(.bytes(id: id))
      }
      lines += Base64.encoded(bytes) + Array(" \(id)\n".utf8)
    }
    let tokenizer = try ZhinaoTokenizer(vocabulary: lines, path: path)
    let merges = merges(tokenizer)
    let isSame =
      merges.count == model.merges.count
      && zip(merges, model.merges).allSatisfy { pair, spelled in
        entries[pair.left].0.hasSameBytes(as: spelled.0) && entries[pair.right].0.hasSameBytes(as: spelled.1)
      }
    guard isSame, model.ignoresMerges else { throw bad(.merges) }
    return lines
  }
}
