import Adapters
import ArgumentParser
import Conversion
import Files
import Foundation
import GGUF
import JSON
import Models
import PackedModel
import Tensors
import Tokenization
import ToolSupport

@main
enum Entry {
  static func main() { ToolMain.run(Convert.self, outlivesTerminal: true) }
}

enum TargetType: String, ExpressibleByArgument, CaseIterable {
  case bfloat16, float16, float32
  var dtype: DType {
    switch self {
    case .bfloat16: .bf16
    case .float16: .f16
    case .float32: .f32
    }
  }
}

extension ModelLayout: ExpressibleByArgument {}

/// Type of float matrices in a GGUF file.
// swift-format-ignore: AlwaysUseLowerCamelCase
enum GGUFFloatType: String, ExpressibleByArgument, CaseIterable {
  case auto, f32, f16, bf16, q8_0
  var type: GGUFTensorType? { GGUFTensorType.allCases.first { $0.name.lowercased() == rawValue } }
}

/// Type of asymmetric codes in a GGUF file.
// swift-format-ignore: AlwaysUseLowerCamelCase
enum GGUFAsymmetricType: String, ExpressibleByArgument, CaseIterable {
  case q4_1, q5_0
  var type: GGUFTensorType { self == .q4_1 ? .q4_1 : .q5_0 }
}

