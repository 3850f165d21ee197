import Compute
import Files
import Models
import Tensors
import Tokenization
import Transformer

/// Makes vectors of texts with an encoder, as sentence-transformers does.
package final class TextEmbedder: Sendable {
  package let model: OpenedModel
  package let settings: EmbeddingSettings
  package let tokenizer: any PairTokenizer
  private let encoder: Encoder
  private let dense: [DenseLayer]
  private let pool: WorkerPool

  /// - Throws: when the model is no encoder, or its folder asks for something that is not built.
  package init(_ model: OpenedModel, arithmetic: Int4Arithmetic = .exact, pool: WorkerPool = .shared) throws {
    self.model = model
    self.pool = pool
    settings = try EmbeddingSettings(model)
    tokenizer = try model.pairTokenizer()
    encoder = try model.encoder(arithmetic: arithmetic, pool: pool)
    var width = encoder.configuration.hiddenSize
    for layer in settings.dense {
      guard layer.inFeatures == width else {
        throw RetrievalError(
          .wrongModel(
            found: "a model whose module \(layer.folder) takes \(layer.inFeatures) components",
            needed: "one that takes \(width)"), path: model.path)
      }
      width = layer.outFeatures
    }
    dense = try settings.dense.map { try DenseLayer($0, model.files) }
  }

  /// Components of a vector.
  package var dimensions: Int { dense.last?.linear.outFeatures ?? encoder.configuration.hiddenSize }

  /// What a person should know of how vectors are made, as sentences for warnings; empty when there is nothing.
  package var remarks: [String] {
    guard settings.isAssumed else { return [] }
    return [
      "\(model.path): has no modules.json; vectors are those of the first token, normalized, of texts up to "
        + "\(settings.maximumLength) tokens, and queries get 360Zhinao-search's instruction before them"
    ]
  }

  // MARK: Ids

  /// - Parameters:
  ///   - prompt: put before the text as it is; nil: none.
  ///   - truncates: false: a text that is too long is an error.
  ///   - maximumLength: less than the model's; nil: the model's.
  /// - Throws: ``RetrievalError`` for a text that is too long and must not be cut.
  package func encode(
    _ text: String, pair: String? = nil, prompt: String? = nil, truncates: Bool = true,
    side: TruncationSide = .right, specials: SpecialTokens = .recognized, maximumLength: Int? = nil
  ) throws -> EncodedText {
    let limit = min(maximumLength ?? settings.maximumLength, settings.maximumLength)
    func prepared(_ text: String) -> String { settings.lowercases ? text.lowercased() : text }
    func encode(_ text: String, _ pair: String?, limit: Int?) throws -> EncodedText {
      try tokenizer.encode(
        text, pair: pair, maximumLength: limit, truncation: .longestFirst, side: side, specials: specials)
    }
    let whole = prompt.map { $0 + text } ?? text
    var encoded = try encode(prepared(whole), pair.map(prepared), limit: limit)
    if encoded.isTruncated, !truncates {
      let count = try encode(prepared(whole), pair.map(prepared), limit: nil).ids.count
      throw RetrievalError(.tooLong(tokens: count, limit: limit), path: model.path)
    }
    if let prompt, !prompt.isEmpty, !settings.includesPrompt {
      // As sentence-transformers counts: the prompt with [CLS] before it.
      encoded.promptLength = min(
        encoded.ids.count, try encode(prepared(prompt), nil, limit: nil).ids.count - 1)
    }
    return encoded
  }

  /// The prompt of that name.
  /// - Throws: ``RetrievalError`` when the model has none.
  package func prompt(named name: String) throws -> String {
    guard let prompt = settings.prompts[name] else {
      throw RetrievalError(.noPrompt(name, known: settings.prompts.keys.sorted()), path: model.path)
    }
    return prompt
  }

  // MARK: Vectors

  /// Tokens that run through the layers together; more would only take memory.
  private static let batchTokens = 8192

  /// The texts' vectors, `[texts.count, dimensions]`, or `[texts.count, size]`. A text's vector does not depend on the others.
  /// - Parameters:
  ///   - normalizes: nil: as the model's folder says.
  ///   - size: keeps the first components only, before vectors are normalized; nil: all.
  /// - Throws: ``RetrievalError`` for ids outside the vocabulary or more of them than the model has positions.
  package func vectors(_ texts: [EncodedText], normalizes: Bool? = nil, size: Int? = nil) throws
    -> AlignedBuffer<Float>
  {
    let width = dimensions
    let kept = size ?? width
    guard kept >= 1, kept <= width else {
      throw RetrievalError(.size(kept, limit: width), path: model.path)
    }
    try texts.check(encoder, path: model.path)
    let result = AlignedBuffer<Float>(count: texts.count * kept)
    texts.eachBatch(of: Self.batchTokens) { batch in
      let vectors = self.vectors(Array(texts[batch]))
      for (index, text) in batch.enumerated() {
        let line = result.pointer + text * kept
        line.update(from: vectors.pointer + index * width, count: kept)
        if normalizes ?? settings.normalizes { normalize(line, count: kept) }
      }
    }
    return result
  }

  private func vectors(_ texts: [EncodedText]) -> AlignedBuffer<Float> {
    let (states, batch) = encoder.hiddenStates(texts.map { ($0.ids, $0.typeIDs) })
    var x =
      switch settings.pooling {
      case .cls: encoder.firstStates(states, batch)
      case .mean: encoder.means(states, batch, skipping: texts.map(\.promptLength))
      }
    for layer in dense { x = layer.apply(x, rows: texts.count, pool: pool) }
    return x
  }

  /// x / max(‖x‖₂, 1e-12)
  private func normalize(_ x: UnsafeMutablePointer<Float>, count: Int) {
    let length = pool.kernels.dot(x, x, count: count).squareRoot()
    pool.kernels.scale(x, by: 1 / max(length, 1e-12), count: count)
  }
}

