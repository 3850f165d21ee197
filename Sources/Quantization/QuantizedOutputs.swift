import Architecture
import AutoGPTQ
import JSON
import Models
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
  /// - Throws: ``QuantizationError/zeroPointOfZero`` when v1 was asked for and cannot hold a zero point.
  package init(_ quantizer: ModelQuantizer, store: LayerStore, requestedFormat: ZeroPointFormat? = nil) throws
  {
    self.quantizer = quantizer
    self.store = store
    let recipe = quantizer.recipe
    let index = TensorIndex(quantizer.model.configuration)
    var tensors: [ModuleID: IntPanelTensor] = [:]
    for module in index.projections {
      tensors[module] = try store.tensor(
        index.name(of: module), layer: module.layer ?? 0, shape: index.shape(of: module))
    }
    if requestedFormat == .v1, tensors.values.contains(where: { $0.zeros.contains(0) }) {
      throw QuantizationError.zeroPointOfZero
    }
    zeroPointFormat = requestedFormat ?? (recipe.isSymmetric ? .v1 : .v2)
    hasShortGroups = tensors.values.contains { $0.layout.inFeatures % $0.layout.groupSize != 0 }
    var contents = quantizer.contents
    contents.quantize(tensors, as: recipe.quantizeConfiguration(format: zeroPointFormat)) {
      store.releasePages()
    }
    self.contents = contents
  }

  /// The report: recipe, calibration, and every module's loss, time, damp and dead channels.
  package func report(generator: String, seconds: Double) throws -> QuantizationReport {
    let layers = 0..<quantizer.model.configuration.hiddenLayers
    return QuantizationReport(
      generator: generator, recipe: quantizer.recipe, calibration: quantizer.calibration,
      zeroPointFormat: zeroPointFormat, seconds: seconds,
      modules: try layers.flatMap { try store.reports(layer: $0) }, hasShortGroups: hasShortGroups)
  }

  /// What a packed file says about where it came from; nothing in it depends on the clock or the number of threads.
  package func provenance() throws -> JSONObject {
    JSONObject([("quantization", .object(try quantizer.identity()))])
  }
}
