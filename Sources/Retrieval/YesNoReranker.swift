import Compute
import Files
import Models
import Tokenization
import Transformer

/// A decoder that is asked whether a passage answers a query, and scored by the logits of yes and no.
package final class YesNoReranker: Reranker {
  package let model: OpenedModel
  package let maximumLength: Int
  package let remarks: [String]
  private let tokenizer: any Tokenizer
  private let pairs: DecoderPairs
  private let prompt: YesNoPrompt
  private let instruction: String
  private let score: RerankerOptions.Score
  private let specials: SpecialTokens
  /// Rows of the head: `[hiddenSize]` each, and what is added to their logits.
  private let yes: (row: AlignedBuffer<Float>, bias: Float)
  private let no: (row: AlignedBuffer<Float>, bias: Float)

  /// - Throws: ``RetrievalError`` when the prompt is incomplete or leaves no room for pairs.
  package init(_ model: OpenedModel, _ options: RerankerOptions, pool: WorkerPool = .shared) throws {
    func bad(_ reason: RetrievalError.Reason) -> RetrievalError { RetrievalError(reason, path: model.path) }
    let tokenizer = try model.tokenizer()
    let decoder = try model.decoder(arithmetic: options.arithmetic, pool: pool)
    self.model = model
    self.tokenizer = tokenizer
    pairs = DecoderPairs(decoder: decoder)
    specials = options.specials
    let template = options.template ?? .qwen3Reranker
    if options.template == nil, options.body == nil || options.prefix == nil || options.suffix == nil {
      throw bad(
        .badSetting(
          "template",
          "is not stated; choose qwen3-reranker or flag-llm, or give prefix, body and suffix"))
    }
    let defaultLength = template == .flagLLM ? 512 : 8192
    let stated = options.maximumLength ?? defaultLength
    instruction =
      options.instruction
      ?? (template == .flagLLM ? YesNoPrompt.flagInstruction : YesNoPrompt.qwenInstruction)
    score = options.score ?? (template == .flagLLM ? .logit : .softmax)
    let context = model.configuration.maxPositionEmbeddings
    if template == .flagLLM, options.prefix == nil, options.body == nil, options.suffix == nil {
      prompt = try YesNoPrompt(
        flag: instruction, tokenizer, limit: stated, context: context, path: model.path)
    } else {
      prompt = try YesNoPrompt(
        prefix: options.prefix ?? YesNoPrompt.qwenPrefix, body: options.body ?? YesNoPrompt.qwenBody,
        suffix: options.suffix ?? YesNoPrompt.qwenSuffix, tokenizer, limit: min(stated, context),
        path: model.path)
    }
    maximumLength = prompt.maximumLength

    var remarks: [String] = []
    func row(_ text: String, _ name: String) throws -> (AlignedBuffer<Float>, Float) {
      let ids = tokenizer.encode(text)
      guard let id = ids.first, id < decoder.head.outFeatures else {
        throw bad(.badSetting(name, "is \"\(text)\", which is no token of the model"))
      }
      if ids.count > 1 {
        remarks.append(
          "\"\(text)\" is \(ids.count) tokens for this model; the logit of the first one, \(id), is used")
      }
      let row = AlignedBuffer<Float>(count: decoder.configuration.hiddenSize)
      decoder.head.weight.copyRow(id, into: row.pointer, kernels: pool.kernels)
      return (row, decoder.head.bias?[id] ?? 0)
    }
    yes = try row(options.yes ?? (template == .flagLLM ? "Yes" : "yes"), "yes")
    no = try row(options.no ?? (template == .flagLLM ? "No" : "no"), "no")
    if score == .logit { remarks.removeAll { $0.hasPrefix("\"\(options.no ?? "No")\"") } }
    self.remarks = remarks
  }

  /// The ids of a pair, cut to the prompt's limits.
  package func encode(query: String, passage: String) -> [Int] {
    encoded(query: query, passage: passage).ids
  }

  private func encoded(query: String, passage: String) -> (ids: [Int], isTruncated: Bool) {
    prompt.encoded(query: query, passage: passage, instruction: instruction, tokenizer, specials)
  }

  package func scores(query: String, passages: [String]) throws -> [RerankScore] {
    let encoded = passages.map { self.encoded(query: query, passage: $0) }
    var scores = encoded.map {
      RerankScore(raw: 0, tokenCount: $0.ids.count, isTruncated: $0.isTruncated)
    }
    let decoder = pairs.decoder
    let kernels = decoder.steps.pool.kernels
    func logit(_ state: UnsafePointer<Float>, _ token: (row: AlignedBuffer<Float>, bias: Float)) -> Float {
      (kernels.dot(state, token.row.pointer, count: token.row.count) + token.bias)
        * Float(decoder.configuration.logitScale)
    }
    pairs.forEachLastState(encoded.map(\.ids), normalized: true) { index, state in
      let raw = score == .logit ? logit(state, yes) : logit(state, yes) - logit(state, no)
      scores[index] = RerankScore(
        raw: raw, tokenCount: encoded[index].ids.count, isTruncated: encoded[index].isTruncated)
    }
    return scores
  }
}

