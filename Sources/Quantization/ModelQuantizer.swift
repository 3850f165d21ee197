import Architecture
import AutoGPTQ
import Calibration
import Compute
import Files
import Foundation
import JSON
import Models
import Tensors
import Transformer

/// Quantizes a decoder layer by layer: one layer's weights and one stage's Hessian in memory at a time.
package struct ModelQuantizer {
  package let model: OpenedModel
  package let recipe: QuantizationRecipe
  package let calibration: CalibrationSet
  package let pool: WorkerPool
  private let index: TensorIndex
  /// Folder whose disk holds the activations; nil: memory.
  package let scratch: String?

  /// What is being done, for a progress bar: stages done and stages in all, and the layer.
  package typealias Progress = (_ done: Int, _ total: Int, _ layer: Int) -> Void

  package init(
    model: OpenedModel, recipe: QuantizationRecipe, calibration: CalibrationSet, scratch: String? = nil,
    pool: WorkerPool = .shared
  ) throws {
    self.scratch = scratch
    try recipe.validate()
    self.model = model
    self.recipe = recipe
    self.calibration = calibration
    self.pool = pool
    if let quantization = model.quantization {
      throw QuantizationError(
        "\(model.path): is quantized to \(quantization.bits) bits already; give the float model")
    }
    index = TensorIndex(model.configuration)
    for module in index.projections.prefix(index.stages.reduce(0) { $0 + $1.modules.count }) {
      let shape = index.shape(of: module)
      if let obstacle = AutoGPTQModule.obstacle(bits: recipe.bits, out: shape.out, in: shape.in) {
        throw QuantizationError(
          "\(index.name(of: module)) \(obstacle); it cannot be stored in \(recipe.bits) bits")
      }
    }
  }

  /// What the run will take.
  package func plan() throws -> QuantizationPlan {
    let c = model.decoderConfiguration
    let modules = Set(index.projections.map { TensorKey.known(TensorID($0)) })
    let others = try ModelContents(model).entries.filter { !modules.contains($0.key) }
    let bytes = others.reduce(0) { $0 + $1.shape.reduce($1.dtype?.byteCount ?? 0, *) }
    // Rounding to nearest multiplies nothing.
    let flops = recipe.method == .gptq ? QuantizationPlan.measuredFlops(c, pool: pool) : 1
    return QuantizationPlan(
      index, recipe: recipe, windowLengths: calibration.windows.map(\.count), otherBytes: bytes,
      usesScratch: scratch != nil, flopsPerSecond: flops,
      forwardFlopsPerSecond: recipe.method != .gptq || recipe.calibrationArithmetic == .fp32
        ? nil : QuantizationPlan.measuredFlops(c, recipe.calibrationArithmetic, pool: pool),
      pool: pool)
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
      files.append((URL(fileURLWithPath: path).lastPathComponent, sample(try MappedFile(path: path))))
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
  package func run(into store: LayerStore, progress: @escaping Progress = { _, _, _ in }) throws {
    let c = model.decoderConfiguration
    let first = store.finishedLayers
    guard first < c.layerCount else { return }
    let total = c.layerCount * TensorRule.Stage.allCases.count
    let builder = model.builder()
    if recipe.method == .rtn {
      for index in first..<c.layerCount {
        try roundLayer(index, builder: builder, store: store, total, progress)
        model.store.releasePages()
      }
      return
    }
    let activations = try CalibrationActivations(
      configuration: c, windowLengths: calibration.windows.map(\.count), scratch: scratch)
    let kept = first > 0 ? try store.load(into: activations.hidden, notAfter: first) : nil
    if kept == nil { try embed(into: activations.hidden, builder: builder) }
    // Finished layers after the last kept activations are run once more.
    for index in (kept ?? 0)..<first {
      try replay(index, builder: builder, store: store, activations: activations)
      model.store.releasePages()
    }
    let steps = LayerSteps(configuration: c, rotary: RotaryEmbedding(c.rotary), pool: pool)
    let saving = SideTask()
    defer { try? saving.wait() }
    for index in first..<c.layerCount {
      var layer = try builder.layer(index)
      layer.setFloatArithmetic(recipe.calibrationArithmetic)
      let worker = LayerQuantizer(
        recipe: recipe, table: self.index, index: index, isLast: index + 1 == c.layerCount,
        sequences: calibration.windows.count, pool: pool, beforeHiddenChanges: { try saving.wait() },
        stageDone: { progress(index * TensorRule.Stage.allCases.count + $0, total, index) })
      let modules = try worker.run(&layer, StagedLayer(steps: steps, activations: activations))
      let hidden = activations.hidden
      let keepsHidden = index + 1 < c.layerCount && store.isHiddenDue(byteCount: hidden.count * 4)
      try saving.start {
        // In this order: activations are of use only with all layers before them.
        try store.save(layer: index, modules: modules)
        if keepsHidden { try store.save(hidden: hidden, before: index + 1) }
      }
      // The layer's weights are not read again.
      model.store.releasePages()
    }
    try saving.wait()
  }

  private func embed(into hidden: AlignedBuffer<Float>, builder: DecoderBuilder) throws {
    let embedding = try builder.embedding()
    let width = builder.configuration.hiddenSize
    let ids = calibration.windows.flatMap { $0 }
    pool.runRanges(ids.count, grain: 16) { range in
      for row in range {
        embedding.copyRow(ids[row], into: hidden.pointer + row * width, kernels: pool.kernels)
      }
    }
    builder.weights.releasePages()
  }

  private func replay(
    _ index: Int, builder: DecoderBuilder, store: LayerStore, activations: CalibrationActivations
  )
    throws
  {
    let c = builder.configuration
    let steps = LayerSteps(configuration: c, rotary: RotaryEmbedding(c.rotary), pool: pool)
    var layer = try builder.layer(index)
    layer.setFloatArithmetic(recipe.calibrationArithmetic)
    for kind in self.index.stages.flatMap(\.modules) {
      let module = ModuleID(kind, layer: index)
      let shape = self.index.shape(of: module)
      let matrix = try store.matrix(
        self.index.name(of: module), layer: index, out: shape.out, in: shape.in)
      layer[kind].weight = .intPanels(IntPanels.inMemory(matrix, pool: pool))
    }
    try StagedLayer(steps: steps, activations: activations).run(&layer, index: index, observe: nil) { _, _ in
    }
  }

  private func roundLayer(
    _ index: Int, builder: DecoderBuilder, store: LayerStore, _ total: Int, _ progress: Progress
  ) throws {
    let layer = try builder.layer(index)
    let solver = Solver(recipe: recipe, pool: pool)
    var modules: [(name: String, matrix: QuantizedMatrix, report: ModuleReport)] = []
    for (stage, kinds) in self.index.stages {
      for kind in kinds {
        let name = self.index.name(of: ModuleID(kind, layer: index))
        let (matrix, report) = try solver.solve(layer[kind].weight, hessian: nil, module: name)
        modules.append((name, matrix, report))
      }
      progress(index * TensorRule.Stage.allCases.count + stage.rawValue + 1, total, index)
    }
    try store.save(layer: index, modules: modules)
  }
}

/// Quantizes the modules of one layer while the calibration tokens pass through it.
private struct LayerQuantizer {
  let recipe: QuantizationRecipe
  let table: TensorIndex
  let index: Int
  /// Nobody reads the last layer's output.
  let isLast: Bool
  let sequences: Int
  let pool: WorkerPool
  /// The layer before may still be writing them to a disk.
  let beforeHiddenChanges: () throws -> Void
  let stageDone: (Int) -> Void

  typealias Module = (name: String, matrix: QuantizedMatrix, report: ModuleReport)

  func run(_ layer: inout DecoderLayer, _ staged: StagedLayer) throws -> [Module] {
    let kinds = Dictionary(uniqueKeysWithValues: table.stages.map { ($0.stage, $0.modules) })
    func order(_ stage: TensorRule.Stage) -> Int {
      kinds[stage].map { table.shape(of: ModuleID($0[0], layer: index)).in } ?? 0
    }
    var modules: [Module] = []
    if recipe.trueSequential {
      var hessian: Hessian?
      try staged.run(&layer, index: index, needsOutput: !isLast) { stage, x, rows in
        if hessian == nil { hessian = Hessian(order: order(stage)) }
        hessian?.add(x, rows: rows, pool: pool)
      } replace: { stage, layer in
        if stage == .attentionOutput { try beforeHiddenChanges() }
        guard let used = hessian else { return }
        hessian = nil
        modules += try solve(kinds[stage] ?? [], in: &layer, hessian: used)
        stageDone(stage.rawValue + 1)
      }
      return modules
    }
    // All Hessians from the float layer, then the quantized layer's output in a second pass.
    let before = AlignedBuffer<Float>(count: staged.activations.hidden.count)
    before.pointer.update(from: staged.activations.hidden.pointer, count: before.count)
    var hessians: [TensorRule.Stage: Hessian] = [:]
    try staged.run(&layer, index: index, needsOutput: false) { stage, x, rows in
      let hessian = hessians[stage] ?? Hessian(order: order(stage))
      hessians[stage] = hessian
      hessian.add(x, rows: rows, pool: pool)
    } replace: { stage, _ in
      if stage == .attentionOutput { try beforeHiddenChanges() }
    }
    for stage in TensorRule.Stage.allCases {
      guard let hessian = hessians.removeValue(forKey: stage) else { continue }
      modules += try solve(kinds[stage] ?? [], in: &layer, hessian: hessian)
      stageDone(stage.rawValue + 1)
    }
    guard !isLast else { return modules }
    staged.activations.hidden.pointer.update(from: before.pointer, count: before.count)
    try staged.run(&layer, index: index, observe: nil) { _, _ in }
    return modules
  }

  private func solve(_ kinds: [ModuleKind], in layer: inout DecoderLayer, hessian: Hessian) throws -> [Module]
  {
    func name(_ kind: ModuleKind) -> String { table.name(of: ModuleID(kind, layer: index)) }
    let prepared = try PreparedHessian(
      hessian, sequences: sequences, recipe: recipe, name: name(kinds[0]), pool: pool)
    let solver = Solver(recipe: recipe, pool: pool)
    var modules: [Module] = []
    for kind in kinds {
      var (matrix, report) = try solver.solve(layer[kind].weight, hessian: prepared, module: name(kind))
      report.warnings += prepared.warnings
      // What follows sees what the finished file will compute.
      layer[kind].weight = .intPanels(IntPanels.inMemory(matrix, pool: pool))
      modules.append((name(kind), matrix, report))
    }
    return modules
  }
}
