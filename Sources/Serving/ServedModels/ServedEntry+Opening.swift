import Architecture
import Generation
import JSON
import Models
import Retrieval
import Tensors
import Tokenization
import Transformer

extension ModelTask {
  /// What a model was made for, as far as its files say: a decoder generates, an encoder embeds, and an encoder with a classifier or a
  /// model with `reranker.json` reranks.
  package init(of opened: OpenedModel) throws {
    if let encoder = opened.configuration.encoder {
      self = encoder.labelCount == nil ? .embed : .rerank
    } else {
      self = try opened.files.bytes(named: RerankerOptions.fileName) == nil ? .generate : .rerank
    }
  }
}

/// Memory of a model that embeds or reranks, beside its weights.
package enum RetrievalMemory {
  /// Bytes of the largest batch.
  /// - Parameter batchTokens: tokens that are computed together; one text may have more.
  package static func workBytes(_ opened: OpenedModel, batchTokens: Int) -> Int {
    let c = opened.configuration
    let rows = max(batchTokens, min(c.maxPositionEmbeddings, longest))
    // Hidden state and its norm, queries, keys, values, attention, and the intermediate activations with their rounded copy.
    let row = 4 * (6 * c.hiddenSize + 2 * c.intermediateSize) + c.hiddenSize + c.intermediateSize
    var bytes = rows * row + (32 << 20)
    if c.encoder == nil {
      bytes += rows * MemoryPlan.bytesPerToken(opened.decoderConfiguration, type: .f32)
    } else if opened.kind != .packed {
      // Float matrices of a folder are brought into the kernels' order in memory.
      bytes += opened.store.residentBytes
    }
    return bytes
  }

  /// Longer texts than this are rare, whatever the model could take.
  private static let longest = 8192
}

extension ServedEmbedder {
  /// Makes an opened encoder ready to answer.
  /// - Returns: the model, and what whoever starts the server must know of it.
  package static func start(
    _ opened: OpenedModel, name: String, arithmetic: Int4Arithmetic, limits: BatchLimits
  ) throws -> (model: ServedEmbedder, notes: [String]) {
    let embedder = try TextEmbedder(opened, arithmetic: arithmetic)
    return (
      ServedEmbedder(
        name: name, backend: embedder, limits: limits, configuration: opened.configuration.json),
      embedder.remarks
    )
  }

  /// The model in a line of text.
  package var summary: String {
    "vectors of \(backend.dimensions) components (\(backend.settings.pooling.rawValue)), texts of up to "
      + "\(maximumLength) tokens, batches of \(engine.limits.batchTokens)"
  }
}

extension ServedReranker {
  /// Makes an opened reranker ready to answer.
  /// - Parameters:
  ///   - settings: of a decoder; they win over its `reranker.json`.
  ///   - specials: whether names of special tokens in texts are tokens.
  /// - Returns: the model, and what whoever starts the server must know of it.
  package static func start(
    _ opened: OpenedModel, name: String, settings: RerankerOptions?, specials: SpecialTokens,
    arithmetic: Int4Arithmetic, limits: BatchLimits
  ) throws -> (model: ServedReranker, notes: [String]) {
    var options = opened.configuration.encoder == nil ? settings ?? RerankerOptions() : RerankerOptions()
    options.arithmetic = arithmetic
    options.specials = specials
    let reranker = try RerankerLoader.open(opened, options: options)
    let encoder = reranker as? CrossEncoder
    let backend: any RerankingBackend =
      if let encoder { CrossEncoderBackend(encoder: encoder, specials: specials) } else {
        RerankerBackend(reranker: reranker)
      }
    return (
      ServedReranker(
        name: name, backend: backend, tokenizer: try encoder?.tokenizer ?? opened.tokenizer(), limits: limits,
        configuration: opened.configuration.json),
      reranker.remarks
    )
  }

  /// The model in a line of text.
  package var summary: String {
    "scores of pairs of up to \(backend.maximumLength) tokens, batches of \(engine.limits.batchTokens)"
  }
}