/// The prompt around a pair. Its parts are encoded one by one, as the reference implementations do.
struct YesNoPrompt: Sendable {
  // Qwen3-Reranker's model card.
  static let qwenPrefix =
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    + "Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n"
  static let qwenBody = "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"
  static let qwenSuffix = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
  static let qwenInstruction =
    "Given a web search query, retrieve relevant passages that answer the query"
  // FlagEmbedding, inference/reranker/decoder_only/base.py.
  static let flagInstruction =
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a prediction "
    + "of either 'Yes' or 'No'."

  private enum Layout: Sendable {
    /// Prefix and suffix whole, and the body cut to `bodyLimit`.
    case parts(prefix: [Int], body: [BodyPart], suffix: [Int], bodyLimit: Int)
    /// `A: query`, cut to `queryLimit`; a newline and `B: passage`, cut so that both have at most `pairLimit`; `closing`.
    case flag(
      start: [Int], newline: [Int], closing: [Int], queryLimit: Int, passageLimit: Int, pairLimit: Int)
  }
  private enum BodyPart: Sendable {
    case literal(String)
    case instruction, query, document
  }
  private let layout: Layout
  let maximumLength: Int

  /// A prompt of three parts.
  /// - Parameter body: holds `{query}` and `{document}`, and perhaps `{instruction}`.
  init(prefix: String, body: String, suffix: String, _ tokenizer: any Tokenizer, limit: Int, path: String)
    throws
  {
    let parts = YesNoPrompt.parse(body)
    for (name, isThere) in [
      ("{query}", parts.contains { if case .query = $0 { true } else { false } }),
      ("{document}", parts.contains { if case .document = $0 { true } else { false } }),
    ] where !isThere {
      throw RetrievalError(
        .badSetting("body", "has no \(name), so that scores would not depend on it"), path: path)
    }
    let (first, last) = (tokenizer.encode(prefix), tokenizer.encode(suffix))
    guard first.count + last.count < limit else {
      throw RetrievalError(.noRoomForPair(taken: first.count + last.count, limit: limit), path: path)
    }
    layout = .parts(prefix: first, body: parts, suffix: last, bodyLimit: limit - first.count - last.count)
    maximumLength = limit
  }

  /// FlagEmbedding's prompt. Its limit counts query and passage; the instruction comes on top.
  init(flag instruction: String, _ tokenizer: any Tokenizer, limit: Int, context: Int, path: String) throws {
    let newline = tokenizer.encode("\n")
    let closing = newline + tokenizer.encode(instruction)
    let start = tokenizer.affixes.prefix
    // The reference adds the closing part to the limit before it cuts the pair, and appends that part afterwards.
    let whole = min(limit + closing.count, context - closing.count)
    guard whole > start.count + newline.count else {
      throw RetrievalError(.noRoomForPair(taken: closing.count + newline.count, limit: context), path: path)
    }
    layout = .flag(
      start: start, newline: newline, closing: closing, queryLimit: min(limit * 3 / 4, whole - start.count),
      passageLimit: limit, pairLimit: whole)
    maximumLength = whole + closing.count
  }

  private static func parse(_ body: String) -> [BodyPart] {
    var parts: [BodyPart] = []
    var literal = ""
    var rest = body[...]
    while let character = rest.unicodeScalars.first {
      let names: [(String, BodyPart)] = [
        ("{instruction}", .instruction), ("{query}", .query), ("{document}", .document),
      ]
      if character == "{", let (name, part) = names.first(where: { rest.utf8.starts(with: $0.0.utf8) }) {
        if !literal.isEmpty { parts.append(.literal(literal)) }
        literal = ""
        parts.append(part)
        rest = Substring(rest.utf8.dropFirst(name.utf8.count))
      } else {
        literal.unicodeScalars.append(character)
        rest = Substring(rest.unicodeScalars.dropFirst())
      }
    }
    if !literal.isEmpty { parts.append(.literal(literal)) }
    return parts
  }

  func encode(
    query: String, passage: String, instruction: String, _ tokenizer: any Tokenizer, _ specials: SpecialTokens
  ) -> [Int] {
    encoded(query: query, passage: passage, instruction: instruction, tokenizer, specials).ids
  }

  /// The ids of a pair, and whether it had more.
  func encoded(
    query: String, passage: String, instruction: String, _ tokenizer: any Tokenizer, _ specials: SpecialTokens
  ) -> (ids: [Int], isTruncated: Bool) {
    func ids(_ text: String) -> [Int] { tokenizer.encode(text, specials: specials, addingAffixes: false) }
    switch layout {
    case .parts(let prefix, let body, let suffix, let bodyLimit):
      let text = body.reduce(into: "") { text, part in
        switch part {
        case .literal(let literal): text += literal
        case .instruction: text += instruction
        case .query: text += query
        case .document: text += passage
        }
      }
      let whole = ids(text)
      return (prefix + whole.prefix(bodyLimit) + suffix, whole.count > bodyLimit)
    case .flag(let start, let newline, let closing, let queryLimit, let passageLimit, let pairLimit):
      let (a, b) = (ids("A: " + query), ids("B: " + passage))
      let first = start + a.prefix(queryLimit)
      let second = newline + b.prefix(passageLimit)
      let room = max(0, pairLimit - first.count)
      return (
        first + second.prefix(room) + closing,
        a.count > queryLimit || b.count > passageLimit || second.count > room
      )
    }
  }
}
