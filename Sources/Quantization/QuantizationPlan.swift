import Architecture
import Compute
import Distribution
import Foundation
import JSON
import Tensors
import Training

/// What a quantization will take, known before it starts.
package struct QuantizationPlan: Equatable, Sendable {
  /// Memory that is not backed by a file, at its highest.
  package var peakMemoryBytes: Int
  /// Activations on the disk of `--scratch`.
  package var scratchBytes: Int
  /// Packed model.
  package var outputBytes: Int
  package var seconds: Double
  /// What products in fp32 reach on a rank, floating-point operations a second.
  package var flopsPerSecond: Double
  /// Part of `seconds` that goes into choosing bits of single modules.
  package var sensitivitySeconds = 0.0
  /// Peak memory if the activations went to scratch.
  package var peakWithScratchBytes: Int
  /// What several ranks take beside; nil for one.
  package var network: Network?

  /// The ranks of a job and what they tell each other. All other figures are those of one rank, the one with most tokens.
  package struct Network: Equatable, Sendable {
    package var ranks: Int
    /// Bytes that a rank sends for each layer, the average of the ranks: sums over the tokens, and codes and scales.
    package var sentBytesPerLayer: Int
    /// Bytes that a rank sends in a second while all ranks send to each other.
    package var bytesPerSecond: Double
    /// Part of the plan's seconds.
    package var seconds: Double
  }

  /// What searching the scale of a group takes for each weight: some fifty candidates, with as many multiplications and additions as a
  /// product would do in the time of their seven instructions.
  static let searchFlops = 800.0
  /// The same for a weight that waits for the outputs before it.
  private static let rowFlops = 1500.0

  /// - Parameters:
  ///   - shards: of the calibration set, as a rank sees them; no windows for round to nearest.
  ///   - flopsPerSecond: what products reach here, see ``measuredFlops(_:_:seconds:pool:)``.
  ///   - forwardFlopsPerSecond: and those of the forward pass, in its arithmetic; nil: the same.
  package init(
    _ index: TensorIndex, recipe: QuantizationRecipe, shards: CalibrationShards, otherBytes: Int,
    usesScratch: Bool, flopsPerSecond: Double, forwardFlopsPerSecond: Double? = nil,
    networkBytesPerSecond: Double? = nil, pool: WorkerPool = .shared
  ) {
    self.flopsPerSecond = flopsPerSecond
    let c = index.configuration.decoder
    let ranks = shards.ranks
    // The rank with most tokens; others wait for it.
    let busiest = (0..<ranks).map(shards.seen(by:)).max { $0.rows < $1.rows } ?? shards
    let windowLengths = busiest.windows.map { shards.lengths[$0] }
    let tokens = windowLengths.reduce(0, +)
    let longest = shards.lengths.max() ?? 0
    let chunk = min(tokens, max(longest, CalibrationActivations.chunkRows))
    // By all ranks, for a layer.
    var sent = 0
    let wide = max(c.attentionWidth, c.intermediateSize)
    // The float model's tokens pass beside the quantized one's.
    let streams = recipe.propagatesErrors ? 2 : 1
    let activations = 4 * tokens * (c.hiddenSize + wide) * streams
    let work =
      4 * chunk * (c.hiddenSize + c.qkvWidth + c.attentionWidth + 2 * c.intermediateSize)
      + 4 * chunk * (c.hiddenSize + max(c.hiddenSize, wide)) * (streams - 1)
    let caches = longest == 0 ? 0 : (chunk / longest + 1) * 8 * (longest + 16) * c.kvHeads * (c.headDim + 16)
    let isGPTQ = recipe.method == .gptq

    var solving = 0
    // A layer's codes stay until they are on disk.
    var codes = 0
    var forward = 0.0
    // Attention sums QKᵀ and PV over half a square of each window, in fp32.
    let squares = windowLengths.reduce(0.0) { $0 + Double($1) * Double($1 + 1) }
    var products = isGPTQ ? 2 * squares * Double(c.attentionWidth) * Double(streams) : 0
    let weighsAttention = isGPTQ && recipe.tokenWeights == .attention
    // Q, K and V once more, and QKᵀ twice.
    if weighsAttention {
      forward += 2 * Double(tokens) * Double(c.qkvWidth * c.hiddenSize)
      products += 2 * squares * Double(c.attentionWidth)
    }
    let statistics =
      recipe.needsStatistics
      ? StatisticsPlan(
        index, recipe: recipe, tokens: tokens, squares: squares, longest: longest, chunk: chunk, pool: pool)
      : nil
    if let statistics {
      sent += statistics.sentBytes(of: shards)
      products += statistics.products
      forward += statistics.forward
    }
    var output = otherBytes
    for (_, modules) in index.stages {
      var widest = 0
      var widestBlock = 0
      var inFeatures = 0
      for kind in modules {
        let shape = index.shape(of: ModuleID(kind, layer: 0))
        inFeatures = shape.in
        widest = max(widest, shape.out)
        let weights = Double(shape.out) * Double(shape.in)
        let bits = IntPanelLayout.fieldBits(forCodesOf: recipe.bits)
        codes += shape.out * shape.in * bits / 8
        forward += 2 * Double(tokens) * weights * Double(streams)
        var solved = isGPTQ ? weights * Double(shape.in) : 0
        // W·C twice, two triangular systems, and M·H.
        if recipe.propagatesErrors { solved += 8 * weights * Double(shape.in) }
        if recipe.refinementRounds > 0 {
          solved += weights * Double(shape.in) * Refinement.products(rounds: recipe.refinementRounds)
        }
        if recipe.searchesScales { solved += weights * QuantizationPlan.searchFlops }
        // Every rank takes some outputs, or blocks of those that depend on each other.
        let part =
          Double(
            SpreadSolver.largestPart(
              shape.out, blockSize: recipe.roundsBothSides ? recipe.outputBlock : nil, ranks: ranks))
          / Double(shape.out)
        products += solved * part
        if let statistics {
          let block = statistics.outputBlock(shape.out)
          products += weights * (QuantizationPlan.rowFlops + Double(block)) * part
          widestBlock = max(widestBlock, block * shape.in)
        }
        let groups =
          (shape.in + recipe.groupSize(forInputs: shape.in) - 1) / recipe.groupSize(forInputs: shape.in)
        output +=
          c.layerCount
          * (shape.out * shape.in * bits / 8 + groups * shape.out * 2)
        if ranks > 1 {
          sent += SpreadSolver.sentByteCount(out: shape.out, in: shape.in, recipe: recipe, ranks: ranks)
        }
      }
      let k = inFeatures
      // H, whose factor takes its place, and H in another order for act-order; packed pieces of it; then floats of a
      // part of the widest module, and a span of the factor, which is still there.
      let span = isGPTQ ? Solver(recipe: recipe).spanWidth(inFeatures: k) : 0
      let matrices =
        isGPTQ ? 4 * k * k * (recipe.descendingActivation ? 2 : 1) + 4 * k * 1536 + 8 * span * span : 0
      let part = min(widest, Solver.outputsOfPart(threads: pool.threadCount))
      let module = part * k * 4 + widest * 512 + (span + 8) * k * 4
      // Each module may have a Hessian of its own; all wait for the last.
      let hessians = isGPTQ && recipe.tokenWeights == .fisher ? modules.count : 1
      // Of each sum the shard's and the whole.
      let wholes =
        isGPTQ ? hessians * StageSums.byteCount(order: k, shards: shards, recipe: recipe) : 0
      if isGPTQ { sent += hessians * StageSums.sentByteCount(order: k, shards: shards, recipe: recipe) }
      // Rows in another order, W − Q, and codes in another order.
      let bothSides = widestBlock * 9 + (statistics == nil ? 0 : 4 * widest * k)
      // C and the same of what judges beside each Hessian, the widest W′, and another part of it than the solver's.
      let propagation =
        recipe.propagatesErrors ? 4 * k * (3 * hessians * k + widest + InputDrift.depth + part) : 0
      let refinement =
        recipe.refinementRounds > 0 ? Refinement.byteCount(widest: widest, k: k, recipe: recipe) : 0
      solving = max(
        solving,
        wholes + matrices + 4 * (hessians - 1) * k * k + module + bothSides + propagation + refinement)
      if recipe.propagatesErrors { products += 2 * Double(hessians) * Double(tokens) * Double(k) * Double(k) }
      if isGPTQ {
        products += Double(hessians) * (Double(tokens) * Double(k) * Double(k + 1) + pow(Double(k), 3) / 2)
      }
    }
    // Products take padded copies of their left side, two thousand rows at a time, or in bf16 pieces of their right side.
    let packing =
      4 * min(chunk, 2048) * wide
      + (recipe.calibrationArithmetic == .bf16 ? LinearAlgebra.roundedByteCount : 0)
    let fixed = 48 << 20
    let transport = shards.count == 1 ? 0 : OrderedSum.transportByteCount(ranks: ranks)
    let quantizing = work + solving + codes + (statistics?.layerBytes ?? 0)
    // Sums over shards are triangles, of which each rank has a part.
    let learning =
      statistics.map { work + $0.memory + (shards.count > 1 ? $0.blockBytes / 2 / ranks : 0) } ?? 0
    let common = caches + packing + fixed + transport
    peakWithScratchBytes = common + max(quantizing, learning)
    let kept = activations + (statistics?.activations ?? 0)
    peakMemoryBytes =
      common + (usesScratch ? max(quantizing, learning) : max(quantizing + activations, learning + kept))
    scratchBytes = usesScratch ? kept : 0
    outputBytes = output
    // Everything that is not a product, and reading weights. A backward pass has more of it: norms, activations and softmax are computed
    // once more, and their gradients.
    let others = statistics == nil ? 0.1 : 0.25
    let forwardFlops = forwardFlopsPerSecond ?? flopsPerSecond
    seconds =
      Double(c.layerCount)
      * ((1 + others) * products / flopsPerSecond + forward * (others / flopsPerSecond + 1 / forwardFlops))
      + (statistics?.headFlops ?? 0) * (1 + others) / forwardFlops
    if ranks > 1, let networkBytesPerSecond {
      let wait = Double(c.layerCount * sent / ranks) / networkBytesPerSecond
      network = Network(
        ranks: ranks, sentBytesPerLayer: sent / ranks, bytesPerSecond: networkBytesPerSecond, seconds: wait)
      seconds += wait
    }
  }

  /// Bytes that this rank sends in a second while all ranks send to each other, measured now with as much as a sum's step moves.
  static func measuredNetwork(_ communicator: any Communicator) throws -> Double {
    let part = OrderedSum.transportByteCount(ranks: communicator.count) / 2 / communicator.count
    let (sent, received) = (
      AlignedBuffer<UInt8>(zeros: part * communicator.count),
      AlignedBuffer<UInt8>(count: part * communicator.count)
    )
    let counts = Array(repeating: part, count: communicator.count)
    let seconds = try (0..<3).map { _ in
      try communicator.barrier()
      let start = Date()
      try communicator.exchange(
        UnsafeRawBufferPointer(sent.buffer), counts: counts,
        into: UnsafeMutableRawBufferPointer(received.buffer), receivedCounts: counts)
      return max(1e-6, Date().timeIntervalSince(start))
    }
    return Double(part * (communicator.count - 1)) / seconds.sorted()[1]
  }

  /// What the backward pass takes.
  struct StatisticsPlan {
    /// Operations of one layer in fp32, and in the arithmetic of the forward pass.
    var products = 0.0
    var forward = 0.0
    /// Operations of the output head.
    var headFlops = 0.0
    /// Inputs of all layers and a gradient, which scratch can hold.
    var activations = 0
    /// Besides them and the memory of the forward pass.
    var memory = 0
    /// What one layer's statistics take.
    var layerBytes = 0
    private let blockSize: Int
    private let isTwoSided: Bool
    private var modules = 0
    /// Of `layerBytes`, what does not grow with the tokens.
    private(set) var blockBytes = 0

    /// Bytes that rank 0 sends with the statistics of a layer: each rank the weights of its tokens, and all ranks the output Hessians.
    func sentBytes(of shards: CalibrationShards) -> Int {
      guard shards.ranks > 1 else { return 0 }
      let others = shards.allRows - shards.seen(by: 0).rows
      return modules * 4 * others + (shards.ranks - 1) * blockBytes
    }

    /// Outputs that depend on each other; 0 when it is of no interest.
    func outputBlock(_ outputs: Int) -> Int { isTwoSided ? min(outputs, blockSize) : 0 }

    init(
      _ index: TensorIndex, recipe: QuantizationRecipe, tokens: Int, squares: Double, longest: Int,
      chunk: Int, pool: WorkerPool
    ) {
      let c = index.configuration.decoder
      blockSize = recipe.outputBlock
      isTwoSided = recipe.roundsBothSides
      var weights = 0
      var largest = 0
      for kind in index.stages.flatMap(\.modules) {
        let shape = index.shape(of: ModuleID(kind, layer: 0))
        weights += shape.out * shape.in
        largest = max(largest, shape.out * shape.in)
        let block = outputBlock(shape.out)
        products += Double(tokens) * Double(shape.out) * Double(block)
        layerBytes += 4 * (tokens + shape.out * block)
        blockBytes += 4 * shape.out * block
        modules += 1
      }
      // Forward, forward again without down, and backward.
      let down = c.hiddenSize * c.intermediateSize
      forward = 2 * Double(tokens) * Double(3 * weights - down)
      // Attention twice forward, of two products each, and backward, of five.
      products += 9 * squares * Double(c.attentionWidth)
      headFlops =
        2 * Double(tokens) * Double(c.hiddenSize)
        * Double(c.vocabularySize + StatisticsPass.drawnWords * FisherGradient.drawnBlock)
      activations = tokens * c.hiddenSize * (4 + 2 * c.layerCount)
      let head = 4 * FisherGradient.workingFloats(rows: chunk, hiddenSize: c.hiddenSize)
      let attention = 4 * pool.threadCount * BackwardSteps.attentionScratch(c, rows: longest)
      let block = 4 * (chunk * BlockBackward.floatsOfRow(c) + 2 * largest)
      memory = max(head, block + attention + layerBytes)
    }
  }

  /// Floating-point operations a second of a product as wide as the model's layers, measured now. What else runs on the machine takes its
  /// part in slices of many milliseconds, which a short measurement may meet or miss.
  /// - Parameter seconds: how long to measure; at least five products.
  package static func measuredFlops(
    _ c: DecoderConfiguration, _ arithmetic: FloatArithmetic = .fp32, seconds: Double = 0,
    pool: WorkerPool = .shared
  ) -> Double {
    let (m, k, n) = (1024, min(4096, c.hiddenSize), min(4096, c.intermediateSize))
    let x = AlignedBuffer<Float>(zeros: m * k)
    let w = AlignedBuffer<Float>(zeros: n * k)
    let y = AlignedBuffer<Float>(count: m * n)
    let matrix = WeightMatrix.rows(
      RowMatrix(elements: w.pointer, dtype: .f32, outFeatures: n, inFeatures: k, owner: w))
    func multiply() -> Double {
      let start = Date()
      LinearAlgebra.multiply(
        x: x.pointer, rows: m, xRowStride: k, by: matrix, into: y.pointer, yRowStride: n,
        arithmetic: arithmetic, pool: pool)
      return -start.timeIntervalSinceNow
    }
    // The first one also gets its memory from the system.
    _ = multiply()
    var (total, count) = (0.0, 0)
    while count < 5 || total < seconds {
      total += max(1e-6, multiply())
      count += 1
    }
    return 2 * Double(m * k * n * count) / total
  }

  package var json: JSONValue {
    var json = JSONObject([
      ("peak_memory_bytes", .init(peakMemoryBytes)), ("scratch_bytes", .init(scratchBytes)),
      ("output_bytes", .init(outputBytes)), ("estimated_seconds", .init(seconds)),
      ("flops_per_second", .init(flopsPerSecond)),
    ])
    if let network {
      json["network"] = [
        "ranks": .init(network.ranks), "sent_bytes_per_layer": .init(network.sentBytesPerLayer),
        "bytes_per_second": .init(network.bytesPerSecond), "seconds": .init(network.seconds),
      ]
    }
    return .object(json)
  }
}
