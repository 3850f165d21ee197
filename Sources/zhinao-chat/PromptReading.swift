import Dialogue
import Files
import Generation
import ToolSupport
import Transformer

/// Says what a long prompt takes before it is read, and shows how far it is.
final class PromptReading {
  private let decoder: Decoder
  private let cacheType: KVCacheType
  private let weightBytes: Int
  private let passTokens: Int
  private let phrases: Phrases
  private let say: (String) -> Void
  /// Of the machine, measured with the first long prompt.
  private var speed: PromptSpeed?
  private var bar: ProgressReporter?
  private var start = 0
  private var isBegun = false

  /// - Parameters:
  ///   - weightBytes: of the model and its adapters.
  ///   - passTokens: tokens that run through the layers together.
  ///   - say: called with a sentence before a long prompt is read.
  init(
    decoder: Decoder, cacheType: KVCacheType, weightBytes: Int, passTokens: Int, phrases: Phrases,
    say: @escaping (String) -> Void
  ) {
    (self.decoder, self.cacheType, self.weightBytes) = (decoder, cacheType, weightBytes)
    (self.passTokens, self.phrases, self.say) = (passTokens, phrases, say)
  }

  /// A prompt comes.
  func reset() {
    isBegun = false
    bar = nil
  }

  /// - Parameter done: tokens of the prompt that the cache holds.
  func update(_ prompt: [Int], done: Int) {
    guard isBegun else {
      isBegun = true
      begin(prompt, held: done)
      return
    }
    guard let bar, let speed else { return }
    let share = speed.seconds(start..<done) / max(1e-9, speed.seconds(start..<prompt.count))
    bar.update(done - start, of: prompt.count - start, share: share)
  }

  private func begin(_ prompt: [Int], held: Int) {
    guard prompt.count - held >= PromptSpeed.leastTokens else { return }
    let speed =
      speed ?? .measured(decoder, tokens: prompt, passTokens: passTokens, type: cacheType)
    self.speed = speed
    start = held
    let seconds = speed.seconds(held..<prompt.count)
    guard seconds >= PromptSpeed.longSeconds else { return }
    let sequence = MemoryPlan.sequenceBytes(decoder.configuration, tokens: prompt.count, type: cacheType)
    let cache = KVCache.byteCount(
      configuration: decoder.configuration, capacity: prompt.count, type: cacheType)
    say(
      phrases.longPrompt(
        tokens: prompt.count - held, known: held, time: Format.duration(seconds),
        memory: Format.bytes(weightBytes + sequence), cache: Format.bytes(cache)))
    if StandardStream.error.isTerminal {
      bar = ProgressReporter(phrases.reading, unit: "tokens")
      bar?.update(0, of: prompt.count - held, share: 0)
    }
  }
}
