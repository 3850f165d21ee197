import Compute
import Distribution

/// Makes vectors on all ranks, each of which takes some of the texts. Rank 0 asks, the others serve until it has finished.
package struct RankedEmbedder: PassageEmbedder {
  private let run: EmbeddingRun
  private let communicator: any Communicator

  package init(_ run: EmbeddingRun, _ communicator: any Communicator) {
    (self.run, self.communicator) = (run, communicator)
  }

  package var dimensions: Int { run.dimensions }

  /// On rank 0.
  package func vectors(of texts: [String]) throws -> EmbeddedTexts {
    try vectors(of: texts.map { ($0, nil) })
  }

  /// On rank 0.
  package func vectors(of texts: [(text: String, pair: String?)]) throws -> EmbeddedTexts {
    guard !communicator.isAlone else { return try run.vectors(of: texts) }
    var lengths: [Int] = []
    var bytes: [UInt8] = []
    for (text, pair) in texts {
      // −1: there is no second text.
      lengths += [text.utf8.count, pair.map { $0.utf8.count } ?? -1]
      bytes += Array(text.utf8) + Array((pair ?? "").utf8)
    }
    _ = try communicator.broadcast([1])
    return try vectors(lengths: communicator.broadcast(lengths), bytes: communicator.broadcast(bytes))
  }

  /// Ends ``serve()`` on the other ranks. On rank 0, when nothing more will be asked.
  package func finish() throws { if !communicator.isAlone { _ = try communicator.broadcast([0]) } }

  /// Makes vectors for rank 0 until it has finished. On other ranks.
  package func serve() throws {
    while try communicator.broadcast(nil as [Int]?) == [1] {
      _ = try vectors(
        lengths: communicator.broadcast(nil as [Int]?), bytes: communicator.broadcast(nil as [UInt8]?))
    }
  }

  /// Vectors of all texts, on all ranks.
  private func vectors(lengths: [Int], bytes: [UInt8]) throws -> EmbeddedTexts {
    let count = lengths.count / 2
    var texts: [(text: String, pair: String?)] = []
    var start = 0
    func take(_ length: Int) -> String {
      defer { start += length }
      return String(decoding: bytes[start..<start + length], as: UTF8.self)
    }
    for place in 0..<count {
      let text = take(lengths[2 * place])
      texts.append((text, lengths[2 * place + 1] < 0 ? nil : take(lengths[2 * place + 1])))
    }
    let share = communicator.share(of: count)
    let own = share.isEmpty ? nil : try run.vectors(of: Array(texts[share]))
    let counts = try communicator.gather([own?.tokenCount ?? 0, own?.truncatedCount ?? 0])
    let vectors = try communicator.gather(
      own.map { own in
        withExtendedLifetime(own) { Array(own.vectors.buffer.prefix(share.count * dimensions)) }
      } ?? [])
    return EmbeddedTexts(
      vectors: AlignedBuffer(vectors.flatMap { $0 }), tokenCount: counts.reduce(0) { $0 + $1[0] },
      truncatedCount: counts.reduce(0) { $0 + $1[1] })
  }
}
