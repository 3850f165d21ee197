/// A request that has a cache: its stepper, and whom to tell.
struct RunningRequest {
  let submission: GenerationEngine.Submission
  let stepper: SequenceStepper
  var lastTokenTime: ContinuousClock.Instant?
  private var hasReportedPrompt = false

  init(submission: GenerationEngine.Submission, stepper: SequenceStepper) {
    self.submission = submission
    self.stepper = stepper
  }

  /// Tells of the prompt's log probabilities once they are known.
  mutating func reportPrompt() {
    guard !hasReportedPrompt, let scores = stepper.finishedPromptScores else { return }
    hasReportedPrompt = true
    submission.post(.prompt(scores))
  }

  /// How a request ends.
  enum Ending {
    case finished(FinishReason)
    case failed(GenerationError)

    /// For statistics.
    var name: String {
      switch self {
      case .finished(let reason): reason.rawValue
      case .failed: "error"
      }
    }
  }

  /// The last event of a request that ends so.
  func lastEvent(_ ending: Ending) -> GenerationEvent {
    switch ending {
    case .failed(let error): return .failed(error)
    case .finished(let reason):
      let summary = GenerationSummary(
        reason: reason, promptTokens: stepper.request.prompt.count, reusedTokens: stepper.reusedTokens,
        newTokens: stepper.newTokens.count)
      return .finished(summary, stepper.finish())
    }
  }
}

extension GenerationEngine.Submission {
  func post(_ event: GenerationEvent) { ticket.post(event, index: index) }
}
