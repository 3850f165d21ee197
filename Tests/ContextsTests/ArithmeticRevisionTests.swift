import Architecture
import Compute
import Files
import Tensors
import TestSupport
import Testing
import Transformer

/// Keys and values have the bits that files of this ``ArithmeticRevision`` have.
@Suite struct ArithmeticRevisionTests {
  /// SHA-256 of all planes of a cache.
  private static let recorded: [Int4Arithmetic: [KVCacheType: String]] = [
    .exact: [
      .f32: "8a84cbae2f808ad28f6abf4fac6e6251d43762f613e547c8d03f1a505490e0de",
      .f16: "804fd05357de44f86719106d9d159e33f08ff2557cbba2435b63c17128f8e5db",
      .int8: "ddee683666d2dd5cb83a9b9b9c6a25eabc51a53d3f90a58d2251a657dc7537e1",
      .int4: "971791b20a537df9cdcb0863f4da52d2da519960b9cbd6a897d43c38f8da64bc",
    ],
    .fast: [
      .f32: "0f9729662b61c01d2c9cd677b0a55489897115a4dd6f11f38b9c5cfc697b4a4c",
      .f16: "6ec088abef2dc86e730ff80954d7c5e57eaadab4db3657fe15790cafff9a0f40",
      .int8: "2dfb2558552282f4bf12b4faf5b4d26bc154d09d1886fdb6f93d441c8013c0ba",
      .int4: "056894e41defe1e4e32b1b4bed659206350fc5cce92ee7df6fcda70ccb1874be",
    ],
    .q8: [
      .f32: "de691704ab9a760120a7cefd6168144f831b6325503d57800c448b79e94c1974",
      .f16: "706b87e155dbf5824e78990c241e1163a043f56f2ab84687fb518becd064166c",
      .int8: "ceff04830597a45b805912dc1753627cb9e5f87748f5e89681072654bfa3be77",
      .int4: "6efcf4fda0ac12a6ec133090a2e9a607ea6c89e3079e7d4bc46edda812fc7c02",
    ],
  ]

  /// A decoder of two layers with weights in 4 bits, and inputs with outliers.
  private static func decoder(_ arithmetic: Int4Arithmetic) -> Decoder {
    let c = DecoderConfiguration(
      hiddenSize: 128, intermediateSize: 96, layerCount: 2, attentionHeads: 4, kvHeads: 2, headDim: 32,
      vocabularySize: 70, contextLength: 2048, rmsNormEps: 1e-5,
      rotary: RotaryParameters(theta: 5e7, rotaryDim: 32), qkvLayout: .separate)
    var random = SplitMix64(seed: 360)
    func floats(_ count: Int, _ range: ClosedRange<Float>) -> AlignedBuffer<Float> {
      AlignedBuffer((0..<count).map { _ in Float.random(in: range, using: &random) })
    }
    func linear(_ out: Int, _ inputs: Int) -> Linear {
      let matrix = randomMatrix(
        bits: 4, symmetric: false, permuted: false, out: out, inputs: inputs, group: 32)
      return Linear(weight: .intPanels(IntPanels.inMemory(matrix)), arithmetic: arithmetic)
    }
    func norm() -> AlignedBuffer<Float> {
      let weights = floats(c.hiddenSize, 0.7...1.3)
      weights[5] = 40
      return weights
    }
    let layers = (0..<c.layerCount).map { _ in
      var qkv = linear(c.qkvWidth, c.hiddenSize)
      qkv.bias = floats(c.qkvWidth, -0.3...0.3)
      return DecoderLayer(
        inputNorm: norm(), qkv: .fused(qkv), o: linear(c.hiddenSize, c.attentionWidth),
        postAttentionNorm: norm(), gate: linear(c.intermediateSize, c.hiddenSize),
        up: linear(c.intermediateSize, c.hiddenSize), down: linear(c.hiddenSize, c.intermediateSize))
    }
    let embedding = floats(c.vocabularySize * c.hiddenSize, -1...1)
    return Decoder(
      configuration: c,
      embedding: .rows(
        RowMatrix(
          elements: UnsafeRawPointer(embedding.pointer), dtype: .f32, outFeatures: c.vocabularySize,
          inFeatures: c.hiddenSize, owner: embedding)),
      layers: layers, finalNorm: norm(), head: linear(c.vocabularySize, c.hiddenSize),
      attention: arithmetic == .fast ? .fast : .exact)
  }

  /// If it fails, keys and values have other bits than before: raise ``ArithmeticRevision/current``, add the revision to
  /// `Formats/saved-context.md`, and record what they are now.
  @Test(arguments: Int4Arithmetic.allCases)
  func keysAndValuesHaveTheBitsOfTheRevision(arithmetic: Int4Arithmetic) {
    #expect(ArithmeticRevision.current == 1, "record the digests of the new revision, and its number here")
    let decoder = Self.decoder(arithmetic)
    var random = SplitMix64(seed: 33)
    let tokens = (0..<704).map { _ in Int.random(in: 0..<70, using: &random) }
    for type in KVCacheType.allCases {
      let cache = decoder.makeCache(capacity: tokens.count, type: type)
      _ = decoder.hiddenStates(tokens, cache: cache)
      var bytes: [UInt8] = []
      for layer in 0..<cache.layerCount {
        for (kind, plane) in type.planes(decoder.configuration).enumerated() {
          for number in 0..<plane.count {
            bytes += cache.plane(kind, number: number, layer: layer).prefix(plane.byteCount(tokens.count))
          }
        }
      }
      let digest = bytes.withUnsafeBytes { Checksum.sha256($0) }
      #expect(digest == Self.recorded[arithmetic]?[type], "\(arithmetic) \(type)")
    }
  }
}
