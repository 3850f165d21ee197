import Generation
import JSON
import Tokenization

/// What both endpoints understand about how to generate: the union of the fields of OpenAI, vLLM and the API demo of
/// 360Zhinao. What is not given comes from the model's `generation_config.json`, then from OpenAI's defaults.
package struct GenerationOptions {
  package var sampling: SamplingParameters
  package var stopTokens: Set<Int>
  var stopStrings: [String]
  /// Nil: the endpoint's default.
  package var maximumNewTokens: Int?
  /// Answers to each prompt.
  var choices: Int
  var streams: Bool
  /// Whether a stream ends with a chunk of token counts.
  var includesUsage: Bool
  /// Whether text of special tokens in prompts is special.
  var specials: SpecialTokens

  static let mostChoices = 16

  init(_ fields: RequestFields, model: ServedModel) throws {
    try GenerationOptions.refuseUnsupported(fields)
    sampling = try GenerationOptions.sampling(fields, model: model)
    maximumNewTokens = try GenerationOptions.maximumNewTokens(fields)
    choices = try fields.whole("n", in: 1...GenerationOptions.mostChoices) ?? 1
    streams = try fields.flag("stream") ?? false
    specials = try fields.flag("allow_special_tokens") == true ? .recognized : .plain
    includesUsage = false
    if let options = fields["stream_options"] {
      guard let object = options.objectValue else { throw fields.bad("stream_options", "an object") }
      guard streams else { throw APIError.invalid("stream_options", "is only allowed with stream") }
      includesUsage =
        try RequestFields(object, prefix: "stream_options.").flag("include_usage") ?? false
    }

    stopStrings = try fields.texts("stop", most: 16)
    guard stopStrings.allSatisfy({ !$0.isEmpty && $0.utf8.count <= 1024 }) else {
      throw fields.bad("stop", "strings of 1 to 1024 bytes")
    }
    stopTokens = try fields.flag("ignore_eos") == true ? [] : model.stopTokens
    stopTokens.formUnion(
      try fields.wholes("stop_token_ids", in: 0..<model.tokenizer.tokenCount, most: 64))
    // Special tokens have no text in an answer: a stop that names one means the token.
    stopTokens.formUnion(stopStrings.compactMap { model.tokenizer.specialTokens[$0] })
  }

  private static func sampling(_ fields: RequestFields, model: ServedModel) throws -> SamplingParameters {
    let defaults = model.defaults
    let temperature = try fields.number("temperature", in: 0...100)
    let standard = temperature ?? defaults.temperature ?? 1
    let samples = try fields.flag("do_sample") ?? (temperature.map { $0 > 0 } ?? defaults.doSample ?? true)
    var sampling = SamplingParameters(
      temperature: samples ? standard : 0,
      topK: try fields.whole("top_k", in: -1...Int.max) ?? max(-1, defaults.topK ?? 0),
      topP: try fields.number("top_p", in: 0...1) ?? defaults.topP ?? 1,
      minP: try fields.number("min_p", in: 0...1) ?? 0,
      repetitionPenalty: try fields.number("repetition_penalty", in: 0.01...100)
        ?? defaults.repetitionPenalty ?? 1,
      presencePenalty: try fields.number("presence_penalty", in: -2...2) ?? 0,
      frequencyPenalty: try fields.number("frequency_penalty", in: -2...2) ?? 0)
    sampling.logitBias = try logitBias(fields, tokenCount: model.tokenizer.tokenCount)
    sampling.seed =
      try fields.whole("seed", in: Int.min...Int.max).map { UInt64(bitPattern: Int64($0)) }
      ?? UInt64.random(in: 0...UInt64.max)
    return sampling
  }

  private static func logitBias(_ fields: RequestFields, tokenCount: Int) throws -> [Int: Double] {
    guard let value = fields["logit_bias"] else { return [:] }
    guard let object = value.objectValue, object.members.count <= 1024 else {
      throw fields.bad("logit_bias", "an object of at most 1024 token ids with numbers")
    }
    var biases: [Int: Double] = [:]
    for (key, value) in object.members {
      guard let id = Int(key), (0..<tokenCount).contains(id) else {
        throw APIError.invalid("logit_bias", "\"\(key)\" is not a token id from 0 to \(tokenCount - 1)")
      }
      guard let bias = value.doubleValue, (-100...100).contains(bias) else {
        throw APIError.invalid("logit_bias", "the bias of \(id) is not a number from -100 to 100")
      }
      biases[id] = bias
    }
    return biases
  }

  /// OpenAI's new name, its old name, the name of the API demo, in this order.
  private static func maximumNewTokens(_ fields: RequestFields) throws -> Int? {
    let values = try ["max_completion_tokens", "max_tokens", "max_new_tokens"].map {
      try fields.whole($0, in: 0...Int.max)
    }
    return values.compactMap { $0 }.first
  }

  private static func refuseUnsupported(_ fields: RequestFields) throws {
    func isEmpty(_ value: JSONValue) -> Bool { value.arrayValue?.isEmpty ?? false }
    if let format = fields["response_format"] {
      guard let type = format["type"]?.stringValue else {
        throw fields.bad("response_format", "an object with a type")
      }
      guard type == "text" else {
        throw APIError.unsupported("response_format", "\"\(type)\" is not supported, only \"text\"")
      }
    }
    try fields.refuse("tools", because: "tool calls are not supported", unless: isEmpty)
    try fields.refuse("functions", because: "function calls are not supported", unless: isEmpty)
    try fields.refuse(
      "modalities", because: "only text is supported", unless: { $0 == ["text"] })
    try fields.refuse("audio", because: "audio is not supported")
    try fields.refuse("suffix", because: "insertion is not supported", unless: { $0 == "" })
    try fields.refuse(
      "best_of", because: "is not supported other than equal to n",
      unless: { $0.intValue == fields["n"]?.intValue ?? 1 })
    for name in ["guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar"] {
      try fields.refuse(name, because: "constrained answers are not supported")
    }
  }
}
