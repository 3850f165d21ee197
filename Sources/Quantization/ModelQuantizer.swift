import Architecture
import AutoGPTQ
import Calibration
import Compute
import Distribution
import Files
import Foundation
import JSON
import Models
import Transformer

/// Quantizes a model layer by layer: one layer's weights and one stage's Hessian in memory at a time.
package struct ModelQuantizer {
  package let model: OpenedModel
  /// Of the model.
  package let contents: ModelContents
  package let recipe: QuantizationRecipe
  package let calibration: CalibrationSet
  package let pool: WorkerPool
  /// Names and shapes of its modules.
  package let index: TensorIndex
  /// Folder whose disk holds the activations; nil: memory.
  package let scratch: String?
  /// The ranks that share the work.
  package let communicator: any Communicator
  /// How the calibration windows are cut, and which of them this rank has.
  package let shards: CalibrationShards

  /// - Throws: ``QuantizationError`` when the recipe makes no sense, or the model cannot be quantized with it.
  package init(
    model: OpenedModel, contents: ModelContents, recipe: QuantizationRecipe, calibration: CalibrationSet,
    scratch: String? = nil, communicator: any Communicator = SingleProcess(), pool: WorkerPool = .shared
  ) throws {
    self.contents = contents
    self.scratch = scratch
    self.communicator = communicator
    try recipe.validate()
    guard recipe.shards >= communicator.count || recipe.method != .gptq else {
      throw DistributionError.tooFewShards(
        option: "--shards", shards: recipe.shards, ranks: communicator.count)
    }
    shards = CalibrationShards(
      lengths: calibration.windows.map(\.count), count: recipe.shards, communicator)
    self.model = model
    self.recipe = recipe
    self.calibration = calibration
    self.pool = pool
    if let quantization = model.quantization {
      throw QuantizationError.alreadyQuantized(path: model.path, bits: quantization.bits)
    }
    if model.configuration.encoder != nil { try recipe.validateForEncoder(path: model.path) }
    index = TensorIndex(model.configuration)
    for module in index.projections {
      let (shape, bits) = (index.shape(of: module), recipe.of(module).bits)
      if let obstacle = AutoGPTQModule.obstacle(bits: bits, out: shape.out, in: shape.in) {
        throw QuantizationError.cannotBeStored(module: index.name(of: module), bits: bits, obstacle: obstacle)
      }
    }
  }

  /// What the run will take. All ranks call it; the slowest one decides.
  package func plan() throws -> QuantizationPlan {
    let c = model.decoderConfiguration
    let modules = Set(index.projections.map { TensorKey.known(TensorID($0)) })
    let others = contents.entries.filter { !modules.contains($0.key) }
    let bytes = others.reduce(0) { $0 + $1.shape.reduce($1.dtype?.byteCount ?? 0, *) }
    // Rounding to nearest multiplies nothing.
    func slowest(_ flops: Double) throws -> Double {
      try communicator.gather([flops]).flatMap { $0 }.min() ?? flops
    }
    // About a hundredth of the run.
    let weights = index.projections.reduce(0.0) {
      $0 + Double(index.shape(of: $1).out) * Double(index.shape(of: $1).in)
    }
    let seconds = min(0.5, 2 * weights * Double(shards.allRows) / Double(shards.ranks) / 2e13)
    let flops =
      recipe.method == .gptq
      ? try slowest(QuantizationPlan.measuredFlops(c, seconds: seconds, pool: pool)) : 1
    let forward =
      recipe.method != .gptq || recipe.calibrationArithmetic == .fp32
      ? nil
      : try slowest(
        QuantizationPlan.measuredFlops(c, recipe.calibrationArithmetic, seconds: seconds, pool: pool))
    return QuantizationPlan(
      index, recipe: recipe, shards: shards, otherBytes: bytes, usesScratch: scratch != nil,
      flopsPerSecond: flops, forwardFlopsPerSecond: forward,
      networkBytesPerSecond: communicator.isAlone
        ? nil : try slowest(QuantizationPlan.measuredNetwork(communicator)),
      pool: pool)
  }

  // MARK: Other ranks

  /// Compares what the result depends on with rank 0's, every byte of the model's weights included.
  /// - Parameter target: that bits of single modules are chosen for.
  /// - Throws: ``DistributionError/ranksDiffer(what:here:there:rank:host:)`` on all ranks.
  func checkRanks(target: PrecisionTarget? = nil) throws {
    var facts: [(what: String, value: String)] = [
      ("the recipe", recipe.json.serialized()), ("the choice of bits", target?.json.serialized() ?? "none"),
    ]
    for path in model.store.weightFiles {
      facts.append((PathParts(path).name, try digest(MappedFile(path: path))))
    }
    if let bytes = try model.files.bytes(named: "config.json") {
      facts.append(("config.json", bytes.withUnsafeBytes { Checksum.sha256($0) }))
    }
    // One value at a time, as ranks may differ in how many files they have.
    let names = facts.map(\.what).joined(separator: ", ")
    for (what, value) in [("the list of the model's files", names)] + facts {
      let values = try communicator.gather(text: value)
      guard let rank = values.firstIndex(where: { $0 != values[0] }) else { continue }
      throw DistributionError.ranksDiffer(
        what: what, here: values[0], there: values[rank], rank: rank, host: try hosts()[rank])
    }
  }

  private func hosts() throws -> [String] { try communicator.gather(text: ProcessInfo.processInfo.hostName) }

  /// A checksum over checksums of all bytes, on all threads.
  private func digest(_ file: MappedFile) -> String {
    let step = 16 << 20
    let count = (file.byteCount + step - 1) / step
    let sums = AlignedBuffer<UInt32>(count: count)
    // Parts, so that what was read can be given back.
    for first in stride(from: 0, to: count, by: 64) {
      pool.run(min(64, count - first)) { place in
        let start = (first + place) * step
        let bytes = file.bytes[start..<min(file.byteCount, start + step)]
        sums[first + place] = Checksum.crc32(UnsafeRawBufferPointer(rebasing: bytes))
      }
      file.releasePages()
    }
    let crc = Checksum.crc32(UnsafeRawBufferPointer(sums.buffer))
    return "\(file.byteCount) bytes, checksum \(String(crc, radix: 16))"
  }

  /// Everything the result depends on.
  package func identity() throws -> JSONObject {
    JSONObject([
      ("recipe", recipe.json), ("calibration_sha256", .string(calibration.digest)),
      ("calibration_tokens", .init(calibration.tokenCount)), ("source", try sourceIdentity()),
    ])
  }

  /// Names, sizes and a checksum over samples of each source file: cheap, and different for any other model.
  private func sourceIdentity() throws -> JSONValue {
    var files: [(String, JSONValue)] = []
    for path in model.store.weightFiles {
      files.append((PathParts(path).name, sample(try MappedFile(path: path))))
    }
    if let bytes = try model.files.bytes(named: "config.json") {
      files.append(("config.json", .string(bytes.withUnsafeBytes { Checksum.sha256($0) })))
    }
    return .object(JSONObject(files))
  }

  private func sample(_ file: MappedFile) -> JSONValue {
    var crc: UInt32 = 0
    let step = max(4096, file.byteCount / 1024)
    for start in stride(from: 0, to: file.byteCount, by: step) {
      let end = min(file.byteCount, start + 4096)
      crc = Checksum.crc32(UnsafeRawBufferPointer(rebasing: file.bytes[start..<end]), continuing: crc)
      // A touch may bring two megabytes in.
      if start / step % 8 == 0 { file.releasePages() }
    }
    return .string("\(file.byteCount) bytes, sample \(String(crc, radix: 16))")
  }

  // MARK: The run

  /// Quantizes all layers that `store` does not have yet.
  /// - Parameter store: nil on other ranks than 0.
  package func run(into store: LayerStore?, observer: any QuantizationObserver = NoObserver()) throws {
    let c = model.decoderConfiguration
    let shared = SharedStore(store, communicator)
    let first = try shared.finishedLayers()
    guard first < c.layerCount else { return }
    if model.configuration.encoder != nil {
      return try EncoderQuantizer(
        model: model, recipe: recipe, windows: calibration.windows, shards: shards, scratch: scratch,
        pool: pool, observer: observer, communicator: communicator
      ).run(into: shared)
    }
    let builder = model.builder()
    if recipe.method == .rtn {
      for index in first..<c.layerCount {
        observer.layerStarted(index, of: c.layerCount)
        let modules = try roundLayer(index, builder: builder, observer: observer)
        try store?.save(layer: index, modules: modules, pool: pool)
        observer.layerFinished(index, of: c.layerCount)
        model.store.releasePages()
      }
      return
    }
    if recipe.needsStatistics {
      try StatisticsPass(
        builder: builder, table: index, recipe: recipe, windows: calibration.windows, shards: shards,
        scratch: scratch, pool: pool, observer: observer, communicator: communicator
      ).run(into: shared, from: first)
    }
    let activations = try CalibrationActivations(
      configuration: c, shards: shards, scratch: scratch)
    let float = recipe.propagatesErrors ? try FloatStream(beside: activations, scratch: scratch) : nil
    let streams = [activations.hidden] + (float.map { [$0.activations.hidden] } ?? [])
    let kept =
      first > 0
      ? try shared.load(into: streams, of: shards, width: c.hiddenSize, notAfter: first) : nil
    if kept == nil {
      try builder.embed(
        shards.windows.map { calibration.windows[$0] }, into: activations.hidden, pool: pool)
      for other in streams.dropFirst() {
        other.pointer.update(from: activations.hidden.pointer, count: other.count)
      }
    }
    // Finished layers after the last kept activations are run once more.
    for index in (kept ?? 0)..<first {
      try replay(index, builder: builder, store: shared, activations: activations, float: float)
      model.store.releasePages()
      store?.releasePages()
    }
    let steps = LayerSteps(configuration: c, rotary: RotaryEmbedding(c.rotary), pool: pool)
    let saving = SideTask()
    defer { try? saving.wait() }
    var sent = 0
    let clock = PhaseClock(communicator)
    for index in first..<c.layerCount {
      observer.layerStarted(index, of: c.layerCount)
      let before = communicator.traffic
      var layer = try builder.layer(index)
      layer.setFloatArithmetic(recipe.calibrationArithmetic)
      float?.layer = layer
      let worker = LayerQuantizer(
        recipe: recipe, table: self.index, index: index, shards: shards,
        statistics: recipe.needsStatistics
          ? try clock.measure(.keep) {
            try shared.statistics(
              ofLayer: index, self.index, of: shards, blockSize: recipe.statisticsBlock)
          } : nil,
        pool: pool, observer: observer, communicator: communicator, clock: clock,
        beforeHiddenChanges: { try clock.measure(.keep) { try saving.wait() } })
      let modules = try worker.run(
        &layer, StagedLayer(steps: steps, activations: activations, float: float))
      sent += (communicator.traffic - before).sent
      let byteCount = shards.allRows * c.hiddenSize * 4 * streams.count
      let keepsHidden = try shared.ask { index + 1 < c.layerCount && $0.isHiddenDue(byteCount: byteCount) }
      let collected =
        keepsHidden && !communicator.isAlone
        ? try clock.measure(.keep) {
          try shared.collect(hidden: streams, of: shards, width: c.hiddenSize, before: index + 1)
        } : nil
      if let store {
        // From here on only the side task uses it.
        nonisolated(unsafe) let collected = collected
        try saving.start { [pool, isAlone = communicator.isAlone] in
          // In this order: activations are of use only with all layers before them.
          try store.save(layer: index, modules: modules, pool: pool)
          store.removeStatistics(ofLayer: index)
          if keepsHidden && isAlone { try store.save(hidden: streams, before: index + 1) }
          if let collected { try store.commit(hidden: collected, before: index + 1) }
        }
      }
      observer.layerFinished(index, of: c.layerCount)
      // The layer's weights are not read again.
      model.store.releasePages()
    }
    try clock.measure(.keep) { try saving.wait() }
    observer.timesMeasured(try clock.times())
    if !communicator.isAlone {
      let all = try communicator.gather([sent]).flatMap { $0 }.reduce(0, +)
      observer.trafficCounted(sentBytesPerLayer: all / communicator.count / (c.layerCount - first))
    }
  }

  private func replay(
    _ index: Int, builder: DecoderBuilder, store: SharedStore, activations: CalibrationActivations,
    float: FloatStream?
  )
    throws
  {
    let c = builder.configuration
    let steps = LayerSteps(configuration: c, rotary: RotaryEmbedding(c.rotary), pool: pool)
    var layer = try builder.layer(index)
    layer.setFloatArithmetic(recipe.calibrationArithmetic)
    float?.layer = layer
    let modules = self.index.stages.flatMap(\.modules).map { ModuleID($0, layer: index) }
    let tensors = try store.tensors(
      modules.map { (self.index.name(of: $0), self.index.shape(of: $0)) }, layer: index)
    for (module, tensor) in zip(modules, tensors) {
      layer[module.kind].weight = .intPanels(tensor.matrix)
    }
    try StagedLayer(steps: steps, activations: activations, float: float).run(
      &layer, index: index, observe: nil
    ) { _, _ in }
  }

  private func roundLayer(_ index: Int, builder: DecoderBuilder, observer: any QuantizationObserver) throws
    -> [QuantizedModule]
  {
    let layer = try builder.layer(index)
    var solver = Solver(recipe: recipe, pool: pool)
    var modules: [QuantizedModule] = []
    for (stage, kinds) in self.index.stages {
      for kind in kinds {
        solver.recipe = recipe.of(ModuleID(kind, layer: index))
        let name = self.index.name(of: ModuleID(kind, layer: index))
        let (tensor, report) = try SpreadSolver(solver: solver, communicator: communicator).solve(
          layer[kind].weight, hessian: nil, sums: nil, refinement: nil, outputs: nil, module: name)
        observer.moduleSolved(report)
        modules.append(QuantizedModule(name: name, tensor: tensor, report: report))
      }
      observer.stageFinished(of: stage, layer: index, layerCount: builder.configuration.layerCount)
    }
    return modules
  }
}

