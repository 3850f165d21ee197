/// How many prompt tokens may join a pass that answers wait for.
struct PromptPace {
  /// What prompts may add to the time between two tokens of an answer.
  private static let patience = 0.1
  private var tokensPerSecond = 640.0

  /// A multiple of 16: products work on 16 rows at a time.
  var tokens: Int {
    max(16, min(ForwardPass.promptTokens, Int(tokensPerSecond * PromptPace.patience) / 16 * 16))
  }

  /// Learns from a pass how fast prompts are.
  mutating func observe(promptRows: Int, otherRows: Int, seconds: Double) {
    guard promptRows >= 16, promptRows > otherRows, seconds > 0 else { return }
    tokensPerSecond += 0.2 * (Double(promptRows + otherRows) / seconds - tokensPerSecond)
  }
}
