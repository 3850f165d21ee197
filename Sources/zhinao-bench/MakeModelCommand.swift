import Architecture
import ArgumentParser
import AutoGPTQ
import Compute
import Conversion
import Files
import Foundation
import JSON
import PackedModel
import Safetensors
import Tensors
import ToolSupport

struct MakeModelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "make-model",
    abstract: "Write a model of a given shape with random weights, for measurements.",
    discussion: """
      A path that ends in .zhinao is written as a packed file, and any other as a Hugging Face folder (bf16 only).

      EXAMPLES
        zhinao-bench make-model --shape 7b --encoding int4 -o random-7b.zhinao
        zhinao-bench make-model --shape 1.8b --encoding bf16 -o random-1.8b/
      """)

  enum Shape: String, ExpressibleByArgument, CaseIterable {
    case large = "7b"
    case medium = "1.8b"
    case tiny
  }
  enum Encoding: String, ExpressibleByArgument, CaseIterable { case bf16, int4 }

  @Option(help: ArgumentHelp("Shape of the model: 7b, 1.8b or tiny.", valueName: "shape")) var shape = Shape
    .tiny
  @Option(help: ArgumentHelp("Encoding of the weights: bf16 or int4.", valueName: "encoding")) var encoding =
    Encoding.int4
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Bits of the head of an int4 model: 16, 8 or 4.", valueName: "n")) var headBits =
    16
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Number of layers, instead of the number of the shape.", valueName: "n"))
  var layers: Int?
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Tokens of context that the model claims to be made for.", valueName: "n"))
  var context = 4096
  @Option(
    name: [.customShort("o"), .customLong("output")], help: ArgumentHelp("Output path.", valueName: "path")
  )
  var destination: String
  @OptionGroup var compute: ComputeOptions

  func validate() throws {
    try OptionRange.check("--layers", layers, 1...1000)
    try OptionRange.check("--context", context, 1...1 << 20)
    guard [4, 8, 16].contains(headBits) else { throw ValidationError("--head-bits: expected 16, 8 or 4.") }
    if encoding == .int4 && !destination.bytes.hasSuffix(".zhinao") {
      throw ValidationError("--encoding int4 needs an output that ends in .zhinao.")
    }
  }

  func run() throws {
    compute.apply()
    let json = configurationJSON
    let configuration = try ModelConfiguration(json, label: "config.json")
    let index = TensorIndex(configuration)
    let files = EmbeddedFiles(
      location: destination,
      contents: [
        "config.json": Array((json.serialized(indent: 2) + "\n").utf8), "vocab/360.tiktoken": vocabulary,
      ])
    let tensors = index.required.map {
      PackedTensor(index.name(of: $0.id), shape: $0.shape, encoding: encoding($0, index))
    }
    let bar = ProgressReporter("make-model", unit: "bytes")
    let total = tensors.reduce(0) { $0 + $1.byteCount }
    var done = 0
    func progress(_ count: Int) {
      done += count
      bar.update(done, of: total)
    }
    if destination.bytes.hasSuffix(".zhinao") {
      let names = files.names
      let header = PackedHeader(
        generator: ToolVersion.generator,
        files: names.map { PackedFile(name: $0, byteCount: files.contents[$0]?.count ?? 0) },
        tensors: tensors,
        quantization: encoding == .int4 ? QuantizeConfiguration() : nil,
        provenance: JSONObject([("source", "random weights")]))
      try PackedModelWriter.write(
        to: destination, header: header, contents: names.map { files.contents[$0] ?? [] }
      ) {
        tensor, emit in
        try RandomWeights(tensor).emit {
          try emit($0)
          progress($0.count)
        }
      }
    } else {
      let folder = try AtomicFolder(path: destination)
      try SafetensorsWriter.writeSharded(
        intoFolder: folder.stagingPath, tensors: tensors.map { TensorPlan($0.name, .bf16, $0.shape) },
        shardByteLimit: FolderWriter.defaultShardByteLimit
      ) { plan, emit in
        try RandomWeights(PackedTensor(plan.name, shape: plan.shape, encoding: .rows(.bf16))).emit {
          try emit($0)
          progress($0.count)
        }
      }
      do {
        try FileManager.default.createDirectory(
          atPath: folder.stagedPath("vocab"), withIntermediateDirectories: true)
      } catch {
        throw FileError(
          .cannotWrite, path: destination, detail: "cannot create vocab/: \(error.localizedDescription)")
      }
      for name in files.names {
        try AtomicFile.write(files.contents[name] ?? [], to: folder.stagedPath(name))
      }
      try folder.commit()
    }
    try Output.print("\(destination): \(tensors.count) tensors, \(Format.bytes(total))")
  }

  private func encoding(_ tensor: TensorIndex.Tensor, _ index: TensorIndex) -> PackedTensor.Encoding {
    let shape = tensor.shape
    guard shape.count == 2 else { return .rows(.bf16) }
    let isHead = tensor.role == .head && headBits != 16
    if encoding == .int4 && (tensor.role == .projection || isHead) {
      return .intPanels(
        IntPanelLayout(
          bits: isHead ? headBits : 4, groupSize: 128, outFeatures: shape[0], inFeatures: shape[1],
          isSymmetric: true,
          isPermuted: false))
    }
    return index.isMultiplied(tensor.id) ? .panels(.bf16) : .rows(.bf16)
  }

  private var configurationJSON: JSONValue {
    let (hidden, inner, layerCount, heads, vocabulary): (Int, Int, Int, Int, Int) =
      switch shape {
      case .large: (4096, 11008, 32, 32, 158_464)
      case .medium: (2048, 5504, 24, 16, 158_464)
      case .tiny: (256, 768, 4, 4, 3072)
      }
    return [
      "model_type": "zhinao", "architectures": ["ZhinaoForCausalLM"], "hidden_size": .init(hidden),
      "intermediate_size": .init(inner), "num_hidden_layers": .init(layers ?? layerCount),
      "num_attention_heads": .init(heads), "num_key_value_heads": .init(heads),
      "vocab_size": .init(vocabulary),
      "max_position_embeddings": .init(context), "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
      "hidden_act": "silu",
      "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    ]
  }

  /// All single bytes and some pairs: enough to encode any text.
  private var vocabulary: [UInt8] {
    var lines: [String] = []
    func add(_ bytes: [UInt8]) { lines.append("\(Data(bytes).base64EncodedString()) \(lines.count)") }
    for byte in 0..<256 { add([UInt8(byte)]) }
    for a in 97..<123 { for b in 97..<123 { add([UInt8(a), UInt8(b)]) } }
    return Array((lines.joined(separator: "\n") + "\n").utf8)
  }
}

