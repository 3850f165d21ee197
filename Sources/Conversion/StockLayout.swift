import Architecture
import Files
import Models

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
    let family = configuration.family
    switch layout {
    case .stock: return family.stockLayout == family ? self : try split()
    case .zhinao:
      if family == .zhinao { return self }
      if family == ModelFamily.zhinao.stockLayout { return try fused() }
      throw ConversionError(
        .notAZhinaoDecoder(family: family.name, expected: ModelFamily.zhinao.stockLayout.name), path: path)
    }
  }

  private func split() throws -> ModelContents {
    var result = try replacingFiles(StockFiles(self).stock())
    let rows = QKVRows(configuration.decoder)
    let count = configuration.decoder.qkvWidth
    result.entries = try entries.flatMap { entry -> [ModelEntry] in
      guard let id = entry.key.id, id.module.kind == .fusedQKV else { return [entry] }
      guard entry.shape == index.tensor(id)?.shape else {
        throw ConversionError(
          .fusedRows(found: entry.shape, expected: count), path: path, tensor: index.name(of: id))
      }
      return rows.parts.map { part in
        entry.selectingRows(part.ranges, as: .known(TensorID(part.kind, id.part, layer: id.module.layer)))
      }
    }
    try result.order()
    return result
  }

  private func fused() throws -> ModelContents {
    var result = try replacingFiles(StockFiles(self).zhinao())
    let rows = QKVRows(configuration.decoder)
    let byKey = Dictionary(entries.map { ($0.key, $0) }, uniquingKeysWith: { a, _ in a })
    result.entries = try entries.compactMap { entry in
      guard let id = entry.key.id, rows.parts.contains(where: { $0.kind == id.module.kind }) else {
        return entry
      }
      // The first of the three names produces the fused tensor; the other two are skipped.
      guard id.module.kind == rows.parts[0].kind else { return nil }
      let ids = rows.parts.map { TensorID($0.kind, id.part, layer: id.module.layer) }
      let parts = try zip(rows.parts, ids).map { part, id in
        let count = part.ranges.reduce(0) { $0 + $1.count }
        let shape = index.tensor(id)?.shape ?? [count]
        guard let found = byKey[.known(id)], found.shape == shape else {
          throw ConversionError(.partMissing(expected: shape), path: path, tensor: index.name(of: id))
        }
        return found
      }
      return try ModelEntry.joiningRows(
        of: parts, rows.fused, as: .known(TensorID(.fusedQKV, id.part, layer: id.module.layer)),
        names: ids.map(index.name(of:)).joined(separator: ", "), path: path)
    }
    try result.order()
    return result
  }

  /// The same weights with other files, and the configuration that is among them.
  func replacingFiles(_ files: EmbeddedFiles) throws -> ModelContents {
    var result = self
    result.files = files
    result.configuration = try files.modelConfiguration()
    return result
  }
}
