import Foundation
import Models
import TestSupport
import Testing

@Suite struct WeightFileTests {
  /// Every kind of model counts in the server's memory plan with the bytes of its weights.
  @Test func everyKindOfFileCounts() throws {
    func size(_ path: String) throws -> Int {
      try #require(try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int)
    }
    let gguf = Fixture.path("gguf/llama.gguf")
    #expect(try OpenedModel(path: gguf).store.residentBytes >= size(gguf))
    #expect(try size(gguf) > 0)
    let folder = Fixture.path("tiny-zhinao-gqa")
    let parts = (1...2).map { "\(folder)/model-0000\($0)-of-00002.safetensors" }
    #expect(try OpenedModel(path: folder).store.residentBytes == parts.reduce(0) { try $0 + size($1) })
  }
}
