import Architecture
import Files
import GGUF
import JSON
import Tensors
import Tokenization

/// The configuration and tokenizer files that a GGUF file's metadata amounts to, as Hugging Face would have them: so that
/// whatever reads a folder reads a GGUF file, and whatever writes one writes all of it.
struct GGUFModelFiles: ModelFiles {
  let file: GGUFFile
  private let configuration: [UInt8]
  private let generation: [UInt8]
  /// Nil when there is nothing to say in it.
  private let tokenizerConfiguration: [UInt8]?
  private let tokenizer: GGUFTokenizer?
  private let tokenizerObstacle: TokenizationError?

  var location: String { file.path }

  /// - Parameters:
  ///   - weightType: the type that the configuration declares when the embedding is not stored as floats.
  ///   - preTokenizer: see ``GGUFTokenizer``.
  init(
    file: GGUFFile, weightType: DType, preTokenizer: String? = nil,
    families: [ModelFamily] = ModelFamily.builtIn
  ) throws {
    self.file = file
    configuration = Array(
      (try GGUFConfiguration(file, families: families).json(weightType: weightType).serialized(indent: 2)
        + "\n").utf8)
    let specials = try GGUFSpecialTokens(file)
    generation = Array((specials.generationConfiguration.serialized(indent: 2) + "\n").utf8)
    do {
      tokenizer = try GGUFTokenizer(file, preTokenizer: preTokenizer)
      tokenizerObstacle = nil
    } catch let error as TokenizationError {
      tokenizer = nil
      tokenizerObstacle = error
    }
    tokenizerConfiguration =
      tokenizer == nil && specials.template == nil
      ? nil
      : Array((specials.tokenizerConfiguration(tokenizer).serialized(indent: 2) + "\n").utf8)
  }

  var names: [String] {
    ["config.json", "generation_config.json"]
      + (tokenizer == nil ? [] : ["tokenizer.json"])
      + (tokenizerConfiguration == nil ? [] : ["tokenizer_config.json"])
  }

  func bytes(named name: String) throws -> [UInt8]? {
    switch name {
    case "config.json": return configuration
    case "generation_config.json": return generation
    case "tokenizer_config.json": return tokenizerConfiguration
    case "tokenizer.json":
      if let tokenizerObstacle { throw tokenizerObstacle }
      return tokenizer.map { Array(($0.json.serialized() + "\n").utf8) }
    default: return nil
    }
  }
}

/// The shape of a decoder from the metadata of a file of a known family.
struct GGUFConfiguration {
  let file: GGUFFile
  private let family: ModelFamily
  private let families: [ModelFamily]
  private let architecture: String

  init(_ file: GGUFFile, families: [ModelFamily]) throws {
    self.file = file
    guard let architecture = try file.string("general.architecture") else {
      throw ModelError(.metadataMissing(key: "general.architecture"), path: file.path)
    }
    guard let family = families.first(where: { $0.gguf?.architecture == architecture }) else {
      let known = families.compactMap { $0.gguf?.architecture }
      throw ModelError(.unknownArchitecture(architecture, known: known), path: file.path)
    }
    self.family = family
    self.families = families
    self.architecture = architecture
    if let experts = try file.integer("\(architecture).expert_count"), experts > 0 {
      throw ModelError(.mixtureOfExperts, path: file.path)
    }
  }

  /// `config.json`; what is out of range in it, its reader refuses.
  func json(weightType: DType) throws -> JSONValue {
    func key(_ name: String) -> String { "\(architecture).\(name)" }
    func required(_ name: String) throws -> JSONValue {
      guard let value = try file.integer(key(name)) else {
        throw ModelError(.metadataMissing(key: key(name)), path: file.path)
      }
      return .init(value)
    }
    guard let embedding = file.tensor("token_embd.weight"), embedding.shape.count == 2 else {
      throw ModelError(.noEmbedding, path: file.path, tensor: "token_embd.weight")
    }
    let type = embedding.type.dtype ?? weightType
    var object = JSONObject([
      ("architectures", .array([.string(family.modelClass)])),
      ("model_type", .string(family.name)), ("hidden_act", "silu"),
      ("hidden_size", try required("embedding_length")),
      ("intermediate_size", try required("feed_forward_length")),
      ("num_hidden_layers", try required("block_count")),
      ("num_attention_heads", try required("attention.head_count")),
      (
        "num_key_value_heads",
        try file.integer(key("attention.head_count_kv")).map { .init($0) } ?? required("attention.head_count")
      ),
      ("max_position_embeddings", try required("context_length")),
      ("vocab_size", .init(embedding.shape[0])),
      ("rms_norm_eps", try file.number(key("attention.layer_norm_rms_epsilon")) ?? 1e-5),
      ("rope_theta", try file.number(key("rope.freq_base")) ?? 10000),
      ("tie_word_embeddings", .bool(file.tensor("output.weight") == nil)),
      ("torch_dtype", .string(type == .bf16 ? "bfloat16" : type == .f16 ? "float16" : "float32")),
    ])
    if let headDim = try file.integer(key("attention.key_length")) {
      guard try file.integer(key("attention.value_length")) ?? headDim == headDim else {
        throw ModelError(.valueLengthDiffers, path: file.path)
      }
      object["head_dim"] = .init(headDim)
    }
    if family.gguf?.hasOtherBiases == true {
      object["attention_bias"] = .bool(file.tensor("blk.0.attn_q.bias") != nil)
      object["mlp_bias"] = .bool(file.tensor("blk.0.ffn_up.bias") != nil)
    }
    try addRotary(&object, key)
    let specials = try GGUFSpecialTokens(file)
    object["bos_token_id"] = specials.begin.map { .init($0) } ?? .null
    object["eos_token_id"] = specials.end.map { .init($0) } ?? .null
    return .object(object)
  }

