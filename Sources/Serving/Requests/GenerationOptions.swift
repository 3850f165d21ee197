import Generation
import JSON
import Tokenization

/// What both endpoints understand about how to generate: the union of the fields of OpenAI, vLLM, llama.cpp and the API
/// demo of 360Zhinao. What is not given comes from ``SamplingDefaults``.
package struct GenerationOptions: Sendable {
  package var sampling: SamplingParameters
  package var stopTokens: Set<Int>
  var stopStrings: [String]
  /// Whether an answer ends with what stopped it, or before it.
  var includesStop: Bool
  /// Whether special tokens leave no text in an answer, or their names.
  var skipsSpecials: Bool
  package var constraints: TokenConstraints
  package var maximumNewTokens: Int
  /// Answers to each prompt.
  var choices: Int
  var streams: Bool
  /// Whether a stream ends with a chunk of token counts.
  var includesUsage: Bool
  /// Whether names of special tokens in prompts are tokens; nil: the endpoint's default.
  var specials: SpecialTokens?
  var truncation: PromptTruncation?

  private static let mostChoices = 16

  /// - Parameters:
  ///   - usualNewTokens: the maximum when the request gives none.
  ///   - takesTools: whether descriptions of tools have a place in the prompt. Calls in answers stay text.
  init(_ fields: JSONFields, model: ServedModel, usualNewTokens: Int, takesTools: Bool = false)
    throws(JSONFieldError)
  {
    try GenerationOptions.refuseUnsupported(fields, takesTools: takesTools)
    sampling = try GenerationOptions.sampling(fields, model: model)
    maximumNewTokens = try GenerationOptions.maximumNewTokens(fields) ?? usualNewTokens
    choices = try fields.integer("n", in: 1...GenerationOptions.mostChoices) ?? 1
    streams = try fields.bool("stream") ?? false
    specials = try fields.bool("allow_special_tokens").map { $0 ? .recognized : .plain }
    truncation = try PromptTruncation(fields)
    includesUsage = false
    if let options = try fields.object("stream_options") {
      guard streams else { throw fields.refusal("stream_options", "is only allowed with stream") }
      includesUsage = try options.bool("include_usage") ?? false
      try options.refuseUnsupported(
        "continuous_usage_stats", because: "only the last chunk has token counts", unless: { $0 == false })
    }

    let stops = try fields.strings("stop", most: 16)
    guard stops.allSatisfy({ (1...1024).contains($0.utf8.count) }) else {
      throw fields.unexpected("stop", expected: "strings of 1 to 1024 bytes")
    }
    stopStrings = stops
    includesStop = try fields.bool("include_stop_str_in_output") ?? false
    skipsSpecials = try fields.bool("skip_special_tokens") ?? true
    let ids = 0...max(0, model.tokenizer.tokenCount - 1)
    var asked = Set(try fields.integers("stop_token_ids", in: ids, most: 64) ?? [])
    // Special tokens have no text in an answer: a stop that names one means the token.
    asked.formUnion(stops.compactMap { model.tokenizer.specialTokens[$0] })
    stopTokens = asked.union(try fields.bool("ignore_eos") == true ? [] : model.stopTokens)
    constraints = try TokenConstraints(
      fields, tokenizer: model.tokenizer, endTokens: asked.union(model.stopTokens),
      maximumNewTokens: maximumNewTokens)
  }

  private static func sampling(_ fields: JSONFields, model: ServedModel) throws(JSONFieldError)
    -> SamplingParameters
  {
    var sampling = model.defaults.parameters(
      for: SamplingChoice(
        doSample: try fields.bool("do_sample"),
        temperature: try fields.number("temperature", in: SamplingRange.temperature),
        topK: try fields.integer("top_k", in: SamplingRange.topK),
        topP: try fields.number("top_p", in: SamplingRange.topP),
        minP: try fields.number("min_p", in: SamplingRange.minP),
        repetitionPenalty: try fields.number("repetition_penalty", in: SamplingRange.repetitionPenalty)))
    sampling.presencePenalty = try fields.number("presence_penalty", in: SamplingRange.presencePenalty) ?? 0
    sampling.frequencyPenalty =
      try fields.number("frequency_penalty", in: SamplingRange.presencePenalty) ?? 0
    sampling.logitBias = try logitBias(fields, tokenCount: model.tokenizer.tokenCount)
    // −1 is vLLM's and llama.cpp's way to say: any.
    sampling.seed =
      try fields.integer("seed").flatMap { $0 == -1 ? nil : UInt64(bitPattern: Int64($0)) }
      ?? UInt64.random(in: 0...UInt64.max)
    return sampling
  }

  private static func logitBias(_ fields: JSONFields, tokenCount: Int) throws(JSONFieldError)
    -> [Int: Double]
  {
    guard let object = fields["logit_bias"] else { return [:] }
    guard let members = object.objectValue?.members, members.count <= 1024 else {
      throw fields.unexpected("logit_bias", expected: "an object of at most 1024 token ids with numbers")
    }
    var biases: [Int: Double] = [:]
    for (key, value) in members {
      guard let id = Int(key), (0..<tokenCount).contains(id) else {
        throw fields.refusal("logit_bias", "has \"\(key)\", not a token id from 0 to \(tokenCount - 1)")
      }
      guard let bias = value.doubleValue, SamplingRange.logitBias.contains(bias) else {
        throw fields.refusal("logit_bias", "has for \(id) no number from -100 to 100")
      }
      biases[id] = bias
    }
    return biases
  }

  /// OpenAI's new name, its old name, the name of the API demo, llama.cpp's name, in this order.
  private static func maximumNewTokens(_ fields: JSONFields) throws(JSONFieldError) -> Int? {
    var first: Int?
    for name in ["max_completion_tokens", "max_tokens", "max_new_tokens", "n_predict"] {
      let value = try fields.integer(name, in: -1...Int.max)
      // -1 is llama.cpp's and vLLM's way to say: as many as the context has room for.
      first = first ?? value.map { $0 == -1 ? .max : $0 }
    }
    return first
  }

  private static func refuseUnsupported(_ fields: JSONFields, takesTools: Bool) throws(JSONFieldError) {
    func isEmpty(_ value: JSONValue) -> Bool { value.arrayValue?.isEmpty ?? false }
    if let format = try fields.object("response_format") {
      guard let type = try format.string("type") else {
        throw fields.unexpected("response_format", expected: "an object with a type")
      }
      guard type == "text" else {
        throw fields.unsupported("response_format", because: "only the type \"text\" is")
      }
    }
    try fields.refuseUnsupported(
      "tools", because: "the prompt has no place for them", unless: { takesTools || isEmpty($0) })
    try fields.refuseUnsupported(
      "tool_choice", because: "a call cannot be forced", unless: { ["none", "auto"].contains($0) })
    try fields.refuseUnsupported(
      "best_of", because: "it must be equal to n", unless: { $0.intValue == fields["n"]?.intValue ?? 1 })
  }
}
