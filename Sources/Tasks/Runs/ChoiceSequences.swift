import Evaluation
import Files
import Tokenization

/// Turns the prompts of multiple-choice questions into ids, by the rules of lm-eval and of OpenCompass.
package struct ChoiceSequences {
  let model: EvaluatedModel
  let task: String

  package init(model: EvaluatedModel, task: String) {
    self.model = model
    self.task = task
  }

  /// Context and continuation as lm-eval encodes them (`TemplateLM._encode_pair`, `HFLM._loglikelihood_tokens`): white space at the
  /// end of the context belongs to the continuation; both are encoded together, and the continuation's ids are those after as
  /// many as the context has alone. The model is fed the context's own ids. What is too long loses its beginning.
  /// - Returns: and whether the sequence was cut.
  package func pair(context: String, continuation: String, item: String) throws -> (
    ScoredSequence, isCut: Bool
  ) {
    let scalars = context.unicodeScalars
    var end = scalars.endIndex
    while end > scalars.startIndex, ChoiceSequences.isPythonSpace(scalars[scalars.index(before: end)]) {
      end = scalars.index(before: end)
    }
    let start = String(scalars[..<end])
    let rest = String(scalars[end...]) + continuation
    let adds = model.settings.addsBeginning
    func encode(_ text: String) throws -> [Int] {
      try model.encode(text, addingBeginning: adds, item: item, task: task)
    }
    var before: [Int]
    var ids: [Int]
    if context.isEmpty {
      before = [try beginning(item)]
      ids = try encode(continuation)
    } else {
      before = try encode(start)
      ids = Array(try encode(start + rest).dropFirst(before.count))
      if before.isEmpty { before = [try beginning(item)] }
    }
    guard !ids.isEmpty else { throw TaskError(.emptyChoice(item: item), path: task) }
    let limit = model.contextLimit
    guard ids.count <= limit else {
      throw TaskError(.choiceTooLong(item: item, tokens: ids.count, limit: limit), path: task)
    }
    // The last id is never fed, so that one more than the limit fits.
    let dropped = max(0, before.count + ids.count - (limit + 1))
    before.removeFirst(dropped)
    return (ScoredSequence(ids: before + ids, firstScored: before.count), dropped > 0)
  }

  /// A whole prompt of OpenCompass' PPL mode: all tokens from the second on are scored.
  package func whole(_ prompt: String, item: String) throws -> ScoredSequence {
    let ids = try model.encode(prompt, addingBeginning: true, item: item, task: task)
    guard ids.count >= 2 else { throw TaskError(.emptyChoice(item: item), path: task) }
    return ScoredSequence(ids: ids, firstScored: 1)
  }

  /// What stands before a continuation without a context, as in lm-eval: the beginning-of-text id, or that which ends texts.
  private func beginning(_ item: String) throws -> Int {
    let named = try? model.opened.files.json(named: "tokenizer_config.json")?["bos_token"]
    let text = named?.stringValue ?? named?["content"]?.stringValue
    let candidates =
      model.tokenizer.affixes.prefix + [text.flatMap { model.tokenizer.specialTokens[$0] }].compactMap { $0 }
      + model.opened.configuration.eosTokenIDs + ["<eod>"].compactMap { model.tokenizer.specialTokens[$0] }
    guard let id = candidates.first(where: { (0..<model.opened.configuration.vocabularySize).contains($0) })
    else {
      throw TaskError(.emptyChoice(item: item), path: task)
    }
    return id
  }

  /// What `str.rstrip` removes.
  private static func isPythonSpace(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value)
  }
}
