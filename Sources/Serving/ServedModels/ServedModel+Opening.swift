import Adapters
import Contexts
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
    /// Saved contexts of all models; nil: none are used or made.
    package var contexts: ContextFolder?
    /// The program's name and version, for files.
    package var generator: String
    /// Called from any thread with what a person who runs the server wants to know.
    package var log: (@Sendable (String) -> Void)?

    package init(
      memoryLimit: Int, context: Int?, parallel: Int, queue: Int, arithmetic: Int4Arithmetic,
      cacheType: KVCacheType, contexts: ContextFolder? = nil, generator: String = "",
      log: (@Sendable (String) -> Void)? = nil
    ) {
      self.memoryLimit = memoryLimit
      self.context = context
      self.parallel = parallel
      self.queue = queue
      self.arithmetic = arithmetic
      self.cacheType = cacheType
      self.contexts = contexts
      self.generator = generator
      self.log = log
    }
  }

  /// Makes an opened model ready to answer.
  /// - Parameter otherBytes: weights of other models in the process, and what their caches may take.
  /// - Returns: the model, and how its memory is divided.
  package static func start(_ opened: OpenedModel, name: String, resources: Resources, otherBytes: Int) throws
    -> (model: ServedModel, plan: MemoryPlan)
  {
    let (models, plan) = try start(
      LoadedGenerator(opened, arithmetic: resources.arithmetic), name: name, resources: resources,
      otherBytes: otherBytes)
    return (models[0], plan)
  }

  /// Makes a model and its adapters ready to answer. They share the weights, the engine and with it the forward passes, and the
  /// memory for caches, but no tokens in them.
  /// - Returns: the model itself, then one for each adapter.
  package static func start(
    _ loaded: LoadedGenerator, name: String, resources: Resources, otherBytes: Int
  ) throws -> (models: [ServedModel], plan: MemoryPlan) {
    let opened = loaded.opened
    let tokenizer = try opened.tokenizer()
    let template = try ChatTemplate.detected(tokenizer: tokenizer, files: opened.files)
    let plan = try MemoryPlan(
      opened.decoderConfiguration, limit: resources.memoryLimit, weightBytes: loaded.residentBytes,
      otherBytes: otherBytes, context: resources.context, parallel: resources.parallel,
      bytesPerToken: MemoryPlan.bytesPerToken(opened.decoderConfiguration, type: resources.cacheType))
    let saved = try resources.contexts.map { folder in
      SavedPrefixes(
        folder: folder,
        identities: try ([[]] + loaded.adapters.map { [$0] }).map {
          try ContextIdentity(
            opened, adapters: $0, arithmetic: resources.arithmetic, cacheType: resources.cacheType)
        },
        configuration: opened.decoderConfiguration, type: resources.cacheType, generator: resources.generator)
    }
    let log = resources.log.map { log in { @Sendable (text: String) in log("\(name): \(text)") } }
    let engine = GenerationEngine(
      model: loaded.decoder, tokenizer: tokenizer,
      limits: SchedulerLimits(
        parallel: resources.parallel, queue: resources.queue, contextLimit: plan.contextLimit,
        budgetTokens: plan.budgetTokens), cacheType: resources.cacheType, saved: saved,
      log: log)
    let base = ServedModel(
      name: name, engine: engine, tokenizer: tokenizer, template: template,
      stopTokens: try opened.stopTokens(tokenizer: tokenizer, template: template),
      defaults: SamplingDefaults(try opened.files.generationConfiguration()))
    let adapted = loaded.adapterNames.enumerated().map { index, name in
      base.adapted(name: name, variant: index + 1)
    }
    return ([base] + adapted, plan)
  }
}

/// A decoder in memory with the adapters that requests may ask for.
package struct LoadedGenerator: Sendable {
  let opened: OpenedModel
  let decoder: Decoder
  /// What requests call the adapters, in the order of the decoder's variants.
  let adapterNames: [String]
  /// In the same order.
  let adapters: [AppliedAdapter]
  /// Bytes of the adapters.
  package let adapterBytes: Int
  /// What whoever starts the server must know.
  package let notes: [String]

  /// - Throws: ``AdapterError`` when an adapter cannot be used beside the model.
  package init(
    _ opened: OpenedModel, adapters: [(name: String, adapter: AppliedAdapter)] = [],
    arithmetic: Int4Arithmetic
  ) throws {
    var notes: [String] = []
    let base = try opened.decoder(arithmetic: arithmetic)
    let variants = try adapters.map { named in
      try opened.weights(of: base, adaptedBy: [named.adapter]) { notes.append($0) }
    }
    self.opened = opened
    decoder = variants.isEmpty ? base : base.replacing(variants: variants)
    adapterNames = adapters.map(\.name)
    self.adapters = adapters.map(\.adapter)
    self.notes = notes
    adapterBytes = zip(variants, adapters).reduce(0) {
      $0 + $1.0.updateByteCount + $1.1.adapter.adapter.replacementByteCount
    }
  }

  /// Weights and adapters.
  package var residentBytes: Int { opened.store.residentBytes + adapterBytes }
}
