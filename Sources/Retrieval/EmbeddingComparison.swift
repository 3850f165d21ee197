import Compute
import Distribution
import Files
import Foundation
import JSON
import Tokenization

/// What other weights make of the vectors of some texts.
package struct EmbeddingComparison: Equatable, Sendable {
  package var texts: Int
  package var tokens: Int
  /// Of a text's two vectors.
  package var meanCosine: Double
  /// One text in a hundred has a cosine of at most this.
  package var lowCosine: Double
  package var leastCosine: Double
  /// The share of the ten texts nearest to a text that are also among the ten nearest to it with the other weights; the mean over
  /// all texts. Nil: there are fewer than 12 texts.
  package var neighbourAgreement: Double?

  /// - Parameters:
  ///   - texts: at least one; both models must have the same tokenizer.
  ///   - communicator: the ranks that share the texts. The result is the same on all, whatever their number.
  package static func measure(
    reference: TextEmbedder, candidate: TextEmbedder, texts: [EncodedText],
    communicator: any Communicator = SingleProcess(), pool: WorkerPool = .shared,
    progress: (_ texts: Int) -> Void = { _ in }
  ) throws -> EmbeddingComparison {
    let width = reference.dimensions
    guard candidate.dimensions == width else {
      throw RetrievalError(.size(candidate.dimensions, limit: width), path: candidate.model.path)
    }
    let (a, b) = (
      AlignedBuffer<Float>(count: texts.count * width), AlignedBuffer<Float>(count: texts.count * width)
    )
    let step = 64
    func items(_ number: Int) -> Range<Int> { number * step..<min((number + 1) * step, texts.count) }
    try communicator.inOrder(items: (texts.count + step - 1) / step) { number in
      let some = Array(texts[items(number)])
      return try [reference, candidate].flatMap { model in
        let vectors = try model.vectors(some, normalizes: true)
        return withExtendedLifetime(vectors) { vectors.array }
      }
    } then: { (number: Int, vectors: [Float]) in
      let (start, count) = (items(number).lowerBound * width, items(number).count * width)
      for place in 0..<count {
        a[start + place] = vectors[place]
        b[start + place] = vectors[count + place]
      }
      progress(items(number).upperBound)
    }
    let kernels = pool.kernels
    let cosines = texts.indices.map {
      Double(kernels.dot(a.pointer + $0 * width, b.pointer + $0 * width, count: width))
    }.sorted()
    return EmbeddingComparison(
      texts: texts.count, tokens: texts.reduce(0) { $0 + $1.ids.count },
      meanCosine: cosines.reduce(0, +) / Double(max(1, cosines.count)),
      lowCosine: cosines[min(cosines.count - 1, cosines.count / 100)], leastCosine: cosines[0],
      neighbourAgreement: agreement(a, b, count: texts.count, width: width, pool: pool))
  }

  private static let neighbours = 10

  private static func agreement(
    _ a: AlignedBuffer<Float>, _ b: AlignedBuffer<Float>, count: Int, width: Int, pool: WorkerPool
  ) -> Double? {
    guard count >= neighbours + 2 else { return nil }
    let shared = AlignedBuffer<Double>(count: count)
    pool.runRanges(count) { range in
      for text in range {
        func nearest(_ vectors: AlignedBuffer<Float>) -> Set<Int> {
          let scores = (0..<count).filter { $0 != text }.map {
            (
              score: pool.kernels.dot(
                vectors.pointer + text * width, vectors.pointer + $0 * width, count: width),
              text: $0
            )
          }
          // Equal scores go by the order of the texts, so that both sides cut alike.
          let order = scores.sorted { ($1.score, $0.text) < ($0.score, $1.text) }
          return Set(order.prefix(neighbours).map(\.text))
        }
        shared[text] = Double(nearest(a).intersection(nearest(b)).count) / Double(neighbours)
      }
    }
    return shared.buffer.reduce(0, +) / Double(count)
  }

  package var json: JSONValue {
    [
      "texts": .init(texts), "tokens": .init(tokens), "mean_cosine": .init(meanCosine),
      "cosine_1st_percentile": .init(lowCosine), "least_cosine": .init(leastCosine),
      "top_10_agreement": neighbourAgreement.map { .init($0) } ?? .null,
    ]
  }
}

