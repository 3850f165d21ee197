import Adapters
import Architecture
import Compute
import Files
import Generation
import JSON
import Models
import Retrieval
import Tensors
import Tokenization
import Transformer

/// A model as tasks use it, and how.
package final class EvaluatedModel {
  package let opened: OpenedModel
  package let tokenizer: any Tokenizer
  /// Nil: the model has none, and prompts are continued as text.
  package let template: ChatTemplate?
  package let settings: Settings
  package let adapters: [AppliedAdapter]
  package let pool: WorkerPool
  /// SHA-256 that tells the model from others, see ``ModelFingerprint``, and those of its adapters.
  package let fingerprint: String
  /// Bytes of the other models of the job, which stay in memory beside this one.
  package var otherBytes = 0
  /// The ranks that score choices together; nil: this process scores them.
  package var scoring: RankedScoring?
  private var loaded: Decoder?

  /// What results depend on beside the model, and the memory they may take.
  package struct Settings: Sendable {
    package var arithmetic = Int4Arithmetic.exact
    package var cacheType = KVCacheType.f32
    /// Tokens of prompt and answer; nil: what the model was made for.
    package var contextLimit: Int?
    /// Sequences that are generated together.
    package var parallel = 8
    /// Bytes the process should stay below.
    package var memoryLimit = MemoryPlan.defaultLimit()
    /// Whether the tokenizer's beginning-of-text id is put before prompts that lm-eval does not put it before.
    package var addsBeginning = false
    package var reranker = RerankerOptions()

    package init() {}
  }

  /// - Parameter adapters: are used beside the weights of a decoder.
  package init(
    _ opened: OpenedModel, settings: Settings, adapters: [AppliedAdapter] = [], pool: WorkerPool = .shared
  ) throws {
    self.opened = opened
    self.adapters = adapters
    self.settings = settings
    self.pool = pool
    tokenizer = try opened.tokenizer()
    template =
      opened.configuration.encoder == nil
      ? try ChatTemplate.detected(tokenizer: tokenizer, files: opened.files) : nil
    fingerprint = try adapters.reduce(ModelFingerprint.of(opened)) {
      "\($0) + \($1.factor == 1 ? "" : "\($1.factor) × ")\(try $1.adapter.digest())"
    }
  }

  package var isDecoder: Bool { opened.configuration.encoder == nil }

  /// - Throws: ``TaskError`` when the model is an encoder.
  package func decoder(for task: String) throws -> Decoder {
    guard isDecoder else { throw TaskError(.needsDecoder(task: task), path: opened.path) }
    if let loaded { return loaded }
    let decoder = try opened.decoder(adapters: adapters, arithmetic: settings.arithmetic, pool: pool)
    loaded = decoder
    return decoder
  }

  package var contextLimit: Int {
    min(
      settings.contextLimit ?? opened.configuration.decoder.contextLength,
      opened.configuration.decoder.contextLength)
  }

  /// The same of an encoder.
  package var encoderIdentity: [(String, JSONValue)] {
    [("model", .string(fingerprint)), ("arithmetic", .string(settings.arithmetic.rawValue))]
  }

  /// What results of a task depend on beside its own settings, for journals.
  package var identity: [(String, JSONValue)] {
    [
      ("model", .string(fingerprint)), ("arithmetic", .string(settings.arithmetic.rawValue)),
      ("kv_cache", .string(settings.cacheType.rawValue)), ("context", .init(contextLimit)),
      ("adds_beginning", .bool(settings.addsBeginning)),
    ]
  }

  /// Ids of a text that a model is given, checked against its embedding.
  /// - Parameter addingBeginning: whether the tokenizer's post-processor adds its ids.
  package func encode(_ text: String, addingBeginning: Bool, item: String, task: String) throws -> [Int] {
    let ids = tokenizer.encode(text, specials: .recognized, addingAffixes: addingBeginning)
    try check(ids, item: item, task: task)
    return ids
  }

  package func check(_ ids: [Int], item: String, task: String) throws {
    let rows = opened.configuration.vocabularySize
    if let id = ids.first(where: { $0 >= rows }) {
      throw TaskError(.unknownToken(item: item, id: id, rows: rows), path: task)
    }
  }
}
