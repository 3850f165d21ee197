import Compute
import Files
import Retrieval
import Serving
import Synchronization
import TestSupport
import Tokenization

/// Bytes as tokens, with 256 before and 257 after a text.
struct PairByteTokenizer: PairTokenizer {
  private let bytes = ByteTokenizer()
  var tokenCount: Int { bytes.tokenCount }
  var specialTokens: [ByteText: Int] { bytes.specialTokens }

  func encode(_ text: String, specials: SpecialTokens, addingAffixes: Bool) -> [Int] {
    let ids = bytes.encode(text, specials: specials, addingAffixes: false)
    return addingAffixes ? [256] + ids + [257] : ids
  }
  func decode(_ ids: [Int], skippingSpecials: Bool) throws -> String {
    try bytes.decode(ids, skippingSpecials: skippingSpecials)
  }
  func bytes(of id: Int, skippingSpecials: Bool) throws -> [UInt8]? {
    try bytes.bytes(of: id, skippingSpecials: skippingSpecials)
  }

  func addedTokenCount(isPair: Bool) -> Int { isPair ? 3 : 2 }

  func encode(
    _ text: String, pair: String?, maximumLength: Int?, truncation: Truncation, side: TruncationSide,
    specials: SpecialTokens
  ) throws -> EncodedText {
    let ids = encode(text, specials: specials, addingAffixes: false)
    let room = (maximumLength ?? .max) - 2
    let kept = side == .right ? ids.prefix(room) : ids.suffix(room)
    return EncodedText(
      ids: [256] + kept + [257], typeIDs: Array(repeating: 0, count: kept.count + 2),
      isTruncated: kept.count < ids.count)
  }
}

/// An embedding model whose vector of a text is its length, its first and its last token and 1.
final class StandInEmbedder: EmbeddingBackend {
  let settings: EmbeddingSettings
  let tokenizer: any PairTokenizer = PairByteTokenizer()
  let dimensions: Int
  /// Numbers of texts that were computed together, in order.
  let batches = Mutex<[Int]>([])

  /// - Parameter dimensions: components beyond the fourth are 0.
  init(maximumLength: Int = 16, dimensions: Int = 4, matryoshka: [Int]? = nil) {
    self.dimensions = dimensions
    var settings = EmbeddingSettings()
    settings.maximumLength = maximumLength
    settings.prompts = ["query": "Q:"]
    settings.matryoshkaSizes = matryoshka
    self.settings = settings
  }

  func encode(
    _ text: String, pair: String?, prompt: String?, truncates: Bool, side: TruncationSide,
    specials: SpecialTokens, maximumLength: Int?
  ) throws -> EncodedText {
    let limit = maximumLength ?? settings.maximumLength
    let encoded = try tokenizer.encode(
      (prompt ?? "") + text, pair: pair, maximumLength: limit, truncation: .longestFirst, side: side,
      specials: specials)
    guard truncates || !encoded.isTruncated else {
      throw RetrievalError(.tooLong(tokens: limit + 1, limit: limit), path: "stand-in")
    }
    return encoded
  }

  func vectors(_ texts: [EncodedText], normalizes: Bool?, size: Int?) throws -> AlignedBuffer<Float> {
    batches.withLock { $0.append(texts.count) }
    let width = size ?? dimensions
    let result = AlignedBuffer<Float>(count: texts.count * width)
    for (row, text) in texts.enumerated() {
      let whole = [Float(text.ids.count), Float(text.ids.first ?? 0), Float(text.ids.last ?? 0), 1]
      let kept = (whole + Array(repeating: 0, count: dimensions - 4)).prefix(width)
      let length = normalizes ?? true ? kept.reduce(0) { $0 + $1 * $1 }.squareRoot() : 1
      for (column, value) in kept.enumerated() { result[row * width + column] = value / length }
    }
    return result
  }
}

/// A reranker whose score is how many bytes of the passage are in the query.
struct StandInReranker: RerankingBackend {
  let maximumLength = 100

  func scores(_ pairs: [RerankingItem]) throws -> [RerankScore] {
    pairs.map { pair in
      let known = Set(pair.query.utf8)
      let count = Float(pair.passage.utf8.count { known.contains($0) })
      let length = pair.query.utf8.count + pair.passage.utf8.count + 3
      return RerankScore(
        raw: count, relevance: count / (1 + count), tokenCount: min(maximumLength, length),
        isTruncated: length > maximumLength)
    }
  }
}

enum StandIn {
  static func embedder(
    _ backend: StandInEmbedder = StandInEmbedder(), name: String = "embedder", batchTokens: Int = 64,
    queue: Int = 8
  ) -> ServedEmbedder {
    ServedEmbedder(name: name, backend: backend, limits: BatchLimits(batchTokens: batchTokens, queue: queue))
  }

  static func reranker(name: String = "reranker") -> ServedReranker {
    ServedReranker(
      name: name, backend: StandInReranker(), tokenizer: PairByteTokenizer(),
      limits: BatchLimits(batchTokens: 64, queue: 8))
  }
}
