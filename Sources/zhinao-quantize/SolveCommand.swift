import ArgumentParser
import AutoGPTQ
import Compute
import Foundation
import JSON
import Quantization
import Safetensors
import Tensors
import ToolSupport
import Transformer

struct SolveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-quantize solve",
    abstract: "Quantize one Linear, for research and parity.",
    discussion: """
      W is [out, in], X [n, in], each the only tensor of its file. Writes qweight, qzeros, scales, g_idx as AutoGPTQ \
      packs them, and dequant, F32 [out, in].

      The Hessian is 2/s · XᵀX for X taken as s sequences (--sequences); only the losses depend on s.

      EXAMPLE
        zhinao-quantize solve --weights W.safetensors --inputs X.safetensors --bits 4 --group-size 128 \
      -o out.safetensors --json
      """)

  @Option(help: ArgumentHelp("Weights [out, in].", valueName: "file")) var weights: String
  @Option(help: ArgumentHelp("Inputs [n, in].", valueName: "file")) var inputs: String
  @Option(
    name: [.customShort("o"), .customLong("output")], help: ArgumentHelp("Where to write.", valueName: "file")
  )
  var destination: String
  @Option(help: ArgumentHelp("Sequences that the rows of X are.", valueName: "n")) var sequences = 4
  @Option(
    help: ArgumentHelp(
      "gptq (zero points minus one) or gptq_v2 (default: gptq where it can hold them).", valueName: "format"))
  var checkpointFormat: ZeroPointFormat?
  @OptionGroup(title: "Quantization") var recipe: RecipeArguments
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard sequences >= 1 else { throw ValidationError("--sequences: expected at least 1.") }
  }

  func run() throws {
    compute.apply()
    let recipe = recipe.recipe
    try recipe.validate()
    let start = Date()
    let w = try onlyMatrix(weights)
    let x = try onlyMatrix(inputs)
    let (out, inFeatures) = (w.shape[0], w.shape[1])
    guard x.shape[1] == inFeatures, x.shape[0] > 0 else {
      throw CheckpointError(
        path: inputs, tensor: x.name,
        detail: "has shape \(x.shape), expected [n, \(inFeatures)] to go with \(w.shape)")
    }
    if let obstacle = AutoGPTQModule.obstacle(bits: recipe.bits, out: out, in: inFeatures) {
      throw CheckpointError(path: weights, tensor: w.name, detail: obstacle)
    }
    let matrix = WeightMatrix.rows(
      RowMatrix(
        elements: w.bytes.baseAddress ?? UnsafeRawPointer(AlignedBuffer<Float>(count: 1).pointer),
        dtype: w.dtype,
        outFeatures: out, inFeatures: inFeatures, owner: w.file))
    let rows = AlignedBuffer<Float>(count: x.shape[0] * inFeatures)
    if let base = x.bytes.baseAddress {
      Kernels.best.table.pointee.widen(rows.pointer, base, x.dtype.kernelType, Int64(rows.count))
    }
    var prepared: PreparedHessian?
    if recipe.method == .gptq {
      let hessian = Hessian(order: inFeatures)
      hessian.add(rows.pointer, rows: x.shape[0], pool: .shared)
      prepared = try PreparedHessian(hessian, sequences: sequences, recipe: recipe, name: w.name)
      prepared?.warnings.forEach(Output.warn)
    }
    let (quantized, report) = try Solver(recipe: recipe).solve(matrix, hessian: prepared, module: w.name)
    let format = try zeroPointFormat(quantized)
    let dequantized = WeightMatrix.intPanels(IntPanels.inMemory(quantized)).rowMajorFloats()
    let mse = outputError(
      matrix.rowMajorFloats(), dequantized, rows, count: x.shape[0], out: out, in: inFeatures)
    try write(quantized, dequantized, format: format)
    var json = report.json.objectValue ?? JSONObject()
    json["loss"] = .init(report.averageLoss)
    json["output_mse"] = .init(mse)
    json["checkpoint_format"] = .string(format.rawValue)
    json["seconds"] = .init(Date().timeIntervalSince(start))
    json["output"] = .string(destination)
    try output.show(.object(json)) {
      """
      \(destination): [\(out), \(inFeatures)] in \(recipe.bits) bits, zero points as \(format.rawValue)
      loss \(report.averageLoss) (sum \(report.sumLosses)), output error \(mse), damp \(report.dampPercent), \
      \(report.deadChannels) dead channels, \(Format.duration(Date().timeIntervalSince(start)))
      """
    }
  }

  private func onlyMatrix(_ path: String) throws -> StoredTensor {
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

  private func zeroPointFormat(_ m: QuantizedMatrix) throws -> ZeroPointFormat {
    let fits = !m.zeros.contains(0)
    if let checkpointFormat {
      guard checkpointFormat == .v2 || fits else {
        throw QuantizationError(
          "some zero points are 0, which the gptq (v1) format cannot hold; use --checkpoint-format gptq_v2",
          category: .usage)
      }
      return checkpointFormat
    }
    return fits ? .v1 : .v2
  }

  private func write(_ m: QuantizedMatrix, _ dequantized: AlignedBuffer<Float>, format: ZeroPointFormat)
    throws
  {
    let plans =
      AutoGPTQModule.plans("m", bits: m.bits, groupCount: m.groupCount, out: m.outFeatures, in: m.inFeatures)
      .map { TensorPlan(String($0.name.dropFirst(2)), $0.dtype, $0.shape) }
      + [TensorPlan("dequant", .f32, [m.outFeatures, m.inFeatures])]
    try SafetensorsWriter.write(
      to: destination, tensors: plans, metadata: [("format", "pt"), ("checkpoint_format", format.rawValue)]
    ) { plan, emit in
      if plan.name == "dequant" { return try emit(UnsafeRawBufferPointer(dequantized.buffer)) }
      try AutoGPTQModule.bytes(of: plan.name, m, format: format).withUnsafeBytes { try emit($0) }
    }
  }

  /// mean((X (Q − W)ᵀ)²)
  private func outputError(
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
