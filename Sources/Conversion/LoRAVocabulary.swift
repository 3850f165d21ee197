import Adapters
import Architecture
import Compute
import Files
import JSON
import Models
import Safetensors
import Tensors
import Tokenization

/// Embedding and head under an adapter: they may be tied, they may be trained as a whole, and they may have another number of rows
/// than the base model's.
struct LoRAVocabulary {
  let base: ModelContents
  let adapter: LoRAAdapter
  let dtype: DType?
  let note: (String) -> Void

  private enum Side { case embedding, head }

  private func name(_ side: Side) -> ByteText { base.index.name(of: id(side)).bytes }
  private func id(_ side: Side) -> TensorID { TensorID(side == .embedding ? .embedding : .head) }
  private func module(_ side: Side) -> ByteText { base.index.name(of: id(side).module).bytes }
  private var path: String { base.path }

  /// The names of tensors and modules that ``merged()`` has taken care of.
  var names: Set<ByteText> { [name(.embedding), name(.head)] }

  /// Updates of single modules that still have to be added.
  func updates() -> [ByteText: LoRAAdapter.Update] {
    guard base.configuration.tieWordEmbeddings && adapter.keepsTies else { return adapter.updates }
    // Both have the same update; the embedding's stands for both.
    var updates = adapter.updates
    if let ofHead = updates.removeValue(forKey: module(.head)), updates[module(.embedding)] == nil {
      updates[module(.embedding)] = ofHead
    }
    return updates
  }

  /// The model with the adapter's embedding and head, its configuration and tokenizer as they must be then.
  /// - Throws: ``ConversionError``.
  func merged() throws -> ModelContents {
    var result = base
    guard let place = result.entries.firstIndex(where: { $0.key == .known(id(.embedding)) }) else {
      return result
    }
    let old = result.entries[place]
    let tied = base.configuration.tieWordEmbeddings
    let isUntied = tied && headBecomesItsOwn
    let saved = adapter.replacements[name(.embedding)]
    let shared = adapter.originals[name(.embedding)] ?? (tied ? adapter.originals[name(.head)] : nil)
    let embedding = try entry(
      .embedding, saved ?? (tied && !isUntied ? adapter.replacements[name(.head)] : nil) ?? shared,
      instead: old)
    result.entries[place] = embedding
    if !tied || isUntied {
      let headPlace = result.entries.firstIndex { $0.key == .known(id(.head)) }
      let tensor =
        adapter.replacements[name(.head)] ?? adapter.originals[name(.head)] ?? (tied ? shared : nil)
      let before = tied ? old : headPlace.map { result.entries[$0] }
      guard let before else { return result }
      let head = try fitted(try entry(.head, tensor, instead: before), to: embedding)
      if let headPlace { result.entries[headPlace] = head } else { result.entries.append(head) }
    }
    if isUntied {
      // An embedding that is only looked up is not kept in panels.
      result.entries[place] = result.entries[place].inRows
      note(
        "\(adapter.path): trains one of two tied matrices, or both apart; \(name(.head)) is written beside the embedding, with "
          + "tie_word_embeddings false")
    }
    return try withFiles(result, rows: embedding.shape.first ?? 0, isTied: tied && !isUntied)
  }

  /// Whether a head that was the embedding differs from it after the merge.
  private var headBecomesItsOwn: Bool {
    if adapter.keepsTies { return false }
    func isUpdated(_ side: Side) -> Bool { adapter.updates[module(side)] != nil }
    if isUpdated(.embedding) || isUpdated(.head) || adapter.rows[module(.head)] != nil { return true }
    func differ(_ tensors: [ByteText: StoredTensor], absent: Bool) -> Bool {
      switch (tensors[name(.embedding)], tensors[name(.head)]) {
      case (let a?, let b?): !a.isSame(as: b)
      case (nil, nil): false
      default: absent
      }
    }
    // What was saved apart was trained apart; the base model's own was saved once or twice.
    return differ(adapter.replacements, absent: true) || differ(adapter.originals, absent: false)
  }

