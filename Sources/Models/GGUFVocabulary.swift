import Architecture
import Files
import GGUF
import Tokenization

/// A tokenizer and chat template as metadata of a GGUF file.
package struct GGUFVocabulary {
  package private(set) var fields: [(String, GGUFField)] = []
  /// What llama.cpp does otherwise than the model's own tokenizer.
  package private(set) var notes: [String] = []
  /// Ids put before and after every text.
  private var prefix: [Int] = []
  private var suffix: [Int] = []

  /// - Parameter files: where the tokenizer came from; also configuration and template.
  package init(
    _ tokenizer: any Tokenizer, files: any ModelFiles, configuration c: ModelConfiguration
  ) throws {
    let isZhinao = tokenizer is ZhinaoTokenizer
    if let zhinao = tokenizer as? ZhinaoTokenizer {
      try addBytePairs(try BytePairTables(zhinao), files, c)
    } else if let document = try TokenizerLoader.document(files) {
      let (json, path) = (document.json, document.path)
      if let pieces = try SentencePieceTables(json, path: path) {
        try addSentencePieces(pieces, files, c)
      } else if let ranks = try? ZhinaoTokenizerJSON.vocabulary(json, path: path) {
        // A Zhinao model in the stock layout: its own tokenizer knows what the replacements mean.
        try addBytePairs(try BytePairTables(ZhinaoTokenizer(vocabulary: ranks, path: path)), files, c)
      } else {
        try addBytePairs(try BytePairTables(json, path: path), files, c)
      }
    } else {
      throw ModelError(.noMerges, path: files.location)
    }
    try addSpecials(tokenizer, files, c)
    if let template = try GGUFVocabulary.template(tokenizer, files, isZhinao: isZhinao) {
      fields.append(("tokenizer.chat_template", .string(template)))
    }
  }

  private mutating func addBytePairs(
    _ tables: BytePairTables, _ files: any ModelFiles, _ c: ModelConfiguration
  ) throws {
    guard
      let name = GGUFPreTokenizer.name(steps: tables.steps, ignoresMerges: tables.ignoresMerges)
        ?? GGUFPreTokenizer.name(steps: tables.steps, ignoresMerges: false)
    else { throw ModelError(.unknownPreTokenizer, path: files.location) }
    if let form = GGUFPreTokenizer(name: name), tables.ignoresMerges, !form.ignoresMerges {
      notes.append("tokens that are no result of merging are never used")
    }
    notes += tables.omissions.map { "not reproduced: \($0)" }
    fields = [("tokenizer.ggml.model", .string("gpt2")), ("tokenizer.ggml.pre", .string(name))]
    try addTokens(
      tables.tokens.map { entry in
        entry.map { ($0.text, $0.kind == .normal ? .normal : $0.kind == .special ? .control : .userDefined) }
      }, files, c)
    fields.append(("tokenizer.ggml.merges", .strings(tables.merges.map { "\($0.left) \($0.right)" })))
    (prefix, suffix) = (tables.prefix, [])
  }

  private mutating func addSentencePieces(
    _ tables: SentencePieceTables, _ files: any ModelFiles, _ c: ModelConfiguration
  ) throws {
    notes += tables.omissions.map { "not reproduced: \($0)" }
    // The name means nothing for this kind; llama.cpp's own converter writes it.
    fields = [("tokenizer.ggml.model", .string("llama")), ("tokenizer.ggml.pre", .string("default"))]
    try addTokens(
      tables.tokens.map { entry in
        entry.map { entry in
          switch entry.kind {
          case .normal: (entry.text, .normal)
          case .unknown: (entry.text, .unknown)
          case .byte: (entry.text, .byte)
          case .special: (entry.text, .control)
          case .added: (entry.text, .userDefined)
          }
        }
      }, files, c)
    // llama.cpp's own number for rows without a token.
    let scores = (0..<c.vocabularySize).map { id in
      id < tables.tokens.count ? tables.tokens[id]?.score ?? -10000 : -10000
    }
    fields += [
      ("tokenizer.ggml.scores", .float32s(scores)),
      ("tokenizer.ggml.add_space_prefix", .bool(tables.putsSpaceBefore)),
    ]
    if let unknown = tables.unknown, unknown < c.vocabularySize {
      fields.append(("tokenizer.ggml.unknown_token_id", .uint32(UInt32(unknown))))
    }
    (prefix, suffix) = (tables.prefix, tables.suffix)
  }

  /// Every row of the embedding gets a token, and no token is without a row.
  private mutating func addTokens(
    _ tokens: [(text: String, kind: GGUFTokenizer.Kind)?], _ files: any ModelFiles, _ c: ModelConfiguration
  ) throws {
    let rows = (0..<c.vocabularySize).map { id in
      (id < tokens.count ? tokens[id] : nil) ?? ("[PAD\(id)]", .unused)
    }
    guard Set(rows.map(\.text.bytes)).count == rows.count else {
      throw ModelError(.tokensWithSameText, path: files.location)
    }
    fields += [
      ("tokenizer.ggml.tokens", .strings(rows.map(\.text))),
      ("tokenizer.ggml.token_type", .int32s(rows.map(\.kind.rawValue))),
    ]
    for (id, token) in tokens.enumerated().dropFirst(c.vocabularySize) {
      guard let token else { continue }
      notes.append(
        "token \(token.text) is left out: its id \(id) is beyond the \(c.vocabularySize) rows of the embedding"
      )
    }
  }

  /// Ids that begin and end texts. llama.cpp stops at three kinds of end: of the text, of a turn, of a message.
  private mutating func addSpecials(
    _ tokenizer: any Tokenizer, _ files: any ModelFiles, _ c: ModelConfiguration
  ) throws {
    func put(_ name: String, _ id: Int?) {
      guard let id, id >= 0, id < c.vocabularySize else { return }
      fields.append(("tokenizer.ggml.\(name)_token_id", .uint32(UInt32(id))))
    }
    let generation = try files.generationConfiguration()
    var ends: [Int] = []
    let template = try ChatTemplate.detected(tokenizer: tokenizer, files: files)
    for id in c.eosTokenIDs + generation.eosTokenIDs + (template?.stopTokens(tokenizer) ?? [])
    where !ends.contains(id) && id >= 0 && id < c.vocabularySize {
      ends.append(id)
    }
    put("bos", prefix.count == 1 ? prefix[0] : c.json["bos_token_id"]?.intValue)
    for (name, id) in zip(["eos", "eot", "eom"], ends) { put(name, id) }
    if ends.count > 3 { notes.append("ends of text beyond the third are left out: \(ends.dropFirst(3))") }
    put(
      "padding", generation.padTokenID ?? c.json["pad_token_id"]?.intValue ?? tokenizer.specialTokens["<pad>"]
    )
    fields.append(("tokenizer.ggml.add_bos_token", .bool(prefix.count == 1)))
    if suffix.count == 1, suffix[0] == ends.first {
      fields.append(("tokenizer.ggml.add_eos_token", .bool(true)))
    } else if !suffix.isEmpty {
      notes.append("not reproduced: tokens put after every text")
    }
    if prefix.count > 1 {
      notes.append("only one token can be put before every text; it has \(prefix.count)")
    }
  }

  private static func template(_ tokenizer: any Tokenizer, _ files: any ModelFiles, isZhinao: Bool) throws
    -> String?
  {
    if let own = try ModelTemplate(files) { return own.source }
    guard case .chatML(let system)? = try ChatTemplate.detected(tokenizer: tokenizer, files: files) else {
      return nil
    }
    let opening =
      system.map {
        "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n\($0)<|im_end|>\\n' }}{% endif %}"
      } ?? ""
    return opening
      + "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
      + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
  }
}
