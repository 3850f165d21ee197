import Foundation
import Generation
import Models
import Tensors
import Tokenization

extension ServedModel {
  /// How a server divides its machine between models and requests.
  package struct Resources: Sendable {
    package var memoryLimit: Int
    package var context: Int?
    package var parallel: Int
    package var queue: Int
    package var arithmetic: Int4Arithmetic
    package var caches: CacheChoice

    package init(
      memoryLimit: Int, context: Int?, parallel: Int, queue: Int, arithmetic: Int4Arithmetic,
      caches: CacheChoice
    ) {
      self.memoryLimit = memoryLimit
      self.context = context
      self.parallel = parallel
      self.queue = queue
      self.arithmetic = arithmetic
      self.caches = caches
    }
  }

  /// Makes an opened model ready to answer.
  /// - Parameter otherBytes: weights of other models in the process, and what their caches may take.
  /// - Returns: the model, and how its memory is divided.
  package static func start(_ opened: OpenedModel, name: String, resources: Resources, otherBytes: Int) throws
    -> (model: ServedModel, plan: MemoryPlan)
  {
    let tokenizer = try opened.tokenizer()
    let template = try ChatTemplate.detected(tokenizer: tokenizer, files: opened.files)
    let plan = try MemoryPlan(
      opened.decoderConfiguration, limit: resources.memoryLimit, weightBytes: opened.storedBytes,
      otherBytes: otherBytes, context: resources.context, parallel: resources.parallel,
      bytesPerToken: resources.caches.bytesPerToken(opened.decoderConfiguration))
    let engine = GenerationEngine(
      decoder: try opened.decoder(arithmetic: resources.arithmetic), tokenizer: tokenizer,
      limits: SchedulerLimits(
        parallel: resources.parallel, queue: resources.queue, contextLimit: plan.contextLimit,
        budgetTokens: plan.budgetTokens), caches: resources.caches)
    let model = ServedModel(
      name: name, engine: engine, tokenizer: tokenizer, template: template,
      stopTokens: try opened.stopTokens(tokenizer: tokenizer, template: template),
      defaults: try opened.files.generationConfiguration())
    return (model, plan)
  }
}

extension OpenedModel {
  /// Bytes of the model's files.
  package var storedBytes: Int {
    func size(_ path: String) -> Int {
      ((try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? Int) ?? 0
    }
    guard kind != .packed else { return size(path) }
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return names.filter { $0.hasSuffix(".safetensors") }.reduce(0) { $0 + size("\(path)/\($1)") }
  }
}
