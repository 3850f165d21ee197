import Architecture
import AutoGPTQ
import JSON
import Testing

@testable import Conversion

@Suite struct DynamicRulesTests {
  private static func index(_ family: String, layers: Int) throws -> TensorIndex {
    let json: JSONValue = .object(
      JSONObject([
        ("model_type", .string(family)), ("hidden_size", 64), ("intermediate_size", 96),
        ("num_hidden_layers", .init(layers)), ("num_attention_heads", 4), ("num_key_value_heads", 2),
        ("vocab_size", 80), ("rms_norm_eps", 1e-5), ("hidden_act", "silu"), ("max_position_embeddings", 64),
      ]))
    return TensorIndex(try ModelConfiguration(json, label: "config.json"))
  }

  private static func rules(_ modules: [(ModuleKind, Int)], _ rule: DynamicRules.Rule) -> DynamicRules {
    var rules = DynamicRules()
    for (kind, layer) in modules { rules.add(ModuleID(kind, layer: layer), rule) }
    return rules
  }

  private static let eight = DynamicRules.Rule.settings(JSONObject([("bits", 8)]))

  /// vLLM asks for the fused matrix, GPTQModel for its parts.
  @Test func projectionsThatEnginesFuseAreMatchedByBothNames() throws {
    let index = try Self.index("llama", layers: 12)
    let modules = [0, 3, 11].flatMap { layer in
      [.query, .key, .value, .gate, .up].map { kind -> (ModuleKind, Int) in (kind, layer) }
    }
    let json = try #require(Self.rules(modules, Self.eight).json(index))
    #expect(
      json.keys == [
        #"+:^model\.layers\.(?:0|3|11)\.self_attn\.(?:q_proj|k_proj|v_proj|qkv_proj)$"#,
        #"+:^model\.layers\.(?:0|3|11)\.mlp\.(?:gate_proj|up_proj|gate_up_proj)$"#,
      ])
    let fields = try JSONValue.parse(#"{"bits": 4, "dynamic": \#(JSONValue.object(json).serialized())}"#)
    let configuration = try QuantizeConfiguration(fields, label: "q")
    for (name, bits) in [
      ("model.layers.3.self_attn.k_proj", 8), ("model.layers.11.self_attn.qkv_proj", 8),
      ("model.layers.0.mlp.gate_up_proj", 8), ("model.layers.1.self_attn.k_proj", 4),
      ("model.layers.11.self_attn.o_proj", 4), ("model.layers.11.mlp.up_proj_2", 4),
    ] {
      #expect(try configuration.settings(of: name).bits == bits, "\(name)")
    }
  }

  /// Names of a classifier begin with the name of its encoder.
  @Test func aPrefixOfTheBodyIsPartOfTheNames() throws {
    let json: JSONValue = .object(
      JSONObject([
        ("model_type", "bert"), ("hidden_size", 64), ("intermediate_size", 96), ("num_hidden_layers", 2),
        ("num_attention_heads", 4), ("vocab_size", 80), ("max_position_embeddings", 64),
        ("type_vocab_size", 2),
      ]))
    var configuration = try ModelConfiguration(json, label: "config.json")
    configuration.naming.hasBodyPrefix = true
    let index = TensorIndex(configuration)
    #expect(index.layerPrefix == "bert.encoder.layer.")
    let rules = Self.rules([(.query, 0), (.key, 0), (.value, 0)], .floats)
    #expect(
      rules.json(index)?.keys == [
        #"-:^bert\.encoder\.layer\.0\.attention\.self\.(?:query|key|value|qkv_proj)$"#
      ])
  }

  @Test func aFusedMatrixOfTheCheckpointHasOneName() throws {
    let index = try Self.index("zhinao", layers: 2)
    let json = Self.rules([(.fusedQKV, 0), (.fusedQKV, 1), (.down, 1)], Self.eight).json(index)
    #expect(
      json?.keys == [
        #"+:^model\.layers\.(?:0|1)\.self_attn\.qkv_proj$"#, #"+:^model\.layers\.1\.mlp\.down_proj$"#,
      ])
  }

  /// Engines cannot fuse them, but each part can be read.
  @Test func projectionsThatDifferAreNamedOneByOne() throws {
    let index = try Self.index("qwen2", layers: 2)
    var rules = Self.rules([(.query, 0), (.value, 0)], Self.eight)
    rules.add(ModuleID(.gate, layer: 1), .floats)
    #expect(
      rules.json(index)?.keys == [
        #"+:^model\.layers\.0\.self_attn\.q_proj$"#, #"+:^model\.layers\.0\.self_attn\.v_proj$"#,
        #"-:^model\.layers\.1\.mlp\.gate_proj$"#,
      ])
    #expect(DynamicRules().json(index) == nil)
  }
}
