/// Passes over one row of logits, 16 at a time.
enum Logits {
  /// The part of a row that tokens have, ids without a token at −∞; nil when a logit is not finite.
  static func ofTokens(
    _ row: UnsafeMutableBufferPointer<Float>, count: Int, unused: [Range<Int>]
  ) -> UnsafeMutableBufferPointer<Float>? {
    let logits = UnsafeMutableBufferPointer(rebasing: row[..<min(count, row.count)])
    guard areFinite(UnsafeBufferPointer(logits)) else { return nil }
    for ids in unused { for id in ids.clamped(to: logits.indices) { logits[id] = -.infinity } }
    return logits
  }

  /// The index of the first of the largest logits.
  static func firstLargest(_ logits: UnsafeBufferPointer<Float>) -> Int {
    var most = SIMD16<Float>(repeating: -.infinity)
    let wide = logits.count / 16 * 16
    for start in stride(from: 0, to: wide, by: 16) {
      // A comparison and a blend; `pointwiseMax` is compiled lane by lane and takes sixty times as long.
      let x = vector(logits, at: start)
      most.replace(with: x, where: x .> most)
    }
    let value = max(most.max(), logits[wide...].max() ?? -.infinity)
    for start in stride(from: 0, to: wide, by: 16) where any(vector(logits, at: start) .== value) {
      return logits[start..<start + 16].firstIndex(of: value) ?? start
    }
    return logits[wide...].firstIndex(of: value) ?? 0
  }

  /// Whether no logit is NaN or infinite.
  static func areFinite(_ logits: UnsafeBufferPointer<Float>) -> Bool {
    // x − x is 0 for every finite x and NaN otherwise, and NaN stays in a sum.
    var sum = SIMD16<Float>(repeating: 0)
    let wide = logits.count / 16 * 16
    for start in stride(from: 0, to: wide, by: 16) {
      let x = vector(logits, at: start)
      sum += x - x
    }
    return all(sum .== 0) && logits[wide...].allSatisfy(\.isFinite)
  }

  private static func vector(_ logits: UnsafeBufferPointer<Float>, at start: Int) -> SIMD16<Float> {
    UnsafeRawPointer(logits.baseAddress! + start).loadUnaligned(as: SIMD16<Float>.self)
  }
}
