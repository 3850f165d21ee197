import Architecture
import Files
import GGUF
import Tokenization

/// A tokenizer and chat template as metadata of a GGUF file.
package struct GGUFVocabulary {
  package private(set) var fields: [(String, GGUFField)]
  /// What llama.cpp does otherwise than the model's own tokenizer.
  package private(set) var notes: [String] = []

  /// - Parameter files: where the tokenizer came from; also configuration and template.
  package init(
    _ tokenizer: any Tokenizer, files: any ModelFiles, configuration c: ModelConfiguration
  ) throws {
    let tables = try GGUFVocabulary.tables(tokenizer, files)
    func bad(_ reason: ModelError.Reason) -> ModelError { ModelError(reason, path: files.location) }
    guard let name = GGUFVocabulary.preTokenizer(tables) else {
      throw bad(.unknownPreTokenizer)
    }
    let isZhinao = tokenizer is ZhinaoTokenizer
    if let form = GGUFPreTokenizer(name: name), tables.ignoresMerges, !form.ignoresMerges {
      notes.append("tokens that are no result of merging are never used")
    }
    notes += tables.omissions.map { "not reproduced: \($0)" }

    fields = [
      ("tokenizer.ggml.model", .string("gpt2")), ("tokenizer.ggml.pre", .string(name)),
    ]
    // Every row of the embedding needs a token.
    var tokens: [String] = []
    var kinds: [Int32] = []
    for id in 0..<c.vocabularySize {
      let entry = id < tables.tokens.count ? tables.tokens[id] : nil
      tokens.append(entry?.text ?? "[PAD\(id)]")
      let kind: GGUFTokenizer.Kind =
        switch entry?.kind {
        case .normal: .normal
        case .special: .control
        case .added: .userDefined
        case nil: .unused
        }
      kinds.append(kind.rawValue)
    }
    guard Set(tokens.map(\.bytes)).count == tokens.count else {
      throw bad(.tokensWithSameText)
    }
    fields += [
      ("tokenizer.ggml.tokens", .strings(tokens)), ("tokenizer.ggml.token_type", .int32s(kinds)),
      ("tokenizer.ggml.merges", .strings(tables.merges.map { "\($0.left) \($0.right)" })),
    ]
    try addSpecials(tokenizer, files, c, tables.prefix)
    if let template = try GGUFVocabulary.template(tokenizer, files, isZhinao: isZhinao) {
      fields.append(("tokenizer.chat_template", .string(template)))
    }
  }

  private static func tables(_ tokenizer: any Tokenizer, _ files: any ModelFiles) throws -> BytePairTables {
    if let zhinao = tokenizer as? ZhinaoTokenizer { return try BytePairTables(zhinao) }
    guard let json = try TokenizerLoader.document(files) else {
      throw ModelError(.noMerges, path: files.location)
    }
    // A Zhinao model in the stock layout: its own tokenizer knows what the replacements mean.
    if let ranks = try? ZhinaoTokenizerJSON.vocabulary(json, path: files.label(of: "tokenizer.json")) {
      return try BytePairTables(
        ZhinaoTokenizer(vocabulary: ranks, path: files.label(of: "tokenizer.json")))
    }
    return try BytePairTables(json, path: files.label(of: "tokenizer.json"))
  }

  private static func preTokenizer(_ tables: BytePairTables) -> String? {
    GGUFPreTokenizer.name(steps: tables.steps, ignoresMerges: tables.ignoresMerges)
      ?? GGUFPreTokenizer.name(steps: tables.steps, ignoresMerges: false)
  }

  /// Ids that begin and end texts. llama.cpp stops at three kinds of end: of the text, of a turn, of a message.
  private mutating func addSpecials(
    _ tokenizer: any Tokenizer, _ files: any ModelFiles, _ c: ModelConfiguration, _ prefix: [Int]
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
