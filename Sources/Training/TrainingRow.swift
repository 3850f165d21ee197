/// One sequence to learn from.
package struct TrainingRow: Equatable, Sendable {
  package var tokens: [Int]
  /// At each place the id that should have been predicted there, as long as `tokens`; nil: the place does not count. Place t is
  /// predicted from the tokens before it, so the first label never counts.
  package var labels: [Int?]

  /// - Precondition: as many labels as tokens.
  package init(tokens: [Int], labels: [Int?]) {
    precondition(tokens.count == labels.count, "\(labels.count) labels for \(tokens.count) tokens")
    self.tokens = tokens
    self.labels = labels
  }

  /// Places whose prediction is part of the loss.
  package var countedLabels: Int { labels.dropFirst().reduce(0) { $0 + ($1 == nil ? 0 : 1) } }
}