  private func addRotary(_ object: inout JSONObject, _ key: (String) -> String) throws {
    let heads = object["num_attention_heads"]?.intValue ?? 0
    let hidden = object["hidden_size"]?.intValue ?? 0
    let headDim = object["head_dim"]?.intValue ?? (heads > 0 ? hidden / heads : 0)
    if let rotated = try file.integer(key("rope.dimension_count")), rotated != headDim {
      throw ModelError(.partialRotation(rotated: rotated, headDim: headDim), path: file.path)
    }
    let factor = try linearFactor(key)
    if let factor { object["rope_scaling"] = ["type": "linear", "factor": factor] }
    guard let tensor = file.tensor(GGUFRows.frequencies) else { return }
    if factor != nil { throw ModelError(.twoScalings, path: file.path, tensor: tensor.name) }
    // The factors that Llama 3 was published with; others cannot be told from one another's results.
    for factor in [8.0, 32.0] {
      var candidate = object
      candidate["rope_scaling"] = [
        "rope_type": "llama3", "factor": .init(factor), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
      ]
      let c = try ModelConfiguration(.object(candidate), label: file.path, families: families)
      if let factors = GGUFRows.frequencyFactors(c), isEqual(tensor, factors) {
        object = candidate
        return
      }
    }
    throw ModelError(.unknownFrequencies, path: file.path, tensor: tensor.name)
  }

  /// By how much positions are divided, as llama.cpp takes it; nil: they are not. Without a type, scaling is linear;
  /// `rope.scale_linear` is the older spelling; 0 and 1 scale nothing.
  /// - Throws: for another kind of scaling, and for one of its settings that changes what linear scaling computes.
  private func linearFactor(_ key: (String) -> String) throws -> JSONValue? {
    let type = try file.string(key("rope.scaling.type"))
    guard ["none", "linear", nil].contains(type) else {
      throw ModelError(.unknownScaling(key: key("rope.scaling.type"), type ?? ""), path: file.path)
    }
    for name in ["rope.scaling.attn_factor", "rope.scaling.alpha"] {
      if let value = try file.number(key(name))?.doubleValue, value != 0, value != 1 {
        throw ModelError(.unknownScalingSetting(key: key(name), value), path: file.path)
      }
    }
    guard type != "none" else { return nil }
    let factor = try file.number(key("rope.scaling.factor")) ?? file.number(key("rope.scale_linear"))
    return factor?.doubleValue == 0 || factor?.doubleValue == 1 ? nil : factor
  }

  /// Where the metadata says one thing twice and differently.
  func discrepancies() throws -> [Discrepancy] {
    func key(_ name: String) -> String { "\(architecture).\(name)" }
    func note(_ detail: String) -> Discrepancy {
      Discrepancy(.rotary, path: file.path, detail + ", as in llama.cpp")
    }
    let (factor, older) = (key("rope.scaling.factor"), key("rope.scale_linear"))
    let values = try [factor, older].map { try file.number($0)?.doubleValue }
    var found: [Discrepancy] = []
    if let a = values[0], let b = values[1], a != b {
      found.append(note("metadata \(factor) is \(a) and \(older) is \(b); the first counts"))
    }
    guard let scale = values[0] ?? values[1], scale != 0, scale != 1 else { return found }
    let typeKey = key("rope.scaling.type")
    switch try file.string(typeKey) {
    case "none":
      found.append(note("metadata \(typeKey) is none; the factor \(scale) beside it has no effect"))
    case nil:
      let name = values[0] == nil ? older : factor
      found.append(note("metadata \(name) is \(scale) without a \(typeKey), which means linear scaling"))
    default: break
    }
    return found
  }

  private func isEqual(_ tensor: GGUFTensor, _ factors: [Float]) -> Bool {
    guard tensor.type == .f32, tensor.shape == [factors.count] else { return false }
    let bytes = file.bytes(of: tensor)
    // Other tools compute them in single precision.
    return factors.enumerated().allSatisfy { i, factor in
      abs(bytes.loadUnaligned(fromByteOffset: 4 * i, as: Float.self) - factor) <= 1e-4 * factor
    }
  }
}
