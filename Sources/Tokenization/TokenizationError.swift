import Files

/// Why a vocabulary was refused, or ids that are not in it.
package struct TokenizationError: DiagnosedError, Equatable {
  /// One case per rule. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    // MARK: tiktoken vocabularies
    /// A line that is not `base64(token) SPACE rank`; lines count from 1.
    case badLine(Int)
    case rankTooLarge(line: Int, rank: Int)
    case rankGivenTwice(line: Int, rank: Int)
    case noTokens
    case rankMissing(Int, count: Int)
    /// The rank's token is that of a lower rank.
    case tokenRepeated(rank: Int)
    case byteMissing(Int)

    // MARK: tokenizer.json
    /// A part that must be there, for example `model.vocab`.
    case noPart(String)
    /// The model is neither BPE nor WordPiece.
    case unsupportedModel(String)
    /// A part that this reader does not know, as the end of a sentence whose subject is it.
    case unsupported(String)
    /// An entry of the vocabulary has no id in range.
    case badID(token: String)
    case idGivenTwice(Int)
    /// Only bytes' stand-ins may be in a token of byte-level BPE.
    case notBytes(id: Int)
    case tokenRepeatedInVocabulary(id: Int)
    /// An entry of the merges is not a pair.
    case badMerge(Int)
    /// A merge of tokens that the vocabulary does not have.
    case unknownMerge(Int, left: String, right: String)
    case badAddedToken
    /// The post-processor names a token without ids of this vocabulary.
    case unknownAffix(String)
    /// A token that the rules of the model need is not in its vocabulary.
    case specialMissing(String, role: String)
    /// Tokens have more bytes together than any real vocabulary.
    case vocabularyTooLarge(bytes: Int, limit: Int)

    // MARK: vocab.txt
    /// Lines count from 1.
    case vocabularyLine(Int, VocabularyLineRule)

    // MARK: Other files
    /// Not SentencePiece's format from this byte on.
    case notSentencePiece(byte: Int)
    /// `merges.txt`; lines count from 1.
    case badMergeLine(Int)
    /// A class of transformers for files that do not say themselves how text is cut.
    case unknownClass(String?, files: String)

    // MARK: Zhinao in the terms of tokenizer.json
    /// A rank has the name of a special token.
    case rankIsSpecial(Int)
    /// Not a Zhinao tokenizer, and why.
    case notZhinao(ZhinaoRule)

    // MARK: A model's files
    case severalVocabularies
    case noTokenizer

    // MARK: Encoding with a limit
    /// The limit is below the number of special tokens that a text, or a pair, gets.
    case maximumTooSmall(Int, added: Int)
    /// `only_second` cuts the second text, and the first alone leaves it nothing.
    case noRoomForSecond(ids: Int, room: Int)
    /// `only_second` without a second text.
    case noSecondText(ids: Int, room: Int)

    /// Decoding an id that no token has.
    case noSuchToken(Int, count: Int)
    /// A rule of the caller's own, as the end of a sentence whose subject is the file.
    case refused(String, FailureCategory)
  }
  /// What a line of `vocab.txt` must be.
  package enum VocabularyLineRule: Equatable, Sendable { case notUTF8, carriageReturn }
  /// What makes a `tokenizer.json` describe a Zhinao tokenizer.
  package enum ZhinaoRule: Equatable, Sendable {
    /// Ids of the vocabulary are 0 to `count` − 1.
    case ids(count: Int)
    /// The special token has this id.
    case special(name: String, id: Int)
    /// There are no other added tokens.
    case addedTokens(found: Int, expected: Int)
    case pattern
    case normalizer
    /// Tokens are made of bytes.
    case bytes(id: Int)
    /// The merges are those that the order of the ids gives.
    case merges
  }
  package var reason: Reason
  package var path: String

  package init(_ reason: Reason, path: String) {
    self.reason = reason
    self.path = path
  }

  /// A rule of the caller's own.
  package init(path: String, detail: String, category: FailureCategory = .badInput) {
    self.init(.refused(detail, category), path: path)
  }

  package var category: FailureCategory {
    switch reason {
    case .noTokenizer: .cannotOpenInput
    case .refused(_, let category): category
    default: .badInput
    }
  }

  package var description: String { "\(path): \(reason)" }
}

