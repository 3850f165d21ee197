import Compute
import Foundation
import Models
import Safetensors
import TestSupport
import Testing
import Transformer

@Suite struct LogitGoldens {
  /// Transformers in fp32 on the same weights, q, k, v de-interleaved. A logit is at most 12.7, where floats lie 9.5e-7 apart, and
  /// the two sum the products of 128 and 256 channels in different orders; transformers also rounds the angles of positions to
  /// fp32. Kernels give the same bits on every instruction set and with any number of threads, so that the bound needs no margin
  /// for the machine; 1.622e-5 was found.
  @Test(arguments: ["tiny-zhinao", "tiny-zhinao-gqa"])
  func agreeWithTransformers(name: String) throws {
    let model = try OpenedModel(path: name == "tiny-zhinao" ? Fixture.tinyZhinao : Fixture.path(name))
    let golden = try SafetensorsFile(path: Fixture.path("golden/logits-\(name).safetensors"))
    for isa in InstructionSet.runnable {
      for threads in 1...3 {
        let pool = WorkerPool(threads: threads, kernels: try #require(Kernels(for: isa)))
        let worst = try Self.largestDifference(model.decoder(pool: pool), golden)
        #expect(worst <= 1.7e-5, "\(isa), \(threads) threads: \(worst)")
      }
    }
  }

  static func largestDifference(_ decoder: Decoder, _ golden: SafetensorsFile) throws -> Float {
    var worst: Float = 0
    var prompts = 0
    while let idTensor = golden.tensor("prompt\(prompts).input_ids") {
      let ids = golden.bytes(of: idTensor).bindMemory(to: Int32.self).map { Int($0) }
      let expected = golden.bytes(of: try #require(golden.tensor("prompt\(prompts).logits")))
      let hidden = decoder.hiddenStates(windows: [ids])
      let logits = decoder.logits(hidden, rows: 0..<ids.count)
      for i in 0..<logits.count {
        let difference = abs(logits[i] - expected.loadUnaligned(fromByteOffset: i * 4, as: Float.self))
        // A value that is no number is the worst.
        if !(difference <= worst) { worst = difference }
      }
      prompts += 1
    }
    try #require(prompts > 0)
    return worst
  }
}
