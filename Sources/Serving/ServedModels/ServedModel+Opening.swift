import Generation
import Models
import Tensors
import Tokenization
import Transformer

extension ServedModel {
  /// How a server divides its machine between models and requests.
  package struct Resources: Sendable {
    package var memoryLimit: Int
    package var context: Int?
    package var parallel: Int
    package var queue: Int
    package var arithmetic: Int4Arithmetic
    /// How keys and values are stored.
    package var cacheType: KVCacheType

    package init(
      memoryLimit: Int, context: Int?, parallel: Int, queue: Int, arithmetic: Int4Arithmetic,
      cacheType: KVCacheType
    ) {
      self.memoryLimit = memoryLimit
      self.context = context
      self.parallel = parallel
      self.queue = queue
      self.arithmetic = arithmetic
      self.cacheType = cacheType
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
      opened.decoderConfiguration, limit: resources.memoryLimit, weightBytes: opened.store.residentBytes,
      otherBytes: otherBytes, context: resources.context, parallel: resources.parallel,
      bytesPerToken: MemoryPlan.bytesPerToken(opened.decoderConfiguration, type: resources.cacheType))
    let engine = GenerationEngine(
      model: try opened.decoder(arithmetic: resources.arithmetic), tokenizer: tokenizer,
      limits: SchedulerLimits(
        parallel: resources.parallel, queue: resources.queue, contextLimit: plan.contextLimit,
        budgetTokens: plan.budgetTokens), cacheType: resources.cacheType)
    let model = ServedModel(
      name: name, engine: engine, tokenizer: tokenizer, template: template,
      stopTokens: try opened.stopTokens(tokenizer: tokenizer, template: template),
      defaults: SamplingDefaults(try opened.files.generationConfiguration()))
    return (model, plan)
  }
}