extension QuantizationObserver {
  func stageFinished(of stage: TensorRule.Stage, layer: Int, layerCount: Int) {
    let count = TensorRule.Stage.allCases.count
    stageFinished(layer * count + stage.rawValue + 1, of: layerCount * count)
  }
}

/// Quantizes the modules of one layer while the calibration tokens pass through it.
private struct LayerQuantizer {
  let recipe: QuantizationRecipe
  let table: TensorIndex
  let index: Int
  let shards: CalibrationShards
  /// Of the layer; nil: nothing depends on them.
  let statistics: LayerStatistics?
  let pool: WorkerPool
  let observer: any QuantizationObserver
  let communicator: any Communicator
  let clock: PhaseClock
  /// The layer before may still be writing them to a disk.
  let beforeHiddenChanges: () throws -> Void

  /// Nobody reads the last layer's output.
  private var isLast: Bool { index + 1 == table.configuration.hiddenLayers }

  func run(_ layer: inout DecoderLayer, _ staged: StagedLayer) throws -> [QuantizedModule] {
    recipe.trueSequential ? try runInSequence(&layer, staged) : try runAtOnce(&layer, staged)
  }

  /// What the modules of a stage that share a Hessian have summed.
  private struct SharedSums {
    let kinds: [ModuleKind]
    var sums: StageSums
  }