  /// The entry of one side: the adapter's tensor, or what was there before.
  private func entry(_ side: Side, _ tensor: StoredTensor?, instead old: ModelEntry) throws -> ModelEntry {
    guard let tensor else {
      var entry = side == .head && old.key != .known(id(.head)) ? old.inRows : old
      entry.key = .known(id(side))
      return entry
    }
    guard let stored = old.dtype, [.f32, .f16, .bf16].contains(stored) else {
      throw ConversionError(.baseInIntegers, path: path, tensor: name(side).text)
    }
    guard tensor.shape.count == 2, tensor.shape[1] == old.shape.last, tensor.shape[0] > 0 else {
      throw AdapterError(
        .replacementDoesNotFit(shape: tensor.shape, base: old.shape), path: adapter.path, tensor: tensor.name)
    }
    let type = dtype ?? stored
    return ModelEntry(
      key: .known(id(side)), shape: tensor.shape, form: .made(type) { try rounded(tensor, to: type) })
  }

  /// A head with the rows of the embedding.
  private func fitted(_ head: ModelEntry, to embedding: ModelEntry) throws -> ModelEntry {
    let (found, wanted) = (head.shape.first ?? 0, embedding.shape.first ?? 0)
    if found == wanted { return head }
    // Rows at the end were given up for both, as when a padded vocabulary is cut to its tokens.
    if found > wanted && head.dtype != nil && adapter.replacements[name(.head)] == nil
      && base.configuration.tieWordEmbeddings
    {
      return head.selectingRows([0..<wanted], as: head.key)
    }
    throw ConversionError(.vocabulariesDiffer(embedding: wanted, head: found), path: adapter.path)
  }

  // MARK: Files

  private func withFiles(_ contents: ModelContents, rows: Int, isTied: Bool) throws -> ModelContents {
    let old = contents.configuration
    let isResized = rows != old.vocabularySize
    guard isResized || isTied != old.tieWordEmbeddings else {
      noteOtherTemplate()
      return contents
    }
    var files: [ByteText: [UInt8]] = [:]
    let tokenizer = isResized ? adapterTokenizer : []
    for name in contents.files.names
    where ModelFileNames.belongsToModel(name) && (tokenizer.isEmpty || !LoRAVocabulary.isOfTokenizer(name)) {
      files[name] = try contents.files.bytes(named: name)
    }
    for name in tokenizer { files[name] = try adapter.files.bytes(named: name) }
    var object = old.json
    object["tie_word_embeddings"] = .bool(isTied)
    object["vocab_size"] = .init(rows)
    files["config.json"] = Array((JSONValue.object(object).serialized(indent: 2) + "\n").utf8)
    if isResized {
      note(
        "\(adapter.path): the vocabulary has \(rows) rows, the base model's \(old.vocabularySize); "
          + (tokenizer.isEmpty
            ? "the adapter has no tokenizer, the base model's is written"
            : "the adapter's tokenizer is written"))
    } else {
      noteOtherTemplate()
    }
    return try contents.replacingFiles(EmbeddedFiles(location: contents.files.location, contents: files))
  }

  /// The tokenizer's files in the adapter's folder; empty when there is none.
  private var adapterTokenizer: [String] {
    let names = adapter.files.names.filter(LoRAVocabulary.isOfTokenizer)
    let isThere = names.contains { name in
      ["tokenizer.json", "vocab.json", "tokenizer.model"].contains { name.hasSameBytes(as: $0) }
        || name.bytes.hasSuffix(".tiktoken")
    }
    return isThere ? names : []
  }

  private static func isOfTokenizer(_ name: String) -> Bool {
    let others: Set<ByteText> = ["config.json", "generation_config.json", "quantize_config.json"]
    let text = name.bytes
    if text.contains("/") && !text.hasPrefix("vocab/") && !text.hasPrefix("additional_chat_templates/") {
      return false
    }
    return ModelFileNames.belongsToModel(name) && !others.contains(text) && !text.hasSuffix(".py")
      && !text.hasPrefix("LICENSE") && !text.hasPrefix("NOTICE")
  }

  /// Says so when the adapter was trained with another chat template than the base model has.
  private func noteOtherTemplate() {
    guard let own = try? ModelTemplate(adapter.files),
      (try? ModelTemplate(base.files))??.source.hasSameBytes(as: own.source) != true
    else { return }
    note(
      "\(adapter.path): has another chat template than the base model, whose template is written; copy the adapter's "
        + "over it if the adapter was trained with it")
  }
}

extension ModelEntry {
  /// The same floats in rows.
  fileprivate var inRows: ModelEntry {
    guard case .panels(let type, _) = form else { return self }
    var result = self
    result.form = .made(type) { [self] in try rowMajorBytes() }
    return result
  }
}
