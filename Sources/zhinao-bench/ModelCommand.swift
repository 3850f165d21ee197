import ArgumentParser
import Compute
import Files
import Foundation
import JSON
import Models
import Reports
import Tensors
import ToolSupport
import Transformer

struct ModelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "model",
    abstract: "Prompt and generation speed of a model.",
    discussion: """
      Prompt and generation speed, load time, memory; beside them the read bandwidth and the floating-point peak \
      measured in the same run. The prompt is random token ids, the answer the most likely tokens, chosen as zhinao-chat \
      chooses them: speed does not depend on which they are. A prompt and a token come first, \
      uncounted, so that what is counted finds memory already given to the process, as with llama-bench.

      EXAMPLES
        zhinao-bench model-int4.zhinao
        zhinao-bench model-int4.zhinao --prompt-tokens 512 --new-tokens 64 --repetitions 5 --json
      """)

  @Argument(help: "A model: .zhinao file or folder.") var model: String
  @Option(parsing: .unconditional, help: ArgumentHelp("Tokens in the prompt.", valueName: "n"))
  var promptTokens = 512
  @Option(parsing: .unconditional, help: ArgumentHelp("Generated tokens.", valueName: "n"))
  var newTokens = 64
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Tokens in the context before generation starts.", valueName: "n"))
  var contextTokens = 16
  @OptionGroup var repetitions: RepetitionOptions
  @Flag(help: "Count the first run as well.") var noWarmup = false
  @OptionGroup var products: ArithmeticOptions
  @OptionGroup var cache: KVCacheOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup(title: "Report") var report: BenchReportOptions
  @OptionGroup var output: OutputOptions

  private var arithmetic: Int4Arithmetic { products.arithmetic ?? .fast }
  private var cacheType: KVCacheType { cache.type(beside: arithmetic) }

  func validate() throws {
    for (option, count) in [
      ("--prompt-tokens", promptTokens), ("--new-tokens", newTokens), ("--context-tokens", contextTokens),
    ] {
      try OptionRange.check(option, count, 1...1 << 20)
    }
  }

  /// - Throws: a usage error when a prompt or a generation does not fit into the model's context, or the caches into memory.
  private func checkRoom(_ decoder: Decoder) throws {
    let most = max(promptTokens, contextTokens + newTokens)
    guard most <= decoder.contextLength else {
      throw ValidationError("\(most) tokens do not fit into the model's context of \(decoder.contextLength).")
    }
    let tokens = promptTokens + contextTokens + newTokens + 2
    try MemoryCheck.require(
      KVCache.byteCount(configuration: decoder.configuration, capacity: tokens, type: cacheType),
      for: "a cache for \(tokens) tokens")
  }

  func run() throws {
    compute.apply()
    let page = try report.claimed()
    var opened: OpenedModel?
    var decoder: Decoder?
    let loadSeconds = try Timing.seconds {
      opened = try opening.open(model)
      decoder = try opened?.decoder(arithmetic: arithmetic)
    }
    guard let opened, let decoder else { return }
    try checkRoom(decoder)
    let anonymous = Limits.anonymousBytes
    var prompts: [Double] = []
    var generations: [Double] = []
    var bandwidths: [Double] = []
    var peaks: [Double] = []
    let work = products(opened)
    let bytesPerToken = weightBytes(opened)
    let prompt = GenerationSpeed(decoder, capacity: promptTokens + 1, cacheType: cacheType)
    let answer = GenerationSpeed(decoder, capacity: contextTokens + newTokens + 1, cacheType: cacheType)
    if !noWarmup {
      _ = try prompt.promptSeconds(promptTokens)
      _ = try answer.generationSeconds(1, after: contextTokens)
    }
    for _ in 0..<repetitions.count {
      peaks.append(work.inBytes ? Limits.peakByteOperations() : Limits.peakFlops())
      prompts.append(Double(promptTokens) / (try prompt.promptSeconds(promptTokens)))
      if let mapped = opened.store.mappedWeights { bandwidths.append(bandwidth(mapped)) }
      let seconds = try answer.generationSeconds(newTokens, after: contextTokens)
      generations.append(Double(newTokens) / seconds)
      if let mapped = opened.store.mappedWeights { bandwidths.append(bandwidth(mapped)) }
    }
    let generation = Timing.median(generations)
    let measured = Timing.median(bandwidths)
    let peak = Timing.median(peaks)
    let operations = Timing.median(prompts) * work.operations
    let achieved = generation * Double(bytesPerToken)
    let json: JSONValue = [
      "model": .string(model), "prompt_tokens": .init(promptTokens), "new_tokens": .init(newTokens),
      "prompt_tokens_per_second": .init(Timing.median(prompts)),
      "generation_tokens_per_second": .init(generation),
      "prompt_gops": .init(operations / 1e9), "measured_gops": .init(peak / 1e9),
      "peak_ratio": .init(operations / peak),
      "bytes_per_token": .init(bytesPerToken), "achieved_gb_per_second": .init(achieved / 1e9),
      "measured_gb_per_second": .init(measured / 1e9),
      "bandwidth_ratio": measured > 0 ? .init(achieved / measured) : nil, "load_seconds": .init(loadSeconds),
      "anonymous_bytes_after_load": anonymous.map { .init($0) } ?? nil,
      "peak_rss_bytes": .init(Limits.peakResidentBytes), "threads": .init(WorkerPool.shared.threadCount),
      "isa": .string(WorkerPool.shared.kernels.name), "arithmetic": .string(arithmetic.rawValue),
      "kv_cache": .string(cacheType.rawValue),
      "kv_cache_bytes": .init(cacheBytes(decoder)),
      "repetitions": .init(repetitions.count),
    ]
    try page?.model(
      self, prompts: prompts, generations: generations, load: loadSeconds,
      shares: [
        (
          page?.say("Multiplied in the prompt", "提示词中的乘法") ?? "", operations, peak,
          work.inBytes ? "GOP/s" : "GFLOP/s"
        ),
        (page?.say("Read in the generation", "生成时的读取") ?? "", achieved, measured, "GB/s"),
      ], bytesPerToken: bytesPerToken)
    try output.show(json) {
      Format.table([
        ["prompt of \(promptTokens)", Format.number(Timing.median(prompts), digits: 1) + " tokens/s"],
        [
          "multiplied in the prompt",
          Format.number(operations / 1e9, digits: 0) + (work.inBytes ? " GOP/s" : " GFLOP/s"),
        ],
        [
          work.inBytes ? "byte products on registers" : "multiply-adds on registers",
          Format.number(peak / 1e9, digits: 0) + (work.inBytes ? " GOP/s" : " GFLOP/s"),
        ],
        [
          "generation of \(newTokens) after \(contextTokens)",
          Format.number(generation, digits: 1) + " tokens/s",
        ],
        ["weights read a token", Format.bytes(bytesPerToken)],
        ["read bandwidth reached", Format.number(achieved / 1e9, digits: 1) + " GB/s"],
        ["read bandwidth of this memory", Format.number(measured / 1e9, digits: 1) + " GB/s"],
        ["KV cache of the generation, \(cacheType.rawValue)", Format.bytes(cacheBytes(decoder))],
        ["load", Format.number(loadSeconds * 1000, digits: 1) + " ms"],
        ["anonymous memory after load", anonymous.map(Format.bytes) ?? "?"],
        ["peak resident memory", Format.bytes(Limits.peakResidentBytes)],
        ["threads, instructions", "\(WorkerPool.shared.threadCount), \(WorkerPool.shared.kernels.name)"],
      ])
    }
  }

  /// Bytes of the cache that a generation continues.
  private func cacheBytes(_ decoder: Decoder) -> Int {
    KVCache.byteCount(
      configuration: decoder.configuration, capacity: contextTokens + newTokens + 1, type: cacheType)
  }

  /// Multiplications and additions for each token of a prompt, the head and attention left out, and whether they are
  /// products of bytes.
  private func products(_ opened: OpenedModel) -> (operations: Double, inBytes: Bool) {
    guard let contents = try? ModelContents(opened) else { return (0, false) }
    let index = contents.index
    let layers = contents.entries.filter { entry in
      guard let id = entry.key.id, id.module.layer != nil else { return false }
      return entry.shape.count == 2 && index.isMultiplied(id)
    }
    let inBytes = layers.contains {
      switch $0.form {
      case .intPanels, .quantized, .stream: true
      case .rows, .panels, .made: false
      }
    }
    let weights = layers.reduce(0) { $0 + $1.shape[0] * $1.shape[1] }
    return (Double(2 * weights), inBytes && arithmetic != .exact)
  }

  /// Bytes of weights that one generated token reads: every matrix but the embedding, of which it reads a row.
  private func weightBytes(_ opened: OpenedModel) -> Int {
    guard let contents = try? ModelContents(opened) else { return 0 }
    let index = contents.index
    let hasHead = contents.entries.contains { $0.key.id?.module == .head }
    return contents.entries.reduce(0) { sum, entry in
      // An integer head stands in for the embedding that is tied to it.
      guard let id = entry.key.id,
        id.module == .head || index.isMultiplied(id) && !(hasHead && id.module == .embedding)
      else { return sum }
      switch entry.form {
      case .rows(_, let bytes), .panels(_, let bytes), .intPanels(_, let bytes):
        return sum + bytes.bytes.count
      case .made(let dtype, _): return sum + entry.shape.reduce(dtype.byteCount, *)
      case .quantized(let layout, _), .stream(let layout, _): return sum + layout.byteCount
      }
    }
  }

  /// Measured on at most two gigabytes of the file itself. The best run counts, because the first one reads from disk.
  private func bandwidth(_ mapped: UnsafeBytes) -> Double {
    Limits.readBandwidth(UnsafeRawBufferPointer(rebasing: mapped.bytes.prefix(2 << 30)), repetitions: 4)
  }
}