  /// Where each token's weight depends on the module, each has a Hessian of its own; otherwise all of the stage share one.
  private func sums(of stage: TensorRule.Stage) -> [SharedSums] {
    let kinds = table.modules(of: stage)
    let groups = recipe.tokenWeights == .fisher ? kinds.map { [$0] } : [kinds]
    return groups.map {
      SharedSums(
        kinds: $0,
        sums: StageSums(
          order: table.inputWidth(of: stage), shards: shards, recipe: recipe, communicator: communicator,
          pool: pool))
    }
  }

  /// Each stage sees what the quantized stages before it make of its input.
  private func runInSequence(_ layer: inout DecoderLayer, _ staged: StagedLayer) throws -> [QuantizedModule] {
    var modules: [QuantizedModule] = []
    var sums: [SharedSums] = []
    try staged.run(&layer, index: index, needsOutput: !isLast) { stage, rows, layer in
      if sums.isEmpty { sums = self.sums(of: stage) }
      add(rows, of: stage, to: &sums, layer, staged)
    } endRound: { stage, round in
      // A rank may have no window in the first rounds.
      if sums.isEmpty { sums = self.sums(of: stage) }
      try clock.measure(.sum) { for place in sums.indices { try sums[place].sums.endRound(round) } }
    } replace: { stage, layer in
      if stage == .attentionOutput { try beforeHiddenChanges() }
      let used = sums
      sums = []
      modules += try solve(stage, in: &layer, used)
    }
    return modules
  }

