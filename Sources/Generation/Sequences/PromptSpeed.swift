import Architecture
import Compute
import Transformer

/// How fast a decoder reads prompts on this machine: a part that is the same for every token, and one that grows with the tokens
/// before it.
package struct PromptSpeed: Equatable, Sendable {
  /// Seconds for a token without the attention to earlier passes.
  package let secondsPerToken: Double
  /// Seconds for a token and each of the tokens before it.
  package let secondsPerPair: Double

  package init(secondsPerToken: Double, secondsPerPair: Double) {
    (self.secondsPerToken, self.secondsPerPair) = (secondsPerToken, secondsPerPair)
  }

  /// Seconds to read the tokens at `positions`: the integral of what each one takes.
  package func seconds(_ positions: Range<Int>) -> Double {
    let (first, last) = (Double(positions.lowerBound), Double(positions.upperBound))
    return secondsPerToken * (last - first) + secondsPerPair * (last * last - first * first) / 2
  }

  /// Runs one layer with the first tokens of a prompt, at the start of a context and far inside one whose keys and values are
  /// zeros: the work of 3 to 5 layers of a pass, and the memory of one layer's cache.
  /// - Parameters:
  ///   - tokens: of a prompt of two passes at least.
  ///   - passTokens: tokens that run through the layers together.
  package static func measured(
    _ decoder: Decoder, tokens: [Int], passTokens: Int = ForwardPass.promptTokens, type: KVCacheType
  ) -> PromptSpeed {
    let rows = min(passTokens, tokens.count)
    let far = min(max(tokens.count / 2, rows), farthest)
    let cache = KVCache(
      configuration: decoder.configuration, capacity: far + rows, type: type, retaining: false)
    let embedded = decoder.embed(Array(tokens[..<rows]))
    let x = AlignedBuffer<Float>(count: embedded.count)
    let work = LayerBuffers(decoder.configuration, rows: rows)
    func seconds(layer: Int, at position: Int) -> Double {
      x.pointer.update(from: embedded.pointer, count: embedded.count)
      let slice = SequenceSlice(firstRow: 0, rowCount: rows, firstPosition: position, cache: cache)
      let start = ContinuousClock.now
      decoder.run(decoder.layers[layer], index: layer, x: x, sequences: [slice], work: work)
      return (ContinuousClock.now - start).seconds
    }
    // Pages that were never written are all the same page, and read faster than keys.
    cache.clear()
    let layer = decoder.layers.count / 2
    // The first run waits for the weights' pages.
    _ = seconds(layer: layer, at: 0)
    // In turns, so that what else the machine does disturbs both alike.
    var (near, distant) = (Double.infinity, Double.infinity)
    for _ in 0..<(tokens.count < 4 * leastTokens ? 1 : 2) {
      near = min(near, seconds(layer: layer, at: 0))
      distant = min(distant, seconds(layer: layer, at: far))
    }
    let scale = Double(decoder.layers.count) / Double(rows)
    let perPair = max(0, distant - near) * scale / Double(far)
    // The near run attends within the pass, to half of its tokens on average. That is less than half of its work, unless the
    // distant run was disturbed.
    return PromptSpeed(
      secondsPerToken: near * scale - min(near * scale, perPair * Double(rows)) / 2, secondsPerPair: perPair)
  }

  /// The cache of one layer for so many tokens is small, and what they take can be told from what a few take.
  private static let farthest = 8192

  /// From so many seconds on people are told beforehand.
  package static let longSeconds = 10.0

  /// Prompts of fewer tokens are not worth measuring.
  package static let leastTokens = 2 * ForwardPass.promptTokens
}