/// What other weights make of the scores of some pairs.
package struct ScoreComparison: Equatable, Sendable {
  package var pairs: Int
  package var tokens: Int
  /// Of raw scores.
  package var meanError: Double
  package var largestError: Double
  /// Of relevances.
  package var meanRelevanceError: Double
  /// The share of pairs of pairs that both put in the same order; nil: there is only one.
  package var orderAgreement: Double?

  package static func measure(_ reference: [RerankScore], _ candidate: [RerankScore]) -> ScoreComparison {
    precondition(reference.count == candidate.count && !reference.isEmpty)
    let errors = zip(reference, candidate).map { abs(Double($0.raw) - Double($1.raw)) }
    let relevance = zip(reference, candidate).map { abs(Double($0.relevance) - Double($1.relevance)) }
    let count = reference.count
    var (same, different) = (0, 0)
    for i in 0..<count {
      for j in 0..<i where reference[i].raw != reference[j].raw {
        if (reference[i].raw < reference[j].raw) == (candidate[i].raw < candidate[j].raw) {
          same += 1
        } else {
          different += 1
        }
      }
    }
    return ScoreComparison(
      pairs: count, tokens: reference.reduce(0) { $0 + $1.tokenCount },
      meanError: errors.reduce(0, +) / Double(count), largestError: errors.max() ?? 0,
      meanRelevanceError: relevance.reduce(0, +) / Double(count),
      orderAgreement: same + different == 0 ? nil : Double(same) / Double(same + different))
  }

  package var json: JSONValue {
    [
      "pairs": .init(pairs), "tokens": .init(tokens), "mean_score_error": .init(meanError),
      "largest_score_error": .init(largestError), "mean_relevance_error": .init(meanRelevanceError),
      "order_agreement": orderAgreement.map { .init($0) } ?? .null,
    ]
  }
}

/// Texts and pairs of a file: a text on each line, or a JSON object with `text` and perhaps `pair`, or `query` and `passage`.
package struct TextPairs: Sendable {
  package var texts: [(text: String, pair: String?)] = []

  /// - Parameter most: later lines are not read.
  /// - Throws: ``FileError`` that names the line that is not what it should be.
  package init(ofFile path: String, most: Int = .max) throws {
    let bytes = try TextFile.bytes(ofFile: path)
    var isJSON: Bool?
    for (index, slice) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .enumerated()
    {
      guard texts.count < most else { break }
      let line = slice.last == UInt8(ascii: "\r") ? slice.dropLast() : slice
      if line.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }) { continue }
      func bad(_ detail: String) -> FileError {
        FileError(.badContent, path: path, detail: "line \(index + 1) \(detail)")
      }
      if isJSON == nil { isJSON = (try? JSONValue.parse(Array(line)))?.objectValue != nil }
      guard isJSON == true else {
        guard let text = String(validating: line, as: UTF8.self) else { throw bad("is not UTF-8 text") }
        texts.append((text, nil))
        continue
      }
      guard let object = (try? JSONValue.parse(Array(line)))?.objectValue else {
        throw bad("is not a JSON object")
      }
      if let text = object["text"]?.stringValue {
        texts.append((text, object["pair"]?.stringValue))
      } else if let query = object["query"]?.stringValue, let passage = object["passage"]?.stringValue {
        texts.append((query, passage))
      } else {
        throw bad("has neither text nor query and passage")
      }
    }
    guard !texts.isEmpty else { throw FileError(.badContent, path: path, detail: "has no texts") }
  }
}
