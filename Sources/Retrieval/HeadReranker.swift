import Compute
import Files
import Models
import Tokenization
import Transformer

/// A decoder with one row of weights that makes a score of the state of one token: 360Zhinao-1.8B-Reranking.
///
/// A pair is the conversation that the vendor's code makes of it, `Docs/search.md` describes its ids. The attention is causal, so
/// tokens after the one whose state is read are not computed.
package final class HeadReranker: Reranker {
  package static let weightName = "linear.weight"
  package static let biasName = "linear.bias"

  package let model: OpenedModel
  package let maximumLength: Int
  package let remarks: [String]
  private let tokenizer: any Tokenizer
  private let pairs: DecoderPairs
  private let position: RerankerOptions.Position
  private let finalNorm: Bool
  /// `[hiddenSize]`
  private let weight: AlignedBuffer<Float>
  private let bias: Float
  private let specials: SpecialTokens
  /// Ids up to the user's text, and from its end on.
  private let opening: [Int]
  private let closing: [Int]
  /// Ids of the user's text that are kept.
  private let textLimit: Int
  /// The named positions, counted from the first id of `closing`.
  private let beforePlaceholder: Int
  private let placeholder: Int

  /// - Throws: ``RetrievalError`` when the position is not stated, the head is missing or of another shape, or the tokenizer
  ///   lacks tokens of ChatML.
  package init(_ model: OpenedModel, _ options: RerankerOptions, pool: WorkerPool = .shared) throws {
    func bad(_ reason: RetrievalError.Reason) -> RetrievalError { RetrievalError(reason, path: model.path) }
    let name = options.weightName ?? HeadReranker.weightName
    guard let weight = try model.headVector(named: name, count: model.configuration.hiddenSize) else {
      throw bad(.noScore(head: name))
    }
    guard let position = options.position else { throw bad(.positionNotStated(head: name)) }
    let bias = try model.headVector(named: options.biasName ?? HeadReranker.biasName, count: 1)
    if let stated = options.biasName, bias == nil {
      throw bad(.badSetting("bias", "names the tensor \(stated), which the model does not have"))
    }
    self.model = model
    self.weight = weight
    self.bias = bias?[0] ?? 0
    self.position = position
    finalNorm = options.finalNorm ?? true
    remarks =
      options.finalNorm == nil
      ? [
        "final_norm is not stated; scores are made of the state after the final norm (--no-final-norm: before it)"
      ]
      : []
    specials = options.specials
    pairs = DecoderPairs(decoder: try model.decoder(arithmetic: options.arithmetic, pool: pool))
    maximumLength = min(options.maximumLength ?? 1024, model.configuration.maxPositionEmbeddings)
    let answerLength = options.answerLength ?? 64
    guard answerLength < maximumLength else {
      throw bad(.badSetting("answer_len", "is \(answerLength), expected less than max_len, \(maximumLength)"))
    }
    let limit = maximumLength - answerLength
    textLimit = limit
    let tokenizer = try model.tokenizer()
    self.tokenizer = tokenizer
    func special(_ token: String) throws -> Int {
      guard let id = tokenizer.specialTokens[token.bytes] else { throw bad(.noToken(token)) }
      return id
    }
    let (start, end) = (try special("<|im_start|>"), try special("<|im_end|>"))
    let newline = tokenizer.encode("\n")
    func cut(_ text: String) -> [Int] { Array(tokenizer.encode(text).prefix(limit)) }
    opening =
      [start] + tokenizer.encode("system") + newline + cut(options.system ?? "") + [end] + newline
      + cut("<|im_start|>user") + newline
    let answer = [end] + newline + cut("<|im_start|>assistant") + newline
    let zero = cut("0")
    closing = answer + zero + [end] + newline
    beforePlaceholder = answer.count - 1
    placeholder = answer.count + zero.count - 1
  }

  /// The ids of a pair, as the vendor's code makes them but for its padding, and which of them is scored.
  /// - Throws: ``RetrievalError/Reason/positionOutside(_:tokens:)``.
  package func encode(query: String, passage: String) throws -> (ids: [Int], position: Int) {
    let pair = try encoded(query: query, passage: passage)
    return (pair.ids, pair.position)
  }

  private func encoded(query: String, passage: String) throws -> (
    ids: [Int], position: Int, isTruncated: Bool
  ) {
    // One text, so that the newlines may become one token with what is beside them.
    let uncut = tokenizer.encode(query + "\n\n" + passage, specials: specials, addingAffixes: false)
    let text = uncut.prefix(textLimit)
    let whole = opening + text + closing
    let ids = Array(whole.prefix(maximumLength))
    let end = opening.count + text.count
    let found =
      switch position {
      case .beforePlaceholder: end + beforePlaceholder
      case .placeholder: end + placeholder
      case .lastNonPad: whole.count - 1
      case .offset(let offset): offset < 0 ? ids.count + offset : offset
      }
    guard ids.indices.contains(found) else {
      throw RetrievalError(.positionOutside(position.text, tokens: ids.count), path: model.path)
    }
    return (ids, found, text.count < uncut.count || ids.count < whole.count)
  }

  package func scores(query: String, passages: [String]) throws -> [RerankScore] {
    let encoded = try passages.map { try self.encoded(query: query, passage: $0) }
    var scores = encoded.map {
      RerankScore(raw: 0, tokenCount: $0.ids.count, isTruncated: $0.isTruncated)
    }
    pairs.forEachLastState(encoded.map { Array($0.ids[...$0.position]) }, normalized: finalNorm) {
      index, state in
      // States before the norm have channels a thousand times larger than others, whose products nearly cancel.
      var sum = Double(bias)
      for i in 0..<weight.count { sum += Double(state[i]) * Double(weight[i]) }
      scores[index] = RerankScore(
        raw: Float(sum), tokenCount: encoded[index].ids.count, isTruncated: encoded[index].isTruncated)
    }
    return scores
  }
}
