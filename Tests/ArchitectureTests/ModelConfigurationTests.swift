import Architecture
import JSON
import Testing

@Suite struct ConfigurationTests {
  static let base: [(String, JSONValue)] = [
    ("model_type", "llama"), ("hidden_size", 64), ("intermediate_size", 128), ("num_hidden_layers", 2),
    ("num_attention_heads", 4), ("vocab_size", 100), ("rms_norm_eps", 1e-5),
  ]
  static func configuration(_ changes: [(String, JSONValue)]) throws -> ModelConfiguration {
    var object = JSONObject(base)
    for (key, value) in changes { object[key] = value }
    return try ModelConfiguration(.object(object), label: "config.json")
  }

  @Test func defaultsAreThoseOfTheFamilies() throws {
    let c = try Self.configuration([])
    #expect(c.kvHeads == 4 && c.headDim == 16 && c.ropeTheta == 10000 && !c.tieWordEmbeddings && !c.qkvBias)
    let z = try Self.configuration([("model_type", "zhinao"), ("rope_theta", 5e7)])
    #expect(z.qkvBias && !z.outputBias && z.qkvLayout == .interleaved && z.ropeTheta == 5e7)
    let q = try Self.configuration([
      ("model_type", "qwen2"), ("sliding_window", 4096), ("use_sliding_window", false),
    ])
    #expect(q.qkvBias && q.qkvLayout == .separate)
  }

  @Test func llama3ScalingIsRead() throws {
    let c = try Self.configuration([
      (
        "rope_scaling",
        [
          "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192,
        ]
      )
    ])
    #expect(
      c.ropeScaling
        == .llama3(factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 8192))
  }

  @Test(
    arguments: [
      ("model_type", JSONValue.string("mamba"), "mamba"), ("hidden_act", "gelu", "gelu"),
      ("rope_scaling", .object(JSONObject([("type", "yarn"), ("factor", 4.0)])), "yarn"),
      ("sliding_window", 4096, "sliding_window"),
      ("num_attention_heads", 0, "num_attention_heads"), ("num_key_value_heads", 3, "num_key_value_heads"),
      ("hidden_size", "x", "hidden_size"), ("hidden_size", 66, "hidden_size"),
      ("rms_norm_eps", .null, "rms_norm_eps"),
      ("vocab_size", 1e18, "vocab_size"), ("tie_word_embeddings", 1, "tie_word_embeddings"),
      ("rope_theta", -1, "rope_theta"),
    ] as [(String, JSONValue, String)])
  func whatCannotBeHonouredIsNamed(key: String, value: JSONValue, part: String) {
    let error = #expect(throws: JSONFieldError.self) { try Self.configuration([(key, value)]) }
    #expect(error?.description.contains(part) == true, "\(error?.description ?? "")")
  }
}
