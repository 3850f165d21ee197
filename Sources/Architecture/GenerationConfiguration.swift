import Files
import JSON

/// What `generation_config.json` says; nil where it says nothing.
package struct GenerationConfiguration: Equatable, Sendable {
  package var eosTokenIDs: [Int] = []
  package var padTokenID: Int?
  package var doSample: Bool?
  package var temperature: Double?
  package var topK: Int?
  package var topP: Double?
  package var repetitionPenalty: Double?
  package var maxNewTokens: Int?

  package init() {}

  package init(_ json: JSONValue, label: String) throws {
    let fields = try JSONFields(json, document: label)
    eosTokenIDs = tokenIDs(fields["eos_token_id"])
    padTokenID = try fields.integer("pad_token_id")
    doSample = try fields.bool("do_sample")
    temperature = try fields.number("temperature")
    topK = try fields.integer("top_k")
    topP = try fields.number("top_p")
    repetitionPenalty = try fields.number("repetition_penalty")
    maxNewTokens = try fields.integer("max_new_tokens")
  }
}

extension ModelFiles {
  /// Defaults for generation; empty when there is no `generation_config.json`.
  package func generationConfiguration() throws -> GenerationConfiguration {
    guard let json = try json(named: "generation_config.json") else { return GenerationConfiguration() }
    return try GenerationConfiguration(json, label: label(of: "generation_config.json"))
  }
}
