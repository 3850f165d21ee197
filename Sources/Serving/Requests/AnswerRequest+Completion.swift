import JSON
import Tokenization

extension AnswerRequest {
  /// Prompts times choices.
  private static let mostAnswers = 64
  static let mostLogprobs = 20

  /// Decodes the body of `/v1/completions`.
  /// - Throws: ``JSONFieldError``; ``APIError`` when the model does not exist.
  package init(completion fields: JSONFields, models: ServedModels) throws {
    model = try models.model(named: try fields.string("model"))
    options = try GenerationOptions(fields, model: model)
    topLogprobs = try fields.integer("logprobs", in: 0...AnswerRequest.mostLogprobs)
    let texts: [String]
    (prompts, texts) = try AnswerRequest.prompts(fields, model: model, specials: options.specials)
    guard prompts.count <= AnswerRequest.mostAnswers / options.choices else {
      throw fields.refusal("prompt", "asks for more than \(AnswerRequest.mostAnswers) answers in one request")
    }
    let echoes = try fields.bool("echo") ?? false
    if echoes && topLogprobs != nil {
      throw fields.unsupported("echo", because: "prompts have no log probabilities")
    }
    endpoint = .completion(echo: echoes ? texts : nil)
    if options.maximumNewTokens == nil { options.maximumNewTokens = 16 }
  }

  /// A string, an array of strings, an array of ids or an array of such arrays.
  private static func prompts(_ fields: JSONFields, model: ServedModel, specials: SpecialTokens) throws
    -> (ids: [[Int]], texts: [String])
  {
    let tokenizer = model.tokenizer
    func encoded(_ text: String) -> [Int] {
      tokenizer.encode(text, specials: specials, addingAffixes: true)
    }
    func ids(_ values: [JSONValue]) throws -> [Int] {
      let ids = values.compactMap(\.intValue).filter((0..<tokenizer.tokenCount).contains)
      guard ids.count == values.count else {
        throw fields.unexpected("prompt", expected: "token ids from 0 to \(tokenizer.tokenCount - 1)")
      }
      return ids
    }
    guard let value = fields["prompt"] else { throw fields.error("prompt", .missing) }
    if let text = value.stringValue { return ([encoded(text)], [text]) }
    guard let array = value.arrayValue, let first = array.first else {
      throw fields.unexpected("prompt", expected: "a string, or a non-empty array of strings or token ids")
    }
    var all: [[Int]]
    switch first {
    case .number: all = [try ids(array)]
    case .array:
      all = try array.map {
        guard let values = $0.arrayValue else {
          throw fields.unexpected("prompt", expected: "arrays of token ids")
        }
        return try ids(values)
      }
    default:
      let texts = try fields.strings("prompt", most: mostAnswers)
      return (texts.map(encoded), texts)
    }
    return (all, try all.map { try tokenizer.decode($0, skippingSpecials: true) })
  }
}