struct Convert: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zhinao-convert",
    abstract: "Convert models between Hugging Face folders, AutoGPTQ folders, .zhinao files and GGUF files.",
    discussion: """
      The name of the output decides its format: FILE.zhinao is a packed file, FILE.gguf is a file for \
      llama.cpp, and anything else is a folder. Float models are written as Hugging Face folders, and \
      quantized models as AutoGPTQ folders. Tensors keep every bit unless --dtype asks for another type. \
      Quantized weights keep their codes in GGUF. When a GGUF file is read, its blocks become floats \
      (bfloat16, or the type of --dtype).

      EXAMPLES
        zhinao-convert MODEL_DIR -o model.zhinao
        zhinao-convert model.zhinao -o MODEL_DIR
        zhinao-convert MODEL_DIR -o QWEN2_DIR --to stock       # for any engine
        zhinao-convert QWEN2_DIR -o MODEL_DIR --to zhinao-hf
        zhinao-convert MODEL_DIR -o TUNED_DIR --merge-lora ADAPTER_DIR
        zhinao-convert MODEL_DIR -o model.zhinao --dry-run
        zhinao-convert model-int4.zhinao -o model-int4.gguf
        zhinao-convert model.Q4_K_M.gguf -o model.zhinao
        zhinao-convert --inspect model.zhinao
      """,
    version: ToolVersion.generator)

  @Argument(
    help: "A model: folder, .zhinao or .gguf file. With --inspect, also any safetensors file."
  )
  var input: String
  @Option(
    name: [.customShort("o"), .customLong("output")],
    help: ArgumentHelp("Output: FILE.zhinao, FILE.gguf, or a folder.", valueName: "path"))
  var destination: String?
  @Option(
    help: ArgumentHelp(
      "Change the layout: stock writes Qwen2ForCausalLM with tokenizer.json for any engine; zhinao-hf reverses it.",
      valueName: "layout"))
  var to: ModelLayout?
  @Option(
    help: ArgumentHelp(
      "Merge a PEFT LoRA adapter folder. The sum is computed in fp32 and rounded once.",
      valueName: "folder"))
  var mergeLora: String?
  @Option(help: ArgumentHelp("Convert float tensors to bfloat16, float16 or float32.", valueName: "type"))
  var dtype: TargetType?
  @OptionGroup var folder: FolderOptions
  @Option(
    help: ArgumentHelp(
      "Type of float matrices in a GGUF file: auto (unchanged), f32, f16, bf16 or q8_0.", valueName: "type"))
  var ggufType = GGUFFloatType.auto
  @Option(
    help: ArgumentHelp(
      "Type of asymmetric codes in a GGUF file: q4_1 (rounds minima to fp16) or q5_0 (exact, but larger).",
      valueName: "type"))
  var ggufAsymmetric = GGUFAsymmetricType.q4_1
  @Flag(
    help:
      "Keep the codes of a GGUF file's Q4_0, Q8_0 and GPTQ-made Q4_1 blocks instead of making floats of them."
  )
  var keepCodes = false
  @Flag(help: "Convert quantized weights to floats (of --dtype, or of the type in config.json).")
  var dequantize = false
  @Flag(help: "Print what would be written, without writing it.")
  var dryRun = false
  @Flag(help: "Print the tensors and files of the input.")
  var inspect = false
  @Flag(help: "Replace an existing output.")
  var overwrite = false
  @OptionGroup var digests: DigestOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard inspect || destination != nil else { throw ValidationError("Specify -o PATH or --inspect.") }
  }

  func run() throws {
    compute.apply()
    if inspect { return try Inspection(path: input).show(output) }
    guard let destination else { return }
    let start = Date()
    let model = try opening.open(
      input, dequantizedType: dtype?.dtype ?? .bf16, keepsCodes: keepCodes, accepting: .all)
    if keepCodes && model.kind == .gguf && model.quantization == nil {
      Output.warn("\(input): no block has codes that can be kept; all become floats")
    }
    let tokenizer = try usableTokenizer(model)
    var contents = try ModelContents(model)
    if dequantize { contents = contents.dequantized() }
    if let mergeLora {
      contents = try contents.merging(LoRAAdapter(path: mergeLora), dtype: targetType(contents)) {
        Output.warn($0)
      }
    }
    if let to { contents = try contents.inLayout(to) }
    let isPacked = destination.bytes.hasSuffix(".zhinao")
    if destination.bytes.hasSuffix(".gguf") {
      try writeGGUF(contents, tokenizer: tokenizer, to: destination)
      if dryRun { return }
    } else if dryRun {
      return try plan(contents, isPacked: isPacked)
    } else if isPacked {
      try refuseExisting(destination)
      let bar = ProgressReporter("convert", unit: "bytes")
      try ModelPacker(contents, dtype: targetType(contents)).write(
        to: destination, generator: ToolVersion.generator,
        provenance: provenance
      ) { bar.update($0, of: $1) }
    } else {
      let bar = ProgressReporter("convert", unit: "bytes")
      try writer(contents).write(to: destination, replacing: overwrite, toolVersion: ToolVersion.current) {
        bar.update($0, of: $1)
      }
    }
    let seconds = Date().timeIntervalSince(start)
    let sums = try digests.digests(of: [destination])
    try output.show([
      "output": .string(destination), "tensors": .init(contents.entries.count), "seconds": .init(seconds),
      "sha256": DigestOptions.json(sums),
    ]) {
      "\(destination): \(contents.entries.count) tensors in \(Format.duration(seconds))"
        + DigestOptions.lines(sums)
    }
  }

  /// What --dtype says; floats made of integers take the configuration's type when it says nothing.
  private func targetType(_ contents: ModelContents) -> DType? {
    if let dtype { return dtype.dtype }
    return dequantize ? contents.configuration.declaredType ?? .bf16 : nil
  }

  private var provenance: JSONObject {
    func name(_ path: String) -> JSONValue { .string(PathParts(path).name) }
    var object = JSONObject([("source", name(input))])
    object["adapter"] = mergeLora.map(name)
    return object
  }

  private func writer(_ contents: ModelContents) throws -> FolderWriter {
    let writer = FolderWriter(
      contents, dtype: targetType(contents), shardByteLimit: folder.shardByteLimit,
      zeroPointFormat: folder.checkpointFormat)
    return writer
  }

  /// Weights convert without a tokenizer, and with one that cannot be read: only what needs it refuses. A tokenizer of another
  /// model is an error.
  private func usableTokenizer(_ model: OpenedModel) throws -> (any Tokenizer)? {
    do {
      let tokenizer = try model.tokenizer()
      Output.warn(tokenizer.discrepancies)
      return tokenizer
    } catch let error as ModelError { throw error } catch {
      Output.warn("\(error)")
      return nil
    }
  }

  private func refuseExisting(_ path: String) throws {
    guard overwrite || !FileManager.default.fileExists(atPath: path) else {
      throw FileError(.cannotWrite, path: path, detail: "exists; remove it or pass --overwrite")
    }
  }

  private func writeGGUF(_ contents: ModelContents, tokenizer: (any Tokenizer)?, to path: String) throws {
    // --dtype says the same as --gguf-type, in the words of the other outputs.
    let exporter = GGUFExporter(
      contents, floatType: ggufType.type ?? targetType(contents).flatMap { GGUFTensorType($0) },
      asymmetricType: ggufAsymmetric.type)
    let plan = try plan(exporter, tokenizer)
    if dryRun { return try show(path, tensors: plan.tensors.count, bytes: plan.byteCount) }
    try refuseExisting(path)
    for note in plan.notes { Output.remark("note for llama.cpp: \(note)") }
    let bar = ProgressReporter("convert", unit: "bytes")
    try exporter.write(plan, to: path) { bar.update($0, of: $1) }
  }

  /// Without the tokenizer, and with a warning, when llama.cpp has no words for it.
  private func plan(_ exporter: GGUFExporter, _ tokenizer: (any Tokenizer)?) throws -> GGUFExporter.Plan {
    do { return try exporter.plan(tokenizer: tokenizer) } catch {
      let concernsTokenizer =
        error is TokenizationError || (error as? ModelError)?.concernsTokenizer == true
      guard tokenizer != nil && concernsTokenizer else { throw error }
      Output.warn("\(error)")
      return try exporter.plan(tokenizer: nil)
    }
  }

  private func plan(_ contents: ModelContents, isPacked: Bool) throws {
    let (count, bytes): (Int, Int)
    if isPacked {
      let (header, _) = try ModelPacker(contents, dtype: targetType(contents)).header(
        generator: ToolVersion.generator, provenance: provenance)
      (count, bytes) = (header.tensors.count, PackedModelWriter.placed(header).byteCount)
    } else {
      let plans = try writer(contents).plans
      (count, bytes) = (plans.count, plans.reduce(0) { $0 + $1.byteCount })
    }
    try show(destination ?? "", tensors: count, bytes: bytes)
  }

  /// What --dry-run prints.
  private func show(_ destination: String, tensors count: Int, bytes: Int) throws {
    let folder = PathParts(destination).folder
    let free = freeBytes(inFolder: folder).map { Int($0) }
    // What reading, packing, checksumming and writing come to on a disk that is neither slow nor fast.
    let seconds = Double(bytes) / 700e6
    try output.show([
      "output": .string(destination), "tensors": .init(count), "bytes": .init(bytes),
      "free_bytes": free.map { .init($0) } ?? nil, "estimated_seconds": .init(seconds),
    ]) {
      "\(destination): would hold \(count) tensors, \(Format.bytes(bytes)) (\(bytes) bytes), "
        + "about \(Format.duration(seconds)); \(free.map(Format.bytes) ?? "?") free"
    }
  }
}
