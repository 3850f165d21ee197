import Files

/// Why a task cannot run on a model or on its data.
package struct TaskError: DiagnosedError, Equatable {
  /// One case per rule. Tests match on this; people read `description`.
  package enum Reason: Equatable, Sendable {
    case unknownTask(known: [String])

    // MARK: Needles, in tokens
    case noText
    case textTooShort(tokens: Int, needed: Int)
    case needleTooLong(needle: Int, length: Int)

    // MARK: Prompts, in tokens
    case promptTooLong(item: String, tokens: Int, limit: Int)
    case choiceTooLong(item: String, tokens: Int, limit: Int)
    case emptyChoice(item: String)
    case unknownToken(item: String, id: Int, rows: Int)

    case memory(tokens: Int, affordable: Int, limit: Int)

    // MARK: Models
    case needsDecoder(task: String)
    case needsRanking(task: String)

    // MARK: Journals
    case badJournal(line: Int, detail: String)
    case answerFailed(item: String, detail: String)
  }
  package var reason: Reason
  /// The file, the folder or the task.
  package var path: String

  package init(_ reason: Reason, path: String) {
    self.reason = reason
    self.path = path
  }

  package var category: FailureCategory {
    switch reason {
    case .unknownTask, .needleTooLong, .needsDecoder, .needsRanking, .memory: .usage
    default: .badInput
    }
  }

  package var description: String {
    switch reason {
    case .unknownTask(let known): "there is no task \"\(path)\"; there are \(known.joined(separator: ", "))"
    case .noText: "\(path): has no text to hide a needle in"
    case .textTooShort(let tokens, let needed):
      "\(path): has \(tokens) tokens, but the longest length needs \(needed); Chinese texts are not repeated. Add text, or choose "
        + "shorter lengths"
    case .needleTooLong(let needle, let length):
      "\(path): a needle of \(needle) tokens does not fit into \(length) tokens, of which \(NeedleBuilder.answerTokens) are kept for "
        + "the answer; choose a longer length"
    case .promptTooLong(let item, let tokens, let limit):
      "\(path), \(item): the prompt has \(tokens) tokens, more than the \(limit) that the model takes"
    case .choiceTooLong(let item, let tokens, let limit):
      "\(path), \(item): a choice has \(tokens) tokens, more than the \(limit) that the model takes"
    case .memory(let tokens, let affordable, let limit):
      "\(path): needs room for \(tokens) tokens, but \(ByteCount.text(limit)) of memory have room for \(affordable); choose a larger "
        + "--memory-limit, a smaller --context, or --kv-cache int4"
    case .emptyChoice(let item): "\(path), \(item): a choice has no tokens to score"
    case .unknownToken(let item, let id, let rows):
      "\(path), \(item): the text has a token with id \(id), but the model's embedding has \(rows) rows"
    case .needsDecoder(let task): "\(path): the task \(task) needs a decoder, but this model is an encoder"
    case .needsRanking(let task):
      "\(path): the task \(task) needs an encoder or a reranker; a decoder without a score cannot rank"
    case .badJournal(let line, let detail):
      "\(path), line \(line): \(detail); delete the file, and its items run again"
    case .answerFailed(let item, let detail): "\(path), \(item): \(detail)"
    }
  }
}