extension BenchReport {
  /// - Parameters:
  ///   - prompts, generations: tokens a second of each repetition.
  ///   - shares: what was reached and what the machine can do, a second each.
  fileprivate func model(
    _ command: ModelCommand, prompts: [Double], generations: [Double], load: Double,
    shares: [(name: String, reached: Double, limit: Double, unit: String)], bytesPerToken: Int
  ) throws {
    let known = shares.filter { $0.limit > 0 && $0.reached > 0 }
    let ratios = known.map { 100 * $0.reached / $0.limit }
    func chart(_ title: String, _ values: [Double]) -> ReportBlock {
      let (least, most) = (values.min() ?? 0, values.max() ?? 0)
      return .figure(
        ReportFigure(
          title,
          alternative: say(
            "\(values.count) runs between \(speed(least)) and \(speed(most)) tokens per second.",
            "共 \(values.count) 次，在每秒 \(speed(least)) 至 \(speed(most)) 个词元之间。"
          ),
          .bars(
            BarChart(
              axis: say("Tokens per second", "词元每秒"),
              bars: values.enumerated().map {
                .init(say("Run \($0 + 1)", "第 \($0 + 1) 次"), $1, text: speed($1))
              },
              reference: Timing.median(values), referenceLabel: say("median", "中位数")))))
    }
    try write(
      title: say("Speed of \(PathParts(command.model).name)", "\(PathParts(command.model).name) 的速度"),
      subject: command.model,
      keyFigures: [
        KeyFigure(
          say("Prompt of \(command.promptTokens), tokens/s", "\(command.promptTokens) 词元的提示词，词元/秒"),
          speed(Timing.median(prompts)), detail: spread(prompts)),
        KeyFigure(
          say("Generation, tokens/s", "生成，词元/秒"), speed(Timing.median(generations)),
          detail: spread(generations)),
        KeyFigure(say("Peak memory", "内存峰值"), Format.bytes(Limits.peakResidentBytes)),
        KeyFigure(say("Load", "加载"), Format.number(load * 1000, digits: 1) + " ms"),
      ],
      sections: [
        ReportSection(
          say("Beside what this machine can do", "与本机极限的对比"),
          [
            .figure(
              ReportFigure(
                say("Share of the limits", "占极限的比例"),
                alternative: zip(known, ratios).map { "\($0.name): \(Format.number($1, digits: 0)) %" }
                  .joined(
                    separator: "; ") + ".",
                .bars(
                  BarChart(
                    axis: "%",
                    bars: zip(known, ratios).map {
                      .init($0.name, $1, text: Format.number($1, digits: 0) + " %")
                    },
                    reference: 100, referenceLabel: say("what this machine can do", "本机极限"))))),
            .table(
              ReportTable(
                columns: [
                  .text(""), .number(say("Reached", "达到")), .number(say("Limit", "极限")),
                  .text(say("Unit", "单位")),
                ],
                rows: known.map {
                  [
                    $0.name, Format.number($0.reached / 1e9, digits: 1),
                    Format.number($0.limit / 1e9, digits: 1), $0.unit,
                  ]
                },
                note: say(
                  "Limits are measured in the same run. A generated token reads \(Format.bytes(bytesPerToken)) of weights.",
                  "极限在同一次运行中测得。每生成一个词元读取 \(Format.bytes(bytesPerToken)) 权重。"))),
          ]),
        ReportSection(
          say("Single runs", "各次运行"),
          [
            chart(say("Prompt of \(command.promptTokens) tokens", "\(command.promptTokens) 词元的提示词"), prompts),
            chart(
              say(
                "Generation of \(command.newTokens) tokens after \(command.contextTokens)",
                "\(command.contextTokens) 词元之后生成 \(command.newTokens) 词元"), generations),
          ]),
      ], repetitions: command.repetitions.count)
  }
}
