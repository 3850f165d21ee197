import Architecture
import ArgumentParser
import Compute
import Foundation
import JSON
import ToolSupport
import Transformer

struct AttentionCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attention",
    abstract: "Measure attention over long contexts beside the peak of this machine.",
    discussion: """
      The attention of one layer: the last tokens of a context attend to all of it. Beside it the peak of the products that it uses, \
      measured before and after each run: of pairs of bf16 in fast arithmetic where the processor is faster with them, and of \
      floats otherwise. Keys that the mask hides are not counted as work.

      EXAMPLES
        zhinao-bench attention
        zhinao-bench attention --heads 9 --kv-heads 3 --head-dim 64 --tokens 1
      """)

  @Option(parsing: .unconditional, help: ArgumentHelp("Heads of queries.", valueName: "n")) var heads = 16
  @Option(parsing: .unconditional, help: ArgumentHelp("Heads of keys and values.", valueName: "n"))
  var kvHeads: Int?
  @Option(parsing: .unconditional, help: ArgumentHelp("Width of a head.", valueName: "n")) var headDim = 128
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Tokens that are read together; 1 is a step of a generation.", valueName: "n"))
  var tokens = 512
  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "Tokens of the context, those that are read included. The option may be repeated (default: 512, 4096, 16384 and 32768).",
      valueName: "n"))
  var context: [Int] = []
  @OptionGroup var products: ArithmeticOptions
  @OptionGroup var cache: KVCacheOptions
  @OptionGroup var repetitions: RepetitionOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  private var arithmetic: AttentionArithmetic { (products.arithmetic ?? .fast) == .fast ? .fast : .exact }
  private var cacheType: KVCacheType { cache.type(beside: products.arithmetic ?? .fast) }
  private var contexts: [Int] { context.isEmpty ? [512, 4096, 16384, 32768] : context }

  func validate() throws {
    try OptionRange.check("--heads", heads, 1...256)
    try OptionRange.check("--kv-heads", kvHeads, 1...heads)
    if heads % (kvHeads ?? heads) != 0 {
      throw ValidationError("--kv-heads: \(heads) heads cannot be shared among \(kvHeads ?? heads).")
    }
    try OptionRange.check("--head-dim", headDim, 2...256)
    guard headDim % 2 == 0 else { throw ValidationError("--head-dim: expected an even number.") }
    try OptionRange.check("--tokens", tokens, 1...16384)
    for length in contexts { try OptionRange.check("--context", length, 1...1 << 20) }
    for length in contexts where length < tokens {
      throw ValidationError(
        "--context: \(length) tokens are fewer than the \(tokens) that are read together.")
    }
  }

  private struct Row {
    let context: Int
    let seconds, rate, share, bytes: Double
  }

  func run() throws {
    compute.apply()
    let json: JSONValue = [
      "model_type": "zhinao", "architectures": ["ZhinaoForCausalLM"], "hidden_size": .init(heads * headDim),
      "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": .init(heads),
      "num_key_value_heads": .init(kvHeads ?? heads), "vocab_size": 16,
      "max_position_embeddings": .init(contexts.max() ?? 0), "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
      "hidden_act": "silu", "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    ]
    let c = try ModelConfiguration(json, label: "config.json").decoder
    let rows = try contexts.map { try measure(c, context: $0) }
    let threads = WorkerPool.shared.threadCount
    let isa = WorkerPool.shared.kernels.name
    try output.show(
      [
        "heads": .init(heads), "kv_heads": .init(c.kvHeads), "head_dim": .init(headDim),
        "tokens": .init(tokens),
        "arithmetic": .string(arithmetic == .fast ? "fast" : "exact"),
        "kv_cache": .string(cacheType.rawValue),
        "threads": .init(threads), "isa": .string(isa),
        "rows": .array(
          rows.map {
            [
              "context": .init($0.context), "seconds": .init($0.seconds), "gflops": .init($0.rate / 1e9),
              "ratio_to_peak": .init($0.share), "gb_per_second": .init($0.bytes / $0.seconds / 1e9),
            ]
          }),
      ]
    ) {
      Format.table(
        [["context", "time", "GFLOP/s", "of the peak", "keys and values read"]]
          + rows.map {
            [
              "\($0.context)", Format.number($0.seconds * 1000, digits: 2) + " ms",
              Format.number($0.rate / 1e9, digits: 0), Format.number($0.share * 100, digits: 1) + " %",
              Format.number($0.bytes / $0.seconds / 1e9, digits: 1) + " GB/s",
            ]
          })
        + "\n\n\(tokens) tokens of \(heads) heads, \(cacheType.rawValue) cache, \(threads) threads, \(isa)"
    }
  }

  private func measure(_ c: DecoderConfiguration, context: Int) throws -> Row {
    let byteCount = KVCache.byteCount(configuration: c, capacity: context, type: cacheType)
    try MemoryCheck.require(byteCount, for: "a cache for \(context) tokens")
    let steps = LayerSteps(
      configuration: c, rotary: RotaryEmbedding(c.rotary), pool: .shared, arithmetic: arithmetic)
    let cache = KVCache(configuration: c, capacity: context, type: cacheType)
    let chunk = 512
    let qkv = AlignedBuffer<Float>(count: max(tokens, chunk) * c.qkvWidth)
    let out = AlignedBuffer<Float>(count: max(tokens, chunk) * c.attentionWidth)
    func attend(_ count: Int, after position: Int) {
      var state: UInt32 = 12345
      for i in 0..<count * c.qkvWidth {
        state = state &* 1_664_525 &+ 1_013_904_223
        qkv[i] = Float(Int32(bitPattern: state)) / Float(Int32.max)
      }
      let start = Timing.now()
      steps.attend(
        qkv.pointer,
        sequences: [SequenceSlice(firstRow: 0, rowCount: count, firstPosition: position, cache: cache)],
        layer: 0, into: out.pointer)
      seconds = Timing.now() - start
    }
    var seconds = 0.0
    // What lies before the measured tokens; as keys only, so that it is soon done.
    for position in stride(from: 0, to: context - tokens, by: chunk) {
      attend(min(chunk, context - tokens - position), after: position)
    }
    let seen = Double(tokens) * (Double(context - tokens) + Double(tokens + 1) / 2)
    let operations = 4 * seen * Double(c.attentionWidth)
    var times: [Double] = []
    var shares: [Double] = []
    func peak() -> Double { arithmetic == .fast ? Limits.sustainedPairs() : Limits.sustainedFlops() }
    for _ in 0..<repetitions.count {
      let before = peak()
      // Pieces of some tenths of a second, as long as the measurement of the peak.
      var total = 0.0
      var runs = 0
      repeat {
        attend(tokens, after: context - tokens)
        total += seconds
        runs += 1
      } while total < 0.2
      times.append(total / Double(runs))
      shares.append(operations / (total / Double(runs)) / ((before + peak()) / 2))
    }
    return Row(
      context: context, seconds: Timing.median(times), rate: operations / Timing.median(times),
      share: Timing.median(shares), bytes: Double(byteCount))
  }
}
