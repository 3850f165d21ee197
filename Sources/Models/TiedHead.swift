import Architecture
import Files
import Foundation
import Safetensors

/// Whether the output head of a folder's model is its embedding, where `tie_word_embeddings` and the stored tensors say
/// different things. Decided as transformers 5 does: tensors that differ are not tied, whatever the configuration says, and of
/// two tied tensors one may be missing, whichever it is.
package struct TiedHead {
  let embeddingName: String
  let headName: String
  /// The configuration ties, but the head is another matrix.
  private(set) var isSeparate = false
  /// The configuration ties, and only the head is stored.
  private(set) var embeddingIsHead = false
  package private(set) var discrepancy: Discrepancy?

  /// - Throws: when an untied model has no head.
  package init(_ model: ModelConfiguration, _ table: TensorTable) throws {
    let index = TensorIndex(model)
    embeddingName = index.name(of: TensorID(.embedding))
    headName = index.name(of: TensorID(.head))
    let (embedding, head) = (table[embeddingName], table[headName])
    let hasCodes = table["\(index.name(of: ModuleID.head)).qweight"] != nil
    guard model.tieWordEmbeddings else {
      if head == nil, !hasCodes, embedding != nil {
        throw ModelError(.noHead, path: table.path, tensor: headName)
      }
      return
    }
    if hasCodes {
      separate(table.path)
      return
    }
    guard let head else { return }
    guard let embedding else {
      embeddingIsHead = true
      return
    }
    if head.isSame(as: embedding) { return }
    separate(table.path)
  }

  private mutating func separate(_ path: String) {
    isSeparate = true
    discrepancy = Discrepancy(
      .head, path: path,
      "tie_word_embeddings is true, but \(headName) is stored and differs from \(embeddingName); the stored head is used, as "
        + "in transformers. vLLM ignores it: set tie_word_embeddings to false in config.json")
  }
}
