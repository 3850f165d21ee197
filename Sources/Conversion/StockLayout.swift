import Files
import Models
import Transformer

/// Which rows of one layout of the attention's input projections are which of the other.
struct QKVRows {
  /// Rows of the fused matrix that are `q_proj`, `k_proj`, `v_proj`, by their names.
  let parts: [(name: String, ranges: [Range<Int>])]
  /// Rows of q, k and v one after the other that are the fused matrix.
  let fused: [Range<Int>]

  static let fusedName = "qkv_proj"

  init(_ configuration: DecoderConfiguration) {
    var (interleaved, separate) = (configuration, configuration)
    interleaved.qkvLayout = .interleaved
    separate.qkvLayout = .separate
    func head(_ offset: Int) -> Range<Int> { offset..<offset + configuration.headDim }
    let (heads, kvHeads) = (0..<configuration.attentionHeads, 0..<configuration.kvHeads)
    parts = [
      ("q_proj", heads.map { head(interleaved.queryOffset($0)) }),
      ("k_proj", kvHeads.map { head(interleaved.keyOffset($0)) }),
      ("v_proj", kvHeads.map { head(interleaved.valueOffset($0)) }),
    ]
    let group = configuration.queriesPerKV
    fused = kvHeads.flatMap { kv in
      (kv * group..<(kv + 1) * group).map { head(separate.queryOffset($0)) }
        + [head(separate.keyOffset(kv)), head(separate.valueOffset(kv))]
    }
  }
}

/// The layouts a model can be brought into.
package enum ModelLayout: String, CaseIterable, Sendable {
  /// `Qwen2ForCausalLM`: what every engine loads without remote code. The Zhinao decoder is Qwen2's but for the order of
  /// the rows of q, k and v.
  case stock
  /// 360Zhinao's own: `qkv_proj`, tiktoken vocabulary.
  case zhinao = "zhinao-hf"
}

extension ModelContents {
  /// The same model in another layout; nothing is computed, rows change places.
  /// - Throws: when the model has something that the other layout cannot say.
  package func inLayout(_ layout: ModelLayout) throws -> ModelContents {
    switch (layout, configuration.family) {
    case (.stock, .zhinao): try split()
    case (.stock, .llama), (.stock, .qwen2), (.zhinao, .zhinao): self
    case (.zhinao, .qwen2): try fused()
    case (.zhinao, .llama):
      throw ModelError(
        path: path,
        detail: "is a Llama model, which has no biases for queries, keys and values; only a Qwen2 model can "
          + "become a Zhinao model")
    }
  }

  private func split() throws -> ModelContents {
    var result = try replacingFiles(StockFiles(self).stock())
    let rows = QKVRows(DecoderConfiguration(configuration))
    let count = DecoderConfiguration(configuration).qkvWidth
    result.entries = try entries.flatMap { entry -> [ModelEntry] in
      guard entry.name.contains(".self_attn.\(QKVRows.fusedName).") else { return [entry] }
      guard entry.shape.first == count else {
        throw ModelError(
          path: path, tensor: entry.name, detail: "has shape \(entry.shape), expected \(count) rows")
      }
      return rows.parts.map { part in
        let name = entry.name.replacing(".\(QKVRows.fusedName).", with: ".\(part.name).")
        return entry.selectingRows(part.ranges, as: name)
      }
    }
    return try result.ordered()
  }

  private func fused() throws -> ModelContents {
    var result = try replacingFiles(StockFiles(self).zhinao())
    let rows = QKVRows(DecoderConfiguration(configuration))
    let names = rows.parts.map { ".self_attn.\($0.name)." }
    let byName = Dictionary(entries.map { ($0.name, $0) }, uniquingKeysWith: { a, _ in a })
    result.entries = try entries.compactMap { entry in
      guard let index = names.firstIndex(where: entry.name.contains) else { return entry }
      // One of the three stands for all.
      guard index == 0 else { return nil }
      let parts = try names.enumerated().map { part, name in
        let wanted = entry.name.replacing(names[0], with: name)
        let count = rows.parts[part].ranges.reduce(0) { $0 + $1.count }
        guard let found = byName[wanted], found.shape == [count] + entry.shape.dropFirst() else {
          throw ModelError(path: path, tensor: wanted, detail: "is missing or has another shape")
        }
        return found
      }
      let name = entry.name.replacing(names[0], with: ".self_attn.\(QKVRows.fusedName).")
      return try ModelEntry.joiningRows(of: parts, rows.fused, as: name, path: path)
    }
    return try result.ordered()
  }

  private func replacingFiles(_ files: EmbeddedFiles) throws -> ModelContents {
    var result = self
    result.files = files
    result.configuration = try files.modelConfiguration()
    return result
  }

  /// Entries in the order of a forward pass of the configuration, all that it needs being there.
  private func ordered() throws -> ModelContents {
    var result = self
    let order = DecoderTensorOrder(configuration)
    result.entries.sort { (order.rank($0.name), $0.name) < (order.rank($1.name), $1.name) }
    try order.check(result.entries, tied: configuration.tieWordEmbeddings, path: path)
    return result
  }
}
