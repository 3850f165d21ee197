import AutoGPTQ
import Compute
import Distribution
import Foundation
import Safetensors
import Tensors

/// Quantizes one Linear whose weights and inputs are files, for research and parity.
package struct LinearJob: Sendable {
  /// Safetensors file with W `[out, in]` as its only tensor.
  package var weights: String
  /// Safetensors file with X `[n, in]` as its only tensor.
  package var inputs: String
  /// Safetensors file to be written: `qweight`, `qzeros`, `scales`, `g_idx` as AutoGPTQ packs them, and `dequant`, F32
  /// `[out, in]`.
  package var output: String
  /// Sequences that the rows of X are: H = 2 / sequences · XᵀX. Only the losses depend on it.
  package var sequences: Int
  /// Nil: v1 where it can hold the zero points.
  package var format: ZeroPointFormat?
  package var recipe: QuantizationRecipe

  package init(
    weights: String, inputs: String, output: String, sequences: Int, format: ZeroPointFormat?,
    recipe: QuantizationRecipe
  ) {
    self.weights = weights
    self.inputs = inputs
    self.output = output
    self.sequences = sequences
    self.format = format
    self.recipe = recipe
  }

  package struct Result: Sendable {
    package var layout: IntPanelLayout
    package var report: ModuleReport
    /// mean((X·(Q − W)ᵀ)²)
    package var outputError: Double
    package var format: ZeroPointFormat
    package var seconds: Double
  }

  /// - Throws: ``CheckpointError`` for files that do not fit, ``QuantizationError`` when they cannot be quantized.
  package func run() throws -> Result {
    try recipe.validate()
    let start = Date()
    let w = try LinearJob.onlyMatrix(of: weights)
    let x = try LinearJob.onlyMatrix(of: inputs)
    let (out, inFeatures) = (w.shape[0], w.shape[1])
    guard x.shape[1] == inFeatures else {
      throw CheckpointError(
        path: inputs, tensor: x.name,
        detail: "has shape \(x.shape), expected [n, \(inFeatures)] to go with \(w.shape)")
    }
    if let obstacle = AutoGPTQModule.obstacle(bits: recipe.bits, out: out, in: inFeatures) {
      throw CheckpointError(path: weights, tensor: w.name, detail: obstacle)
    }
    let matrix = try LinearJob.matrix(w)
    let rows = try LinearJob.matrix(x).rowMajorFloats()
    guard !recipe.propagatesErrors else {
      throw QuantizationError.setting(
        option: "--error-propagation", value: "with solve",
        expected: "a model, whose float activations are known")
    }
    let (hessian, refinement) =
      recipe.method == .gptq ? try prepared(rows, count: x.shape[0], name: w.name) : (nil, nil)
    var (tensor, report) = try Solver(recipe: recipe).solve(matrix, hessian: hessian, module: w.name)
    refinement?.apply(to: &tensor, of: matrix, &report)
    report.warnings += hessian?.warnings ?? []
    let format = try zeroPointFormat(tensor)
    let dequantized = WeightMatrix.intPanels(tensor.matrix).rowMajorFloats()
    let error = LinearJob.outputError(
      matrix.rowMajorFloats(), dequantized, rows, count: x.shape[0], out: out, in: inFeatures)
    try write(tensor, dequantized, format: format)
    return Result(
      layout: tensor.layout, report: report, outputError: error, format: format,
      seconds: Date().timeIntervalSince(start))
  }

  private func prepared(_ x: AlignedBuffer<Float>, count: Int, name: String) throws -> (
    PreparedHessian, Refinement?
  ) {
    // The rows of each sequence.
    let ends = (0...min(sequences, count)).map { count * $0 / min(sequences, count) }
    let rows = zip(ends, ends.dropFirst()).map { $0..<$1 }
    let sums = StageSums(
      order: x.count / count, shards: CalibrationShards(lengths: rows.map(\.count)), recipe: recipe,
      communicator: SingleProcess(), pool: .shared)
    let weights = TokenWeighting(recipe.tokenWeights, pool: .shared)
      .weights(of: x.pointer, rows: count, width: sums.hessian.order)
    sums.add(x.pointer, windows: rows, firstWindow: 0, weights: weights, differences: nil)
    sums.prepareOthers()
    // Only losses depend on how many sequences there are; all of the text's are meant.
    let hessian = try PreparedHessian(
      sums.hessian, sequences: sums.heldOut == nil ? sequences : sums.sequences, recipe: recipe, name: name)
    return (hessian, sums.refinement(hessian, recipe: recipe))
  }

  private static func onlyMatrix(of path: String) throws -> StoredTensor {
    let table = try TensorTable(path: path)
    guard table.names.count == 1, let tensor = table[table.names[0]] else {
      throw CheckpointError(path: path, detail: "has \(table.names.count) tensors, expected exactly one")
    }
    guard tensor.shape.count == 2, tensor.shape.allSatisfy({ $0 > 0 }),
      [.f32, .f16, .bf16].contains(tensor.dtype)
    else {
      throw CheckpointError(
        path: path, tensor: tensor.name,
        detail: "is \(tensor.dtype.rawValue) \(tensor.shape), expected a matrix of F32, F16 or BF16")
    }
    return tensor
  }

  private static func matrix(_ tensor: StoredTensor) throws -> WeightMatrix {
    guard let base = tensor.bytes.baseAddress else {
      throw CheckpointError(path: tensor.file.path, tensor: tensor.name, detail: "is empty")
    }
    return .rows(
      RowMatrix(
        elements: base, dtype: tensor.dtype, outFeatures: tensor.shape[0], inFeatures: tensor.shape[1],
        owner: tensor.file))
  }

  private func zeroPointFormat(_ tensor: IntPanelTensor) throws -> ZeroPointFormat {
    let fits = !tensor.zeros.contains(0)
    if format == .v1 && !fits { throw QuantizationError.zeroPointOfZero }
    return format ?? (fits ? .v1 : .v2)
  }

  private func write(_ tensor: IntPanelTensor, _ dequantized: AlignedBuffer<Float>, format: ZeroPointFormat)
    throws
  {
    let layout = tensor.layout
    let plans =
      AutoGPTQModule.plans(
        "m", bits: layout.bits, groupCount: layout.groupCount, out: layout.outFeatures, in: layout.inFeatures
      ).map { TensorPlan(String($0.name.dropFirst(2)), $0.dtype, $0.shape) }
      + [TensorPlan("dequant", .f32, [layout.outFeatures, layout.inFeatures])]
    try SafetensorsWriter.write(
      to: output, tensors: plans, metadata: [("format", "pt"), ("checkpoint_format", format.rawValue)]
    ) { plan, emit in
      if plan.name == "dequant" { return try emit(UnsafeRawBufferPointer(dequantized.buffer)) }
      try AutoGPTQModule.bytes(of: plan.name, tensor, format: format).withUnsafeBytes { try emit($0) }
    }
  }

  private static func outputError(
    _ w: AlignedBuffer<Float>, _ q: AlignedBuffer<Float>, _ x: AlignedBuffer<Float>, count: Int, out: Int,
    in inFeatures: Int
  ) -> Double {
    let difference = AlignedBuffer<Float>(count: w.count)
    for i in 0..<w.count { difference[i] = q[i] - w[i] }
    let y = AlignedBuffer<Float>(count: count * out)
    LinearAlgebra.multiply(
      x: x.pointer, rows: count, xRowStride: inFeatures,
      by: .rows(
        RowMatrix(
          elements: difference.pointer, dtype: .f32, outFeatures: out, inFeatures: inFeatures,
          owner: difference)),
      into: y.pointer, yRowStride: out)
    return y.buffer.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(y.count)
  }
}
