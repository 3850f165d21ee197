import Compute
import Foundation
import Transformer

/// Runs a decoder over the pairs of one query, for the state of each pair's last token.
///
/// Pairs are not padded. What all of them begin with (the instructions, and most often the query) is computed once. A pair's state
/// is the same bits whatever the other pairs are.
struct DecoderPairs: Sendable {
  let decoder: Decoder

  /// Tokens of one forward pass, which bound its memory; a longer pair is a pass of its own.
  private static let tokensAtOnce = 2048
  /// A prefix is computed apart when that saves more tokens than this: a pass of its own reads all weights.
  private static let leastSaved = 128

  /// Calls `body` with each pair's index and the state of its last token after the last block, `[hiddenSize]`.
  /// - Parameters:
  ///   - pairs: ids of each, at least one, in `0 ..< vocabularySize`.
  ///   - normalized: whether the decoder's final norm is applied.
  func forEachLastState(
    _ pairs: [[Int]], normalized: Bool, _ body: (Int, UnsafePointer<Float>) throws -> Void
  ) rethrows {
    let width = decoder.configuration.hiddenSize
    var shared = DecoderPairs.commonPrefix(pairs)
    if shared * (pairs.count - 1) < DecoderPairs.leastSaved { shared = 0 }
    var prefix: KVCache?
    if shared > 0 {
      let cache = decoder.makeCache(capacity: shared)
      for first in stride(from: 0, to: shared, by: DecoderPairs.tokensAtOnce) {
        let some = Array(pairs[0][first..<min(first + DecoderPairs.tokensAtOnce, shared)])
        _ = decoder.hiddenStates(some, cache: cache)
      }
      prefix = cache
    }
    let state = AlignedBuffer<Float>(count: width)
    var next = 0
    while next < pairs.count {
      let first = next
      var rows = 0
      while next < pairs.count,
        next == first || rows + pairs[next].count - shared <= DecoderPairs.tokensAtOnce
      {
        rows += pairs[next].count - shared
        next += 1
      }
      let states = decoder.residualStates(pairs[first..<next].map { Array($0[shared...]) }, after: prefix)
      var row = -1
      for index in first..<next {
        row += pairs[index].count - shared
        let last = states.pointer + row * width
        if normalized {
          decoder.steps.normalize(last, weight: decoder.finalNorm, rows: 1, into: state.pointer)
          try body(index, state.pointer)
        } else {
          try body(index, last)
        }
      }
    }
  }

  /// How many ids all pairs begin with, leaving each at least one of its own.
  static func commonPrefix(_ pairs: [[Int]]) -> Int {
    guard let first = pairs.first, pairs.count > 1 else { return 0 }
    var length = first.count - 1
    for pair in pairs.dropFirst() {
      length = min(length, pair.count - 1)
      var same = 0
      while same < length, pair[same] == first[same] { same += 1 }
      length = same
    }
    return max(0, length)
  }
}

extension RerankScore {
  /// A score whose relevance is the sigmoid of its raw value.
  init(raw: Float, tokenCount: Int, isTruncated: Bool) {
    self.init(
      raw: raw, relevance: RerankScore.sigmoid(raw), tokenCount: tokenCount, isTruncated: isTruncated)
  }

  /// 1 / (1 + e⁻ˣ), rounded once.
  package static func sigmoid(_ x: Float) -> Float { Float(1 / (1 + exp(-Double(x)))) }
}