/// Bytes of a tensor with random content that a model could have: small weights, norms near one, positive scales.
private struct RandomWeights {
  let tensor: PackedTensor
  private let seed: UInt64

  init(_ tensor: PackedTensor) {
    self.tensor = tensor
    seed = tensor.name.utf8.reduce(1469) { ($0 ^ UInt64($1)) &* 1_099_511_628_211 }
  }

  func emit(_ emit: (UnsafeRawBufferPointer) throws -> Void) throws {
    switch tensor.encoding {
    case .rows, .panels:
      // ±0.0078 to ±0.03 for weights, about 1 for norms: sign and low exponent and mantissa bits at random.
      let isNorm = tensor.shape.count == 1 && !tensor.name.bytes.hasSuffix("bias")
      try fill(tensor.byteCount, emit) { bits in
        isNorm
          ? bits & 0x0003_0003_0003_0003 | 0x3F80_3F80_3F80_3F80
          : bits & 0x80FF_80FF_80FF_80FF | 0x3C00_3C00_3C00_3C00
      }
    case .intPanels(let layout):
      try fill(layout.scalesOffset, emit) { $0 }
      // 0x1800 is 2^-9.
      try fill(layout.byteCount - layout.scalesOffset, emit) { _ in 0x1800_1800_1800_1800 }
    }
  }

  private func fill(
    _ count: Int, _ emit: (UnsafeRawBufferPointer) throws -> Void, _ shape: (UInt64) -> UInt64
  ) throws {
    let chunk = AlignedBuffer<UInt64>(count: 1 << 19)
    var state = seed | 1
    var left = count
    while left > 0 {
      let words = min(chunk.count, (left + 7) / 8)
      for i in 0..<words {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        chunk[i] = shape(state)
      }
      let bytes = min(left, words * 8)
      try emit(UnsafeRawBufferPointer(start: chunk.pointer, count: bytes))
      left -= bytes
    }
  }
}
