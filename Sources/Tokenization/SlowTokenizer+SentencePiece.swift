import Files
import JSON

extension SlowTokenizer {
  /// SentencePiece's BPE, or nil when there is no such file.
  func sentencePiece() throws -> JSONValue? {
    guard let bytes = try files.bytes(named: "tokenizer.model") else { return nil }
    let path = files.label(of: "tokenizer.model")
    // transformers builds these from tokenizer.model by rules of their own.
    if let className, ["CodeLlamaTokenizer", "GemmaTokenizer"].contains(className) {
      throw TokenizationError(
        .unsupported(
          "belongs to a \(className), which is not supported; give a folder with tokenizer.json, as transformers saves it"
        ),
        path: path)
    }
    let model = try SentencePieceModel(bytes, path: path)
    return className == "LlamaTokenizer" ? try llama(model) : try asTrained(model, path: path)
  }

  /// As the class `LlamaTokenizer` has it: ids are the order of merging, and the file's normalization counts for nothing.
  private func llama(_ model: SentencePieceModel) throws -> JSONValue {
    var ids: [ByteText: Int] = [:]
    for (id, piece) in model.pieces.enumerated() { ids[piece.text] = id }
    let isLegacy = configuration["legacy"]?.boolValue ?? false
    let addsSpace = configuration["add_prefix_space"]?.boolValue ?? true
    let names = specialTokens(defaults: [
      ("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>"),
    ])
    let order = model.pieces.indices.filter { ids[model.pieces[$0].text] == $0 }
    return document(
      normalizer: .null,
      preTokenizer: SlowTokenizer.metaspace(addsSpace ? isLegacy ? "always" : "first" : "never"),
      decoder: SlowTokenizer.decoder(fallsBackToBytes: true, stripsSpace: addsSpace),
      model: SlowTokenizer.model(
        ids, order.map { model.pieces[$0].text }, isMergeable: { ids[$0] != nil }, unknown: nil,
        fallsBackToBytes: true, ignoresMerges: false),
      added: try addedTokens(
        ids, names: names, others: SlowTokenizer.added(model, kinds: [.control, .userDefined])),
      ids: ids, names: names)
  }