extension TokenizationError.Reason: CustomStringConvertible {
  /// The end of a sentence whose subject is the file.
  package var description: String {
    switch self {
    case .badLine(let line): "line \(line): expected base64(token), a space, and a rank"
    case .rankTooLarge(let line, let rank): "line \(line): rank \(rank) is out of range"
    case .rankGivenTwice(let line, let rank): "line \(line): rank \(rank) is given twice"
    case .noTokens: "holds no tokens"
    case .rankMissing(let rank, let count): "rank \(rank) is missing; ranks must be 0 to \(count - 1)"
    case .tokenRepeated(let rank): "rank \(rank) repeats the token of a lower rank"
    case .byteMissing(let byte): "has no token for the single byte \(byte); every byte needs one"
    case .noPart(let part): "has no \(part)"
    case .unsupportedModel(let type): "model.type is \(type); this reader knows BPE and WordPiece"
    case .unsupported(let detail): detail
    case .badID(let token): "model.vocab: \"\(token)\" has no valid id"
    case .idGivenTwice(let id): "model.vocab gives id \(id) to two tokens"
    case .notBytes(let id):
      "token \(id) has characters that do not stand for bytes; only byte-level BPE is supported"
    case .tokenRepeatedInVocabulary(let id): "token \(id) repeats another token"
    case .badMerge(let index): "model.merges: entry \(index) is not a pair"
    case .unknownMerge(let rank, let left, let right):
      "merge \(rank) joins \"\(left)\" and \"\(right)\", which are not all in the vocabulary"
    case .badAddedToken: "added_tokens: an entry has no id and content"
    case .unknownAffix(let name): "post_processor: special token \(name) has no ids of this vocabulary"
    case .specialMissing(let name, let role): "has no token \(name), which is its \(role)"
    case .vocabularyTooLarge(let bytes, let limit):
      "has a vocabulary of \(bytes) bytes; more than \(limit) are not supported"
    case .vocabularyLine(let line, .notUTF8): "line \(line): the token is not valid UTF-8"
    case .vocabularyLine(let line, .carriageReturn): "line \(line): the token holds a carriage return"
    case .maximumTooSmall(let maximum, let added):
      "a maximum of \(maximum) tokens leaves no room: \(added) special tokens are added"
    case .noRoomForSecond(let ids, let room):
      "the first text has \(ids) tokens and leaves none of \(room) to the second, which only_second cuts; "
        + "shorten it, raise the maximum, or cut longest_first"
    case .noSecondText(let ids, let room):
      "a text of \(ids) tokens does not fit into \(room), and only_second cuts none but a second text"
    case .rankIsSpecial(let rank):
      "gives rank \(rank) to the name of a special token, which tokenizer.json cannot tell from it"
    case .notZhinao(let rule): "is not a Zhinao tokenizer: \(rule)"
    case .severalVocabularies: "has several .tiktoken files, none of them vocab/360.tiktoken"
    case .notSentencePiece(let byte): "is not a SentencePiece model: damaged at byte \(byte)"
    case .badMergeLine(let line): "line \(line): expected two tokens with a space between them"
    case .unknownClass(let name, let files):
      "has \(files), and "
        + (name.map { "tokenizer_config.json names the class \($0), which is not known" }
          ?? "tokenizer_config.json names no tokenizer_class")
        + "; the class says how text is cut. Known are Qwen2Tokenizer, GPT2Tokenizer and GPTNeoXTokenizer"
    case .noTokenizer:
      "has no tokenizer: neither vocab/360.tiktoken, tokenizer.json, vocab.json with merges.txt, tokenizer.model, nor "
        + "vocab.txt"
    case .noSuchToken(let id, let count): "has no token \(id); ids run from 0 to \(count - 1)"
    case .refused(let detail, _): detail
    }
  }
}

extension TokenizationError.ZhinaoRule: CustomStringConvertible {
  package var description: String {
    switch self {
    case .ids(let count): "its ids are not 0 to \(count - 1)"
    case .special(let name, let id): "\(name) is not token \(id)"
    case .addedTokens(let found, let expected): "it has \(found) added tokens, not \(expected)"
    case .pattern: "its pattern is another"
    case .normalizer: "its normalizer is another"
    case .bytes(let id): "token \(id) is not made of bytes"
    case .merges: "its merges do not follow from its ids"
    }
  }
}
