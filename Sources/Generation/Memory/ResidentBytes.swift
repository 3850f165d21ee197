import Foundation
import Models

extension OpenedModel {
  /// Bytes of the files that hold the model's weights: what they take in memory when all of them are mapped.
  package var weightFileBytes: Int {
    func size(_ path: String) -> Int {
      ((try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? Int) ?? 0
    }
    switch kind {
    case .packed, .gguf: return size(path)
    case .checkpoint, .autoGPTQ:
      let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
      return names.filter { $0.hasSuffix(".safetensors") }.reduce(0) { $0 + size("\(path)/\($1)") }
    }
  }
}