extension OpenedModel {
  /// The tokenizer of an encoder.
  /// - Throws: when the model has one that makes no pairs.
  package func pairTokenizer() throws -> any PairTokenizer {
    guard let tokenizer = try tokenizer() as? any PairTokenizer else {
      throw RetrievalError(
        .wrongModel(
          found: "an encoder with a tokenizer that is not WordPiece", needed: "a WordPiece tokenizer"),
        path: path)
    }
    return tokenizer
  }
}

extension [EncodedText] {
  /// - Throws: ``RetrievalError`` for a text that the encoder has no embeddings for.
  func check(_ encoder: Encoder, path: String) throws {
    let c = encoder.configuration
    for text in self {
      guard !text.ids.isEmpty else { throw RetrievalError(.noTokens, path: path) }
      guard text.ids.count <= c.positionCount else {
        throw RetrievalError(.tooLong(tokens: text.ids.count, limit: c.positionCount), path: path)
      }
      if let id = text.ids.first(where: { $0 < 0 || $0 >= c.vocabularySize }) {
        throw RetrievalError(.invalidToken(id, vocabulary: c.vocabularySize), path: path)
      }
      guard text.typeIDs.allSatisfy({ (0..<c.textTypeCount).contains($0) }) else {
        throw RetrievalError(
          .wrongModel(
            found: "an encoder without a kind for the second text", needed: "one with two kinds of text"),
          path: path)
      }
    }
  }

  /// Calls `body` with consecutive texts of about so many ids in all, at least one.
  func eachBatch(of tokens: Int, _ body: (Range<Int>) throws -> Void) rethrows {
    var (first, sum) = (0, 0)
    for index in indices {
      if index > first, sum + self[index].ids.count > tokens {
        try body(first..<index)
        (first, sum) = (index, 0)
      }
      sum += self[index].ids.count
    }
    if first < count { try body(first..<count) }
  }
}
