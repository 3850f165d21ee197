import JSON
import Tokenization

extension AnswerRequest {
  /// Prompts times choices.
  private static let mostAnswers = 64
  /// As in OpenAI's API.
  private static let usualNewTokens = 16

  /// Decodes the body of `/v1/completions`.
  /// - Throws: ``JSONFieldError``; ``APIError`` when the model does not exist.
  package init(completion fields: JSONFields, models: ServedModels) throws {
    model = try models.model(named: try fields.string("model"))
    warnings = try RequestField.check(fields, of: .completion)
    options = try GenerationOptions(fields, model: model, usualNewTokens: AnswerRequest.usualNewTokens)
    // Some clients send what a chat would: false asks for nothing.
    let topLogprobs =
      fields["logprobs"] == false ? nil : try fields.integer("logprobs", in: 0...Reports.mostLogprobs)
    reports = try Reports(fields, topLogprobs: topLogprobs, streams: options.streams)
    let prompts = try AnswerRequest.prompts(fields, model: model, options: options)
    guard prompts.count <= AnswerRequest.mostAnswers / options.choices else {
      throw fields.refusal("prompt", "asks for more than \(AnswerRequest.mostAnswers) answers in one request")
    }
    self.prompts = prompts.map(\.ids)
    endpoint = .completion(echo: try fields.bool("echo") ?? false ? prompts : nil)
  }

  /// A string, an array of strings, an array of ids or an array of such arrays.
  ///
  /// A client that sends a text here has put its special tokens there itself, perhaps with a chat template of its own: their names are
  /// tokens, unless it says that they are not.
  private static func prompts(_ fields: JSONFields, model: ServedModel, options: GenerationOptions) throws
    -> [CompletionPrompt]
  {
    let tokenizer = model.tokenizer
    let addingAffixes = try fields.bool("add_special_tokens") ?? true
    func prompt(_ ids: [Int]) -> CompletionPrompt {
      CompletionPrompt(
        ids: truncated(ids, options, model), tokenizer: tokenizer, skipsSpecials: options.skipsSpecials)
    }
    func prompt(_ text: String) -> CompletionPrompt {
      let whole = CompletionPrompt(
        text, tokenizer: tokenizer, specials: options.specials ?? .recognized, addingAffixes: addingAffixes)
      let kept = truncated(whole.ids, options, model)
      return kept.count == whole.ids.count ? whole : prompt(kept)
    }
    func ids(_ values: [JSONValue]) throws -> [Int] {
      let ids = values.compactMap(\.intValue).filter((0..<tokenizer.tokenCount).contains)
      guard ids.count == values.count else {
        throw fields.unexpected("prompt", expected: "token ids from 0 to \(tokenizer.tokenCount - 1)")
      }
      return ids
    }
    guard let value = fields["prompt"] else { throw fields.error("prompt", .missing) }
    if let text = value.stringValue { return [prompt(text)] }
    guard let array = value.arrayValue, let first = array.first else {
      throw fields.unexpected("prompt", expected: "a string, or a non-empty array of strings or token ids")
    }
    switch first {
    case .number: return [prompt(try ids(array))]
    case .array:
      return try array.map {
        guard let values = $0.arrayValue else {
          throw fields.unexpected("prompt", expected: "arrays of token ids")
        }
        return prompt(try ids(values))
      }
    default: return try fields.strings("prompt", most: mostAnswers).map(prompt)
    }
  }
}
