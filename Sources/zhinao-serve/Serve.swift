import Adapters
import ArgumentParser
import Contexts
import Files
import Foundation
import Generation
import Logging
import Models
import Retrieval
import Serving
import Synchronization
import ToolSupport

@main
enum Entry {
  static func main() { ToolMain.run(Serve.self, outlivesTerminal: true) }
}

struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-serve",
    abstract: "Serve models over an OpenAI-compatible HTTP API with a chat page.",
    discussion: """
      Serves /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/rerank, /v1/score, /v1/models, /health, \
      /metrics, and a page at /. Only this machine can connect unless --host says otherwise. Use a proxy for TLS \
      (Docs/serving.md).

      What a model does follows from its files: decoders generate text, encoders make embeddings, and encoders with a \
      classifier and models with reranker.json rerank. Requests name a model, or get the only one that fits. Clients of \
      Cohere, Jina, vLLM and Text Embeddings Inference find their routes as well.

      A request that does not say how to sample gets what the model's generation_config.json says: sampling with \
      do_sample, or, without it, as soon as the file gives a temperature, top_k or top_p; otherwise the most likely token.

      EXAMPLES
        zhinao-serve model-int4.zhinao
        zhinao-serve model-int4.zhinao --memory-limit 6GiB --parallel 4
        zhinao-serve chat.zhinao base.zhinao --host 0.0.0.0 --api-key-file keys.txt --rate-limit 60
        zhinao-serve chat.zhinao 360Zhinao-search 360Zhinao-1.8B-Reranking
        zhinao-serve model-int4.zhinao --lora support=adapters/support --lora legal=adapters/legal
        curl localhost:8360/v1/chat/completions -H 'Content-Type: application/json' \\
          -d '{"messages": [{"role": "user", "content": "你好"}]}'
        curl localhost:8360/v1/embeddings -H 'Content-Type: application/json' -d '{"input": ["春天来了", "夏天"]}'
      """,
    version: ToolVersion.generator)

  @Argument(
    help: ArgumentHelp("One or more models: .zhinao files, .gguf files or folders.", valueName: "model")
  )
  var models: [String]
  @Option(
    help: ArgumentHelp(
      "Serve a PEFT LoRA adapter beside the model that generates text; requests choose it by the name. May be repeated: the adapters "
        + "share the model's weights. A number after a colon is a factor.", valueName: "name=folder"))
  var lora: [String] = []
  @OptionGroup(title: "Resources") var resources: ResourceOptions
  @OptionGroup(title: "Embeddings and reranking") var retrieval: RetrievalOptions
  @OptionGroup(title: "Access") var access: AccessOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions

  func validate() throws {
    guard access.servedModelName.count <= models.count else {
      throw ValidationError("--served-model-name: there are more names than models.")
    }
    guard retrieval.task.count <= models.count else {
      throw ValidationError("--task: there are more tasks than models.")
    }
    _ = try namedAdapters()
  }

  /// Names and folders of `--lora`.
  private func namedAdapters() throws -> [(name: String, folder: String)] {
    try lora.map { text in
      guard let place = text.utf8.firstIndex(of: UInt8(ascii: "=")), place > text.startIndex,
        text.utf8.index(after: place) < text.endIndex
      else {
        throw ValidationError("--lora: expected a name and a folder, as in support=adapters/support.")
      }
      return (String(text[..<place]), String(text[text.utf8.index(after: place)...]))
    }
  }

  func run() throws {
    compute.apply()
    let keys = try access.keys()
    let served = try start()
    var logger = Logger(label: "zhinao-serve", factory: { StreamLogHandler.standardError(label: $0) })
    logger.logLevel = access.logRequests ? .info : .warning
    let service = HTTPService(
      models: ServedModels(served, namesAreExact: !access.servedModelName.isEmpty),
      access: access.control(keys: keys), limits: retrieval.apply(to: resources.limits()), host: access.host,
      port: access.port,
      logger: logger)

    let (stop, demands) = AsyncStream<Void>.makeStream()
    Interruption.gracefulStop.withLock {
      $0 = {
        Output.remark("stopping: running requests have 6 seconds to finish")
        demands.yield()
        // A client that does not read its answer must not keep the process.
        DispatchQueue.global().asyncAfter(deadline: .now() + 9.5) { _exit(0) }
      }
    }
    let (host, name) = (access.host, served[0].name)
    // Not on a task's thread: this one waits.
    let result = Blocking.run {
      try await service.run(stop: stop) { port in
        let shown = host.contains(":") ? "[\(host)]" : host
        Output.remark("serving \(name) on http://\(shown):\(port)")
      }
    }
    if case .failure(let error) = result {
      throw ServingFailure(description: "cannot serve on \(access.host) port \(access.port): \(error)")
    }
    Output.remark("stopped")
  }

  /// Opens the models and says how memory is divided.
  private func start() throws -> [any ServedEntry] {
    let opened = try models.map { try opening.open($0, accepting: .all) }
    let names = models.indices.map {
      $0 < access.servedModelName.count ? access.servedModelName[$0] : Serve.name(ofModelAt: models[$0])
    }
    let adapters = try namedAdapters()
    let allNames = names + adapters.map(\.name)
    for (index, name) in allNames.enumerated() where allNames[..<index].contains(name) {
      throw ServingFailure(
        description: "two models are called \(name); give them names with --served-model-name and --lora",
        category: .usage)
    }
    let tasks = try opened.enumerated().map { index, model in
      try index < retrieval.task.count ? retrieval.task[index].task(of: model) : ModelTask(of: model)
    }
    let limit = try resources.memoryBytes() ?? MemoryPlan.defaultLimit()
    let settings = try retrieval.settings()
    for (model, named) in zip(opened, zip(names, tasks)) {
      try check(named.1, of: model, named.0, hasSettings: settings != nil)
    }
    let generators = try load(opened, tasks, adapters)
    let share = try generatorShare(opened, tasks, generators, limit: limit)
    let contexts = try resources.contextFolder()
    let served = try zip(opened.indices, zip(names, tasks)).flatMap { index, named -> [any ServedEntry] in
      let (model, (name, task)) = (opened[index], named)
      switch task {
      case .generate:
        return try generators[index].map {
          try startGenerator(model, $0, name, limit: limit, share: share, contexts: contexts)
        } ?? []
      case .embed:
        let (served, notes) = try ServedEmbedder.start(
          model, name: name, arithmetic: resources.retrievalArithmetic, limits: batchLimits)
        for note in notes { Output.warn(note) }
        Output.warn(served.anyTokenizer.discrepancies)
        Output.remark("\(name): weights \(Format.bytes(model.store.residentBytes)), \(served.summary)")
        return [served]
      case .rerank:
        let (served, notes) = try ServedReranker.start(
          model, name: name, settings: settings, specials: retrieval.specials,
          arithmetic: resources.retrievalArithmetic, limits: batchLimits)
        for note in notes { Output.warn("\(name): \(note)") }
        Output.warn(served.anyTokenizer.discrepancies)
        Output.remark("\(name): weights \(Format.bytes(model.store.residentBytes)), \(served.summary)")
        return [served]
      }
    }
    if let contexts {
      contexts.reportStrangers(
        beside: served.compactMap { $0 as? ServedModel }.flatMap { $0.engine.saved?.identities ?? [] })
      let held = contexts.statistics
      Output.remark(
        "\(contexts.path): \(held.files) saved contexts, \(Format.bytes(held.bytes)) of a limit of "
          + Format.bytes(contexts.limitBytes))
    }
    return served
  }

  /// The decoders that generate text, by their place among the models; the adapters belong to the only one.
  private func load(
    _ opened: [OpenedModel], _ tasks: [ModelTask], _ adapters: [(name: String, folder: String)]
  ) throws -> [Int: LoadedGenerator] {
    let places = tasks.indices.filter { tasks[$0] == .generate }
    guard adapters.isEmpty || places.count == 1 else {
      throw ServingFailure(
        description: places.isEmpty
          ? "--lora: no model here generates text, which adapters are for"
          : "--lora: \(places.count) models generate text, and an adapter belongs to one; run a server for each of them",
        category: .usage)
    }
    return try Dictionary(
      uniqueKeysWithValues: places.map { place in
        let loaded = try LoadedGenerator(
          opened[place],
          adapters: adapters.map { ($0.name, try AppliedAdapter(argument: $0.folder)) },
          arithmetic: resources.arithmetic)
        for note in loaded.notes { Output.warn(note) }
        return (place, loaded)
      })
  }

  /// Refuses what a model cannot be, before its own reader does in words that know nothing of the server's options.
  private func check(_ task: ModelTask, of model: OpenedModel, _ name: String, hasSettings: Bool) throws {
    let isEncoder = model.configuration.encoder != nil
    let problem: String? =
      switch task {
      case .generate: isEncoder ? "is an encoder, which cannot generate text" : nil
      case .embed: isEncoder ? nil : "is a decoder, which makes no embeddings"
      case .rerank where isEncoder || hasSettings: nil
      case .rerank:
        try model.files.bytes(named: RerankerOptions.fileName) != nil
          ? nil
          : "is a decoder, and nothing says how it makes scores; give a file with --reranker-settings (Docs/search.md)"
      }
    if let problem { throw ServingFailure(description: "--task: \(name) \(problem)", category: .usage) }
  }

  private var batchLimits: BatchLimits {
    BatchLimits(batchTokens: retrieval.batchTokens, queue: resources.queue)
  }

  /// Each model that generates text has its weights and an equal part of what all weights, and the batches of the other models, leave.
  private func generatorShare(
    _ opened: [OpenedModel], _ tasks: [ModelTask], _ loaded: [Int: LoadedGenerator], limit: Int
  ) throws -> Int {
    let weights =
      opened.reduce(0) { $0 + $1.store.residentBytes } + loaded.values.reduce(0) { $0 + $1.adapterBytes }
    let work = zip(opened, tasks).filter { $0.1 != .generate }
      .map { RetrievalMemory.workBytes($0.0, batchTokens: retrieval.batchTokens) }.reduce(0, +)
    let generators = tasks.count { $0 == .generate }
    guard generators > 0 else {
      guard weights + work <= limit else {
        throw ServingFailure(
          description: "the memory limit of \(Format.bytes(limit)) is too small: the weights are "
            + "\(Format.bytes(weights)), and batches of \(retrieval.batchTokens) tokens take \(Format.bytes(work)); "
            + "give a larger --memory-limit or fewer --batch-tokens", category: .usage)
      }
      return 0
    }
    return (limit - weights - work) / generators
  }

  private func startGenerator(
    _ model: OpenedModel, _ loaded: LoadedGenerator, _ name: String, limit: Int, share: Int,
    contexts: ContextFolder?
  ) throws -> [any ServedEntry] {
    let (all, plan) = try ServedModel.start(
      loaded, name: name, resources: resources.forModel(memoryLimit: limit, contexts: contexts),
      otherBytes: limit - loaded.residentBytes - share)
    let served = all[0]
    Output.warn(served.tokenizer.discrepancies)
    if let note = served.templateNote { Output.warn("\(name): \(note)") }
    Output.remark(
      "\(name): weights \(Format.bytes(plan.weightBytes)), context \(plan.contextLimit) tokens, "
        + "\(resources.parallel) at a time; caches up to \(plan.budgetTokens) tokens, "
        + "\(Format.bytes(plan.budgetTokens * plan.bytesPerToken)) of a limit of \(Format.bytes(limit))")
    if plan.contextLimit < model.decoderConfiguration.contextLength && resources.contextSize == nil {
      Output.remark(
        "\(name): the model could take \(model.decoderConfiguration.contextLength) tokens; raise --memory-limit"
      )
    }
    if all.count > 1 {
      Output.remark(
        "\(name): adapters \(all.dropFirst().map(\.name).joined(separator: ", ")), \(Format.bytes(loaded.adapterBytes))"
      )
    }
    return all
  }

  private static func name(ofModelAt path: String) -> String {
    let last = URL(fileURLWithPath: path).standardizedFileURL.lastPathComponent
    return last.bytes.dropping(suffix: ".zhinao") ?? last
  }
}

/// Why the server could not start or go on.
struct ServingFailure: DiagnosedError {
  var description: String
  var category = FailureCategory.inputOutput
}

/// Waits for a task on a thread that is not a task's.
enum Blocking {
  static func run(_ body: @escaping @Sendable () async throws -> Void) -> Result<Void, any Error> {
    let result = Mutex(Result<Void, any Error>.success(()))
    let done = DispatchSemaphore(value: 0)
    Task {
      do { try await body() } catch { result.withLock { $0 = .failure(error) } }
      done.signal()
    }
    done.wait()
    return result.withLock { $0 }
  }
}