  /// All Hessians come from the float layer, and the quantized layer's output from a second pass.
  private func runAtOnce(_ layer: inout DecoderLayer, _ staged: StagedLayer) throws -> [QuantizedModule] {
    var modules: [QuantizedModule] = []
    let hidden = staged.activations.hidden
    let before = AlignedBuffer<Float>(count: hidden.count)
    before.pointer.update(from: hidden.pointer, count: before.count)
    var sums: [TensorRule.Stage: [SharedSums]] = [:]
    try staged.run(&layer, index: index, needsOutput: false) { stage, rows, layer in
      add(rows, of: stage, to: &sums[stage, default: self.sums(of: stage)], layer, staged)
    } endRound: { stage, round in
      var own = sums.removeValue(forKey: stage) ?? self.sums(of: stage)
      try clock.measure(.sum) { for place in own.indices { try own[place].sums.endRound(round) } }
      sums[stage] = own
    } replace: { stage, _ in
      if stage == .attentionOutput { try beforeHiddenChanges() }
    }
    for stage in TensorRule.Stage.allCases {
      guard let used = sums.removeValue(forKey: stage) else { continue }
      modules += try solve(stage, in: &layer, used)
    }
    guard !isLast else { return modules }
    hidden.pointer.update(from: before.pointer, count: before.count)
    try staged.run(&layer, index: index, observe: nil) { _, _ in }
    return modules
  }

