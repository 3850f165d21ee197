import AutoGPTQ
import JSON
import Models
import Safetensors
import Tensors

/// Makes the files people want from the finished layers of a quantization.
package struct QuantizedOutputs {
  package let quantizer: ModelQuantizer
  package let store: LayerStore
  package let contents: ModelContents
  package let zeroPointFormat: ZeroPointFormat
  /// Whether some module's last group is shorter than the others.
  package let hasShortGroups: Bool

  /// - Parameter requestedFormat: nil: v1 for symmetric quantization, v2 otherwise.
  /// - Throws: when v1 was asked for and cannot hold a zero point.
  package init(_ quantizer: ModelQuantizer, store: LayerStore, requestedFormat: ZeroPointFormat? = nil) throws
  {
    self.quantizer = quantizer
    self.store = store
    let recipe = quantizer.recipe
    let c = quantizer.model.decoderConfiguration
    let v2 = recipe.quantizeConfiguration(format: .v2)
    var layouts: [String: IntPanelLayout] = [:]
    var shapes: [String: (layer: Int, out: Int, in: Int)] = [:]
    var hasZero = false
    var short = false
    for layer in 0..<c.layerCount {
      let table = try TensorTable(path: "\(store.path)/layer-\(layer).safetensors")
      for module in DecoderNames.stages(c.qkvLayout).flatMap({ $0 }) {
        let name = "\(DecoderNames.layer(layer)).\(module)"
        let shape = DecoderNames.shape(of: module, c)
        let p = try AutoGPTQModule.parameters(
          name, from: table, configuration: v2, out: shape.out, in: shape.in)
        hasZero = hasZero || p.zeros.contains(0)
        short = short || shape.in % p.groupSize != 0
        layouts[name] = IntPanelLayout(
          bits: recipe.bits, groupSize: p.groupSize, outFeatures: shape.out, inFeatures: shape.in,
          isSymmetric: p.zeros.allSatisfy { $0 == UInt8(1 << (recipe.bits - 1)) },
          isPermuted: p.groupIndex.enumerated().contains { Int($0.element) != $0.offset / p.groupSize })
        shapes[name] = (layer, shape.out, shape.in)
      }
    }
    if requestedFormat == .v1 && hasZero {
      throw QuantizationError(
        "some zero points are 0, which the gptq (v1) format cannot hold; use --checkpoint-format gptq_v2",
        category: .usage)
    }
    zeroPointFormat = requestedFormat ?? (recipe.isSymmetric ? .v1 : .v2)
    hasShortGroups = short
    var contents = try ModelContents(quantizer.model)
    let places = shapes
    contents.quantize(layouts, as: recipe.quantizeConfiguration(format: zeroPointFormat)) { module in
      guard let place = places[module] else { preconditionFailure("no such module: \(module)") }
      return try store.matrix(module, layer: place.layer, out: place.out, in: place.in)
    }
    self.contents = contents
  }

  /// The report: recipe, calibration, and every module's loss, time, damp and dead channels.
  package func report(generator: String, seconds: Double) throws -> JSONValue {
    var modules: [JSONValue] = []
    for layer in 0..<quantizer.model.decoderConfiguration.layerCount {
      modules += try store.reports(layer: layer)
    }
    return [
      "generator": .string(generator), "recipe": quantizer.recipe.json,
      "calibration": [
        "tokens": .init(quantizer.calibration.tokenCount),
        "windows": .init(quantizer.calibration.windows.count),
        "sha256": .string(quantizer.calibration.digest), "sources": quantizer.calibration.report.json,
      ],
      "checkpoint_format": .string(zeroPointFormat.rawValue),
      "seconds": .init((seconds * 1000).rounded() / 1000),
      "total_loss": .init(modules.reduce(0) { $0 + ($1["avg_loss"]?.doubleValue ?? 0) }),
      "diagnosis": .array(
        Diagnosis.findings(modules).map {
          ["module": .string($0.module), "findings": .array($0.findings.map { .string($0) })]
        }),
      "modules": .array(modules),
    ]
  }

  /// What a packed file says about where it came from; nothing in it depends on the clock or the number of threads.
  package func provenance() throws -> JSONObject {
    JSONObject([("quantization", .object(try quantizer.identity()))])
  }
}
