import Foundation
import Models
import Safetensors
import TestSupport
import Testing

@Suite struct LogitGoldens {
  /// Transformers in fp32 on the same weights, q, k, v de-interleaved.
  @Test(arguments: ["tiny-zhinao", "tiny-zhinao-gqa"])
  func agreeWithTransformers(name: String) throws {
    let model = try OpenedModel(path: name == "tiny-zhinao" ? Fixture.tinyZhinao : Fixture.path(name))
    let decoder = try model.decoder()
    let golden = try SafetensorsFile(path: Fixture.path("golden/logits-\(name).safetensors"))
    var worst: Float = 0
    var prompts = 0
    while let idTensor = golden.tensor("prompt\(prompts).input_ids") {
      let ids = golden.bytes(of: idTensor).bindMemory(to: Int32.self).map { Int($0) }
      let expected = golden.bytes(of: try #require(golden.tensor("prompt\(prompts).logits")))
      let hidden = decoder.hiddenStates(windows: [ids])
      let logits = decoder.logits(hidden, rows: 0..<ids.count)
      for i in 0..<logits.count {
        worst = max(worst, abs(logits[i] - expected.loadUnaligned(fromByteOffset: i * 4, as: Float.self)))
      }
      prompts += 1
    }
    #expect(prompts > 0)
    #expect(worst <= 2e-4, "largest difference \(worst)")
  }
}