  private func add(
    _ rows: BlockRows, of stage: TensorRule.Stage, to sums: inout [SharedSums], _ layer: DecoderLayer,
    _ staged: StagedLayer
  ) {
    let chunk = staged.activations.chunk(of: rows)
    let first = chunk.firstRow
    for place in sums.indices {
      let weights =
        if recipe.tokenWeights == .fisher, let module = statistics?[sums[place].kinds[0]] {
          Array(module.tokenWeights.buffer[first..<first + rows.count])
        } else {
          TokenWeighting(recipe.tokenWeights, pool: pool).weights(
            of: rows, before: stage, width: table.inputWidth(of: stage), layer: layer, index: index,
            steps: staged.steps)
        }
      clock.measure(.hessian) {
        sums[place].sums.add(
          rows, of: stage, firstWindow: chunk.firstWindow, weights: weights, float: staged.float)
      }
    }
  }

  private func solve(_ stage: TensorRule.Stage, in layer: inout DecoderLayer, _ shared: [SharedSums]) throws
    -> [QuantizedModule]
  {
    func name(_ kind: ModuleKind) -> String { table.name(of: ModuleID(kind, layer: index)) }
    var solver = Solver(recipe: recipe, pool: pool)
    var modules: [QuantizedModule] = []
    for group in shared {
      let sums = group.sums
      try clock.measure(.sum) { try sums.finish() }
      let (prepared, refinement) = try clock.measure(.factor) {
        let prepared = try PreparedHessian(
          sums.hessian, sequences: sums.sequences, recipe: recipe, name: name(group.kinds[0]), pool: pool)
        sums.prepareOthers()
        return (prepared, sums.refinement(prepared, recipe: recipe))
      }
      for kind in group.kinds {
        solver.recipe = recipe.of(ModuleID(kind, layer: index))
        var (tensor, report) = try clock.measure(.codes) {
          try SpreadSolver(solver: solver, communicator: communicator).solve(
            layer[kind].weight, hessian: prepared, sums: sums, refinement: refinement,
            outputs: recipe.roundsBothSides ? statistics?[kind]?.outputs : nil, module: name(kind))
        }
        report.warnings += prepared.warnings
        observer.moduleSolved(report)
        modules.append(QuantizedModule(name: name(kind), tensor: tensor, report: report))
        // What follows sees what the finished file will compute.
        layer[kind].weight = .intPanels(tensor.matrix)
      }
    }
    observer.stageFinished(of: stage, layer: index, layerCount: table.configuration.hiddenLayers)
    return modules
  }
}
