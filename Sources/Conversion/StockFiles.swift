import Architecture
import Files
import JSON
import Models
import Tokenization

/// The small files of a model in the other layout: configuration, tokenizer, stop tokens.
struct StockFiles {
  let files: any ModelFiles
  let model: ModelConfiguration
  let path: String

  init(_ contents: ModelContents) {
    files = contents.files
    model = contents.configuration
    path = contents.path
  }

  /// ChatML with 360Zhinao's default system message.
  static let chatTemplate = """
    {%- if messages[0]['role'] != 'system' -%}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
    {%- endif -%}
    {%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
    {%- endfor -%}
    {%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
    {%- endif -%}
    """
  /// transformers 5 replaces the tokenizer of every Qwen2 model by one of its own, without normalizer and decoder, unless
  /// the configuration names a class from elsewhere; that class is used with trust_remote_code only, tokenizer.json
  /// without.
  static let tokenizerClass = (
    file: "tokenization_zhinao_stock.py", name: "tokenization_zhinao_stock.ZhinaoTokenizerFast",
    text: """
    from transformers import PreTrainedTokenizerFast


    class ZhinaoTokenizerFast(PreTrainedTokenizerFast):
        \"""tokenizer.json as it is. Used only with trust_remote_code=True; nothing needs that.\"""

    """
  )
  private static let stopTokens = ["<eod>", "<|im_end|>", "<|im_start|>"]
  private static let tokenizerFiles = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt",
  ]

  // MARK: Qwen2

  /// Files of a Qwen2 model that is the Zhinao model.
  /// - Throws: when the configuration says something that Qwen2 has no words for.
  func stock() throws -> EmbeddedFiles {
    try refuseWhatQwen2Cannot()
    var contents = try kept { $0.bytes.hasSuffix(".py") || $0.bytes.hasSuffix(".tiktoken") }
    var config = model.json
    config["auto_map"] = nil
    config["architectures"] = ["Qwen2ForCausalLM"]
    config["model_type"] = "qwen2"
    // What the two architectures take for granted differs.
    config["num_key_value_heads"] = .init(model.kvHeads)
    config["max_position_embeddings"] = .init(model.maxPositionEmbeddings)
    config["hidden_act"] = "silu"
    config["tie_word_embeddings"] = .bool(model.tieWordEmbeddings)
    config["use_sliding_window"] = false
    if config["rope_parameters"] == nil { config["rope_theta"] = .init(model.ropeTheta) }
    contents["config.json"] = text(.object(config))
    if let tokenizer = try zhinaoTokenizer() {
      for name in Self.tokenizerFiles { contents[name] = nil }
      contents["tokenizer.json"] = Array(
        try ZhinaoTokenizerJSON.document(tokenizer).serialized().utf8)
      contents["tokenizer_config.json"] = text(.object(try tokenizerConfiguration()))
      contents[Self.tokenizerClass.file] = Array(Self.tokenizerClass.text.utf8)
      contents["generation_config.json"] = text(.object(try generationConfiguration(tokenizer)))
    }
    return EmbeddedFiles(location: files.location, contents: contents)
  }

  private func refuseWhatQwen2Cannot() throws {
    func refuse(_ what: ConversionError.Qwen2Obstacle) -> ConversionError {
      ConversionError(.notInQwen2(what), path: path)
    }
    if model.outputBias { throw refuse(.outputBias) }
    if model.mlpBias { throw refuse(.mlpBias) }
    if model.logitScale != 1 { throw refuse(.logitScale(model.logitScale)) }
    if model.partialRotaryFactor != 1 {
      throw refuse(.partialRotaryFactor(model.partialRotaryFactor))
    }
  }

  /// The model's own tokenizer when it is a Zhinao one; nil: none, or another, whose files stay as they are.
  private func zhinaoTokenizer() throws -> ZhinaoTokenizer? {
    do { return try TokenizerLoader.load(files) as? ZhinaoTokenizer } catch let error as TokenizationError {
      // Only a Zhinao vocabulary would be rewritten; other files are kept as they are.
      if files.names.contains(where: { $0.bytes.hasSuffix(".tiktoken") }) { throw error }
      return nil
    }
  }

  private func tokenizerConfiguration() throws -> JSONObject {
    let old = try files.json(named: "tokenizer_config.json")?.objectValue ?? JSONObject()
    var new = JSONObject([
      ("tokenizer_class", "PreTrainedTokenizerFast"),
      ("auto_map", ["AutoTokenizer": [nil, .string(Self.tokenizerClass.name)]]),
      ("clean_up_tokenization_spaces", false),
      ("padding_side", old["padding_side"] ?? "left"), ("eos_token", "<eod>"), ("pad_token", "<pad>"),
      ("unk_token", "<unk>"), ("model_input_names", ["input_ids", "attention_mask"]),
      ("model_max_length", old["model_max_length"] ?? .init(model.maxPositionEmbeddings)),
    ])
    if !files.names.contains("chat_template.jinja") {
      new["chat_template"] = old["chat_template"] ?? .string(Self.chatTemplate)
    }
    return new
  }

  private func generationConfiguration(_ tokenizer: ZhinaoTokenizer) throws -> JSONObject {
    var object = try files.json(named: "generation_config.json")?.objectValue ?? JSONObject()
    let named = try files.generationConfiguration().eosTokenIDs
    let stops = Self.stopTokens.compactMap { tokenizer.specialTokens[$0] }
    object["eos_token_id"] = .array((stops + named.filter { !stops.contains($0) }).map { .init($0) })
    if object["pad_token_id"] == nil, let pad = tokenizer.specialTokens["<pad>"] {
      object["pad_token_id"] = .init(pad)
    }
    return object
  }

  // MARK: Zhinao

  /// Files of the Zhinao model that a Qwen2 model is. The vocabulary is the one the model came from, byte for byte; the
  /// remote code it came with is not here, because nothing needs it.
  func zhinao() throws -> EmbeddedFiles {
    guard let json = try files.json(named: "tokenizer.json") else {
      throw ConversionError(.noTokenizerJSON, path: path)
    }
    var contents = try kept { Self.tokenizerFiles.contains($0) || $0 == Self.tokenizerClass.file }
    contents["vocab/360.tiktoken"] = try ZhinaoTokenizerJSON.vocabulary(
      json, path: files.label(of: "tokenizer.json"))
    var config = model.json
    for name in ["use_sliding_window", "sliding_window", "max_window_layers", "layer_types"] {
      config[name] = nil
    }
    config["architectures"] = ["ZhinaoForCausalLM"]
    config["model_type"] = "zhinao"
    contents["config.json"] = text(.object(config))
    var tokenizer = try files.json(named: "tokenizer_config.json")?.objectValue ?? JSONObject()
    tokenizer["tokenizer_class"] = "ZhinaoTokenizer"
    tokenizer["auto_map"] = nil
    contents["tokenizer_config.json"] = text(.object(tokenizer))
    return EmbeddedFiles(location: files.location, contents: contents)
  }

  // MARK: Both

  private func kept(except isDropped: (String) -> Bool) throws -> [ByteText: [UInt8]] {
    var contents: [ByteText: [UInt8]] = [:]
    for name in files.names where ModelFileNames.belongsToModel(name) && !isDropped(name) {
      contents[name] = try files.bytes(named: name)
    }
    return contents
  }

  private func text(_ json: JSONValue) -> [UInt8] { Array((json.serialized(indent: 2) + "\n").utf8) }
}
