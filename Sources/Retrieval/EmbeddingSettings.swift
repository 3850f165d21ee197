import Architecture
import Files
import JSON
import Models

/// What a sentence-transformers folder says of an embedding model, or the defaults in its place.
package struct EmbeddingSettings: Equatable, Sendable {
  package enum Pooling: String, Sendable, CaseIterable {
    /// The state of the first token.
    case cls
    /// The mean of all states, those of the special tokens included.
    case mean
  }
  /// A layer after pooling, `[out, in]`; its weights are in `FOLDER/model.safetensors`.
  package struct Dense: Equatable, Sendable {
    package var folder: String
    package var inFeatures: Int
    package var outFeatures: Int
    package var hasBias: Bool
    package var hasTanh: Bool
  }
  package var pooling = Pooling.cls
  /// Whether tokens of a prompt count in the mean.
  package var includesPrompt = true
  package var dense: [Dense] = []
  /// Whether vectors get the length 1.
  package var normalizes = true
  /// Longest text, in ids, special ones included.
  package var maximumLength = 512
  /// By name; what is put before a text, with nothing between.
  package var prompts: [String: String] = [:]
  package var defaultPromptName: String?
  /// Whether texts are lower-cased before the tokenizer sees them.
  package var lowercases = false
  /// Sizes that vectors may be cut to without losing their sense (`is_matryoshka`, `matryoshka_dimensions` of `config.json`): nil:
  /// the model does not say; empty: any.
  package var matryoshkaSizes: [Int]?
  /// Whether the folder has no `modules.json`, so that these are the vendor's settings for 360Zhinao-search.
  package var isAssumed = false

  /// What 360Zhinao's `Retrieval/eval` puts before a query.
  package static let zhinaoQueryPrompt = "为这个句子生成表示以用于检索相关文章："

  package init() {}

  /// Only how long texts may be: what a classifier needs of it.
  package init(lengthsOf model: OpenedModel) throws {
    isAssumed = true
    let positions = model.configuration.maxPositionEmbeddings
    maximumLength = min(try length(model.files) ?? positions, positions)
  }

  /// - Throws: ``JSONFieldError`` for a module or setting that is not computed, ``FileError`` for files that are missing.
  package init(_ model: OpenedModel) throws { try self.init(model.files, model.configuration) }

  /// - Throws: ``JSONFieldError`` for a module or setting that is not computed, ``FileError`` for files that are missing.
  package init(_ files: any ModelFiles, _ configuration: ModelConfiguration) throws {
    if let modules = try files.json(named: "modules.json") {
      try read(modules, files)
    } else {
      isAssumed = true
      prompts = ["query": EmbeddingSettings.zhinaoQueryPrompt]
    }
    if let json = try files.json(named: "config_sentence_transformers.json") {
      let fields = try JSONFields(json, document: files.label(of: "config_sentence_transformers.json"))
      if let named = try fields.object("prompts") {
        prompts = [:]
        for key in named.object.keys { prompts[key] = try named.string(key) ?? "" }
      }
      defaultPromptName = try fields.string("default_prompt_name")
      if let name = defaultPromptName, prompts[name] == nil {
        throw fields.refusal("default_prompt_name", "is \"\(name)\", which prompts does not have")
      }
    }
    let positions = configuration.maxPositionEmbeddings
    maximumLength = min(try length(files) ?? positions, positions)
    let fields = try JSONFields(.object(configuration.json), document: files.label(of: "config.json"))
    if let sizes = try fields.integers("matryoshka_dimensions", in: 1...(1 << 20), most: 1 << 12) {
      matryoshkaSizes = sizes
    } else if try fields.bool("is_matryoshka") == true {
      matryoshkaSizes = []
    }
  }

  /// The longest text that the folder allows; nil: it does not say. `sentence_bert_config.json` wins over the tokenizer.
  private mutating func length(_ files: any ModelFiles) throws -> Int? {
    if let json = try files.json(named: "sentence_bert_config.json") {
      let fields = try JSONFields(json, document: files.label(of: "sentence_bert_config.json"))
      lowercases = try fields.bool("do_lower_case") ?? false
      if let most = try fields.integer("max_seq_length", in: 3...(1 << 24)) { return most }
    }
    guard let json = try files.json(named: "tokenizer_config.json") else { return isAssumed ? 512 : nil }
    let fields = try JSONFields(json, document: files.label(of: "tokenizer_config.json"))
    // Tokenizers without a limit say 1e30.
    if let most = try fields.number("model_max_length"), most >= 3, most < 1e7 { return Int(most) }
    return isAssumed ? 512 : nil
  }

  private mutating func read(_ modules: JSONValue, _ files: any ModelFiles) throws {
    let label = files.label(of: "modules.json")
    let list = try JSONFields(.object(JSONObject([("modules", modules)])), document: label)
    normalizes = false
    var hasPooling = false
    for (index, module) in (try list.objects("modules") ?? []).enumerated() {
      let type = try module.requiredString("type")
      let path = try module.string("path") ?? ""
      // Only the last part of the class name is the same in all versions.
      let kind = (type.bytes.split(separator: ".").last ?? type)
      switch (kind, index) {
      case ("Transformer", 0):
        guard path.isEmpty else {
          throw module.refusal("path", "is \"\(path)\"; the encoder is expected in the folder itself")
        }
      case ("Pooling", 1):
        try readPooling(path, files)
        hasPooling = true
      case ("Dense", 2...) where !normalizes: try readDense(path, files)
      case ("Normalize", 2...): normalizes = true
      default:
        throw module.refusal(
          "type",
          "is \"\(type)\" at place \(index); Transformer, Pooling (cls or mean), then Dense and Normalize are supported"
        )
      }
    }
    guard hasPooling else {
      throw JSONFieldError(
        .refused("has no Pooling after the Transformer, so that texts have no vector"), document: label,
        field: "modules")
    }
  }

  private mutating func readPooling(_ path: String, _ files: any ModelFiles) throws {
    let fields = try settings(of: path, files)
    includesPrompt = try fields.bool("include_prompt") ?? true
    var modes: [String] = []
    if let mode = fields["pooling_mode"] {
      modes = mode.stringValue.map { [$0] } ?? mode.arrayValue?.compactMap(\.stringValue) ?? []
    } else {
      for (key, mode) in [
        ("cls_token", "cls"), ("mean_tokens", "mean"), ("max_tokens", "max"),
        ("mean_sqrt_len_tokens", "mean_sqrt_len_tokens"), ("weightedmean_tokens", "weightedmean"),
        ("lasttoken", "lasttoken"),
      ] where try fields.bool("pooling_mode_\(key)") == true { modes.append(mode) }
    }
    guard modes.count == 1, let pooling = Pooling(rawValue: modes[0]) else {
      let found = modes.isEmpty ? "none" : modes.joined(separator: ", ")
      throw fields.refusal("pooling_mode", "is \(found); exactly one of cls and mean is supported")
    }
    self.pooling = pooling
  }

  private mutating func readDense(_ path: String, _ files: any ModelFiles) throws {
    let fields = try settings(of: path, files)
    let activation = try fields.string("activation_function") ?? "torch.nn.modules.activation.Tanh"
    let name = activation.bytes.split(separator: ".").last ?? activation
    guard name == "Tanh" || name == "Identity" else {
      throw fields.refusal("activation_function", "is \"\(activation)\"; Tanh and Identity are supported")
    }
    dense.append(
      Dense(
        folder: path, inFeatures: try fields.requiredInteger("in_features", in: 1...(1 << 20)),
        outFeatures: try fields.requiredInteger("out_features", in: 1...(1 << 20)),
        hasBias: try fields.bool("bias") ?? true, hasTanh: name == "Tanh"))
  }

  private func settings(of folder: String, _ files: any ModelFiles) throws -> JSONFields {
    let name = "\(folder)/config.json"
    guard !folder.isEmpty, let json = try files.json(named: name) else {
      throw FileError(
        .cannotOpen, path: files.label(of: name), detail: "is missing, though modules.json names its folder")
    }
    return try JSONFields(json, document: files.label(of: name))
  }
}
