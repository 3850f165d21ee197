import Architecture
import JSON
import Testing

@Suite struct TensorIndexTests {
  private static func index(_ family: String, _ extra: [(String, JSONValue)] = []) throws -> TensorIndex {
    let json = JSONValue.object(
      JSONObject(
        [
          ("model_type", .string(family)), ("hidden_size", 64), ("intermediate_size", 96),
          ("num_hidden_layers", 3), ("num_attention_heads", 4), ("num_key_value_heads", 2),
          ("vocab_size", 80),
          ("rms_norm_eps", 1e-5),
        ] + extra))
    return TensorIndex(try ModelConfiguration(json, label: "config.json"))
  }

  @Test(arguments: ["zhinao", "llama", "qwen2"])
  func namesGoBothWays(family: String) throws {
    let index = try Self.index(family)
    var ranks: [Int] = []
    for tensor in index.all {
      #expect(index.key(named: index.name(of: tensor.id)) == .known(tensor.id))
      if let gguf = index.ggufName(of: tensor.id) { #expect(index.id(ggufName: gguf) == tensor.id) }
      ranks.append(index.rank(.known(tensor.id)))
    }
    #expect(ranks == Array(0..<ranks.count), "the table is in the order of a forward pass")
    #expect(Set(index.all.map { index.name(of: $0.id) }).count == index.all.count)
  }

  @Test func biasesAreThoseOfTheFamilyAndItsSettings() throws {
    func biases(_ family: String, _ extra: [(String, JSONValue)] = []) throws -> Set<ModuleKind> {
      Set(try Self.index(family, extra).required.filter { $0.id.part == .bias }.map(\.id.module.kind))
    }
    #expect(try biases("zhinao") == [.fusedQKV])
    #expect(try biases("zhinao", [("attention_bias", true)]) == [.fusedQKV, .attentionOutput])
    #expect(try biases("qwen2") == [.query, .key, .value])
    #expect(try biases("llama") == [])
    #expect(
      try biases("llama", [("attention_bias", true), ("mlp_bias", true)])
        == [.query, .key, .value, .attentionOutput, .gate, .up, .down])
  }

  @Test func shapesAreThoseOfTheConfiguration() throws {
    let zhinao = try Self.index("zhinao")
    #expect(zhinao.shape(of: ModuleID(.fusedQKV, layer: 0)) == (128, 64))
    #expect(zhinao.shape(of: ModuleID(.down, layer: 2)) == (64, 96))
    let llama = try Self.index("llama", [("head_dim", 32)])
    #expect(llama.shape(of: ModuleID(.key, layer: 1)) == (64, 64))
    #expect(llama.shape(of: ModuleID(.attentionOutput, layer: 1)) == (64, 128))
  }

  /// Only a layer of the model, with its number as numbers are written, is one.
  @Test(arguments: [
    "model.layers.3.mlp.up_proj.weight", "model.layers.03.mlp.up_proj.weight",
    "model.layers.-1.mlp.up_proj.weight",
    "model.layers.1.mlp.up_proj.weights", "model.layers.1\u{301}.mlp.up_proj.weight", "lm_head.bias", "",
  ])
  func otherNamesAreCarriedAlong(name: String) throws {
    let key = try Self.index("llama").key(named: name)
    #expect(key.id == nil)
    #expect(try Self.index("llama").name(of: key) == name)
    #expect(try Self.index("llama").rank(key) == .max)
  }

  @Test func aTiedHeadIsNotMultiplied() throws {
    let tied = try Self.index("llama", [("tie_word_embeddings", true)])
    #expect(tied.isMultiplied(TensorID(.embedding)) && !tied.isMultiplied(TensorID(.head)))
    let untied = try Self.index("llama")
    #expect(!untied.isMultiplied(TensorID(.embedding)) && untied.isMultiplied(TensorID(.head)))
    #expect(!untied.isMultiplied(TensorID(.inputNorm, layer: 0)))
  }
}