  /// As the file itself says, which transformers follows for every other class.
  private func asTrained(_ model: SentencePieceModel, path: String) throws -> JSONValue {
    guard model.charactersMap.isEmpty else {
      throw TokenizationError(
        .unsupported("normalizes characters (precompiled_charsmap), which is not supported"), path: path)
    }
    // Files of tokens can give other names to pieces that the model only reserves.
    var texts = model.pieces.map(\.text)
    let renamed = try declaredTokens().filter { $0.id < texts.count }
    let renamedIDs = Set(renamed.map(\.id))
    let kept = Set(texts.indices.filter { !renamedIDs.contains($0) }.map { texts[$0].bytes })
    for token in renamed where !kept.contains(token.text.bytes) { texts[token.id] = token.text }
    var ids: [ByteText: Int] = [:]
    for (id, text) in texts.enumerated() { ids[text] = id }
    let isLegacy = configuration["legacy"]?.boolValue ?? true
    func replacement(_ pattern: JSONValue, _ content: String) -> JSONValue {
      ["type": "Replace", "pattern": pattern, "content": .string(content)]
    }
    var normalizers: [JSONValue] = []
    if model.removesExtraSpaces {
      normalizers = [
        replacement(["Regex": #"\A +| +\z"#], ""), replacement(["Regex": " {2,}"], " "),
      ]
    }
    if model.marksSpaces { normalizers.append(replacement(["String": " "], "\u{2581}")) }
    if model.putsSpaceBefore && isLegacy {
      normalizers.append(replacement(["Regex": .string("\\A\u{2581}")], "\u{2581}\u{2581}"))
    }
    var steps: [JSONValue] = []
    if model.putsSpaceBefore { steps.append(SlowTokenizer.metaspace(isLegacy ? "always" : "first")) }
    let userDefined = model.pieces.indices.filter { model.pieces[$0].kind == .userDefined }.map { texts[$0] }
    if !userDefined.isEmpty {
      steps.append([
        "type": "Split", "behavior": "Isolated", "invert": false,
        "pattern": ["Regex": .string(SlowTokenizer.pattern(choosingAmong: userDefined))],
      ])
    }
    let normal = model.pieces.indices.filter { model.pieces[$0].kind == .normal && ids[texts[$0]] == $0 }
    let mergeable = Set(normal.map { texts[$0].bytes })
    let order = normal.sorted { (-model.pieces[$0].score, $0) < (-model.pieces[$1].score, $1) }
    let names = specialTokens(
      defaults: [("bos_token", model.begin), ("eos_token", model.end), ("unk_token", model.unknown)]
        .compactMap {
          $0.1.id >= 0 ? ($0.0, $0.1.text) : nil
        })
    return document(
      normalizer: ["type": "Sequence", "normalizers": .array(normalizers)],
      preTokenizer: steps.isEmpty ? .null : ["type": "Sequence", "pretokenizers": .array(steps)],
      decoder: SlowTokenizer.decoder(
        fallsBackToBytes: model.fallsBackToBytes, stripsSpace: model.putsSpaceBefore),
      model: SlowTokenizer.model(
        ids, order.map { texts[$0] }, isMergeable: { mergeable.contains($0.bytes) },
        unknown: model.unknown.text,
        fallsBackToBytes: model.fallsBackToBytes, ignoresMerges: !userDefined.isEmpty),
      added: try addedTokens(ids, names: names, others: SlowTokenizer.added(model, kinds: [.control])),
      ids: ids, names: names)
  }

  private static func added(_ model: SentencePieceModel, kinds: [SentencePieceModel.Kind]) -> [Token] {
    model.pieces.enumerated().filter { kinds.contains($0.element.kind) }.map { id, piece in
      Token(id: id, text: piece.text, isSpecial: piece.kind == .control, isNormalized: false)
    }
  }

  private static func metaspace(_ scheme: String) -> JSONValue {
    ["type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": .string(scheme), "split": false]
  }

  private static func decoder(fallsBackToBytes: Bool, stripsSpace: Bool) -> JSONValue {
    var steps: [JSONValue] = [
      ["type": "Replace", "pattern": ["String": "\u{2581}"], "content": " "]
    ]
    if fallsBackToBytes { steps.append(["type": "ByteFallback"]) }
    if fallsBackToBytes || stripsSpace { steps.append(["type": "Fuse"]) }
    if stripsSpace { steps.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    return ["type": "Sequence", "decoders": .array(steps)]
  }

  /// - Parameter order: the tokens that are merged, earliest first. Each is every pair of tokens that it can be cut into.
  private static func model(
    _ ids: [ByteText: Int], _ order: [String], isMergeable: (String) -> Bool, unknown: String?,
    fallsBackToBytes: Bool, ignoresMerges: Bool
  ) -> JSONValue {
    let vocabulary = ids.sorted { $0.value < $1.value }.map { ($0.key.text, JSONValue($0.value)) }
    return [
      "type": "BPE", "dropout": nil, "unk_token": unknown.map { .string($0) } ?? .null, "fuse_unk": true,
      "byte_fallback": .bool(fallsBackToBytes), "ignore_merges": .bool(ignoresMerges),
      "vocab": .object(JSONObject(vocabulary)),
      "merges": .array(
        SentencePieceMerges.ways(toMake: order, of: isMergeable).map { [.string($0), .string($1)] }),
    ]
  }

  /// The longest of the literals that stands somewhere.
  private static func pattern(choosingAmong literals: [String]) -> String {
    literals.sorted { $0.unicodeScalars.count > $1.unicodeScalars.count }.map { literal in
      var escaped = String.UnicodeScalarView()
      for scalar in literal.unicodeScalars {
        if "\\.^$*+?()[]{}|".unicodeScalars.contains(scalar) { escaped.append("\\") }
        escaped.append(scalar)
      }
      return String(escaped)
    }.joined(separator: "|")
  }
}
