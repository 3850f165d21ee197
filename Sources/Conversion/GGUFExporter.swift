import Architecture
import Compute
import Files
import Foundation
import GGUF
import Models
import Tensors
import Tokenization

/// Writes a model as one GGUF file that llama.cpp runs (`Formats/gguf.md`): Zhinao and Qwen2 models as `qwen2`, Llama
/// models as `llama`. Integer matrices keep their codes.
package struct GGUFExporter {
  package let contents: ModelContents
  /// Type of float matrices; nil: as they are stored.
  package let floatType: GGUFTensorType?
  /// Type for asymmetric codes, one of ``GGUFCodes/asymmetricTypes``.
  package let asymmetricType: GGUFTensorType
  package let pool: WorkerPool
  private let index: TensorIndex
  /// The table of the family in whose layout llama.cpp knows the decoder.
  private let target: TensorIndex

  package static let floatTypes: [GGUFTensorType] = [.f32, .f16, .bf16, .q8_0]

  package init(
    _ contents: ModelContents, floatType: GGUFTensorType? = nil, asymmetricType: GGUFTensorType = .q4_1,
    pool: WorkerPool = .shared
  ) {
    self.contents = contents
    self.floatType = floatType
    self.asymmetricType = asymmetricType
    self.pool = pool
    index = contents.index
    var stock = contents.configuration
    stock.family = stock.family.stockLayout
    target = TensorIndex(stock)
  }

  /// A tensor to be written and what it is made of.
  struct Part {
    var plan: GGUFTensorPlan
    /// What the tensor is in the layout that llama.cpp knows.
    var key: TensorKey
    var entry: ModelEntry
    /// Row i is row `rows[i]` of the entry; nil: all, in order.
    var rows: [Int]?
  }

  /// What the file will hold.
  package struct Plan {
    package var fields: [(String, GGUFField)]
    var parts: [Part]
    /// What llama.cpp will do otherwise than this toolchain.
    package var notes: [String]
    package var tensors: [GGUFTensorPlan] { parts.map(\.plan) }
    package var byteCount: Int { GGUFWriter.byteCount(fields: fields, tensors: tensors) }
  }

  /// - Parameter tokenizer: nil: the file gets none, and llama.cpp takes ids only.
  /// - Throws: when the model holds something GGUF or llama.cpp cannot express.
  package func plan(tokenizer: (any Tokenizer)?) throws -> Plan {
    try refuseWhatCannotBeSaid()
    var parts: [Part] = []
    for entry in contents.entries { parts += try self.parts(of: entry) }
    parts = parts.map { (target.rank($0.key), $0) }.sorted { $0.0 < $1.0 }.map(\.1)
    if let factors = GGUFRows.frequencyFactors(contents.configuration) {
      let buffer = AlignedBuffer(factors)
      let bytes = UnsafeBytes(UnsafeRawBufferPointer(buffer.buffer), owner: buffer)
      let key = TensorKey.other(GGUFRows.frequencies.bytes)
      let entry = ModelEntry(key: key, shape: [factors.count], form: .rows(.f32, bytes))
      parts.append(
        Part(plan: GGUFTensorPlan(GGUFRows.frequencies, .f32, entry.shape), key: key, entry: entry))
    }
    var plan = Plan(fields: metadata(parts), parts: parts, notes: [])
    if let tokenizer {
      let vocabulary = try GGUFVocabulary(
        tokenizer, files: contents.files, configuration: contents.configuration)
      plan.fields += vocabulary.fields
      plan.notes = vocabulary.notes
    } else {
      plan.fields.append(("tokenizer.ggml.model", .string("none")))
      plan.notes = ["the file holds no tokenizer"]
    }
    return plan
  }

  package func write(_ plan: Plan, to path: String, progress: (Int, Int) -> Void = { _, _ in }) throws {
    let parts = Dictionary(uniqueKeysWithValues: plan.parts.map { ($0.plan.name.bytes, $0) })
    let total = plan.tensors.reduce(0) { $0 + $1.byteCount }
    var done = 0
    var source = GGUFPartSource(path: contents.path, pool: pool)
    let check = OutputCheck(contents: contents, destination: path)
    try GGUFWriter.write(
      to: path, fields: plan.fields, tensors: plan.tensors,
      check: { try check.gguf(at: $0, fields: plan.fields, tensors: plan.tensors) }
    ) { tensor, emit in
      guard let part = parts[tensor.name] else { return }
      try source.emit(part) { bytes in
        try emit(bytes)
        done += bytes.count
        progress(done, total)
      }
    }
  }

  // MARK: Metadata

  private func refuseWhatCannotBeSaid() throws {
    let c = contents.configuration
    func refuse(_ what: ConversionError.GGUFObstacle) -> ConversionError {
      ConversionError(.notInGGUF(what), path: contents.path)
    }
    guard target.configuration.family.gguf != nil else {
      throw refuse(.family(c.family.name))
    }
    if c.partialRotaryFactor != 1 { throw refuse(.partialRotation) }
    if c.logitScale != 1 { throw refuse(.logitScale) }
    if !dialect.hasOtherBiases && (c.outputBias || c.mlpBias) {
      throw refuse(.otherBiases)
    }
    if case .llama3 = c.ropeScaling, !dialect.hasFrequencyFactors {
      throw refuse(.llama3Frequencies)
    }
  }

  private var dialect: ModelFamily.GGUFDialect {
    // Nothing asks for the dialect before refuseWhatCannotBeSaid() has found that there is one.
    guard let dialect = target.configuration.family.gguf else {
      preconditionFailure(
        "\(target.configuration.family.name) has no name in GGUF; plan(tokenizer:) refuses it")
    }
    return dialect
  }

  private func metadata(_ parts: [Part]) -> [(String, GGUFField)] {
    let c = contents.configuration
    func key(_ name: String) -> String { "\(dialect.architecture).\(name)" }
    func number(_ name: String, _ value: Int) -> (String, GGUFField) { (key(name), .uint32(UInt32(value))) }
    let name = URL(fileURLWithPath: contents.path).deletingPathExtension().lastPathComponent
    var fields: [(String, GGUFField)] = [
      ("general.architecture", .string(dialect.architecture)), ("general.type", .string("model")),
      ("general.name", .string(name)), number("block_count", c.hiddenLayers),
      number("context_length", c.maxPositionEmbeddings), number("embedding_length", c.hiddenSize),
      number("feed_forward_length", c.intermediateSize), number("attention.head_count", c.attentionHeads),
      number("attention.head_count_kv", c.kvHeads),
      (key("attention.layer_norm_rms_epsilon"), .float32(Float(c.rmsNormEps))),
      (key("rope.freq_base"), .float32(Float(c.ropeTheta))), number("rope.dimension_count", c.headDim),
      number("vocab_size", c.vocabularySize),
    ]
    if c.headDim * c.attentionHeads != c.hiddenSize {
      fields += [number("attention.key_length", c.headDim), number("attention.value_length", c.headDim)]
    }
    if case .linear(let factor) = c.ropeScaling {
      fields += [
        (key("rope.scaling.type"), .string("linear")), (key("rope.scaling.factor"), .float32(Float(factor))),
      ]
    }
    fields += [
      ("general.file_type", .uint32(fileType(parts))), ("general.quantization_version", .uint32(2)),
    ]
    return fields
  }

  /// llama.cpp's number for what most of the weights are stored as; informative.
  private func fileType(_ parts: [Part]) -> UInt32 {
    var weights: [GGUFTensorType: Int] = [:]
    for part in parts where part.plan.shape.count == 2 && part.key.id?.module.layer != nil {
      weights[part.plan.type, default: 0] += part.plan.byteCount
    }
    switch weights.max(by: { $0.value < $1.value })?.key {
    case .f16: return 1
    case .q4_0: return 2
    case .q4_1: return 3
    case .q8_0: return 7
    case .q5_0: return 8
    case .bf16: return 32
    default: return 0
    }
  }

  // MARK: Tensors

  private func parts(of entry: ModelEntry) throws -> [Part] {
    let c = contents.configuration.decoder
    guard let id = try wanted(entry) else { return [] }
    let type = try type(of: entry)
    func part(_ id: TensorID, rows: [Int]?) -> Part? {
      target.ggufName(of: id).map { name in
        var shape = entry.shape
        if let rows { shape[0] = rows.count }
        return Part(plan: GGUFTensorPlan(name, type, shape), key: .known(id), entry: entry, rows: rows)
      }
    }
    if id.module.kind == .fusedQKV {
      return QKVRows(c).parts.compactMap {
        part(TensorID($0.kind, id.part, layer: id.module.layer), rows: Array($0.ranges.joined()))
      }
    }
    var rows: [Int]?
    if dialect.rotatesNeighbours {
      switch id.module.kind {
      case .query: rows = GGUFRows.neighbouringPairs(heads: c.attentionHeads, headDim: c.headDim)
      case .key: rows = GGUFRows.neighbouringPairs(heads: c.kvHeads, headDim: c.headDim)
      default: break
      }
    }
    return [part(id, rows: rows)].compactMap { $0 }
  }

  /// The tensor, if the decoder has it. AutoGPTQ's biases of zeros it has not; others that it has not would change the
  /// result elsewhere.
  private func wanted(_ entry: ModelEntry) throws -> TensorID? {
    guard let id = entry.key.id, let tensor = index.tensor(id) else {
      if case .other(let name) = entry.key, name.hasSuffix(".bias") { try refuseBias(entry) }
      return nil
    }
    if tensor.isRequired { return id }
    if id.part == .bias {
      try refuseBias(entry)
      return nil
    }
    // A head of its own beside a tied embedding is the same matrix in fewer bits; floats are a copy.
    if id.module == .head, case .intPanels = entry.form { return id }
    return nil
  }

  /// - Throws: unless the bias is all zeros.
  private func refuseBias(_ entry: ModelEntry) throws {
    guard case .rows(_, let stored) = entry.form, stored.bytes.allSatisfy({ $0 == 0 }) else {
      throw ConversionError(.unexpectedBias, path: contents.path, tensor: index.name(of: entry.key))
    }
  }

  private func type(of entry: ModelEntry) throws -> GGUFTensorType {
    func refuse(_ reason: ConversionError.Reason) -> ConversionError {
      ConversionError(reason, path: contents.path, tensor: index.name(of: entry.key))
    }
    switch entry.form {
    case .intPanels(let layout, _), .quantized(let layout, _), .stream(let layout, _):
      switch GGUFCodes.carrier(
        bits: layout.bits, groupSize: layout.groupSize, inFeatures: layout.inFeatures,
        isSymmetric: layout.isSymmetric, isMonotone: !layout.isPermuted, asymmetric: asymmetricType)
      {
      case .type(let type): return type
      case .obstacle(let detail): throw refuse(.noCarrier(detail))
      }
    case .rows(let stored, _), .panels(let stored, _), .made(let stored, _):
      guard [.f32, .f16, .bf16].contains(stored) else { throw refuse(.wrongType(stored)) }
      // llama.cpp computes with vectors of single precision only.
      if entry.shape.count == 1 { return .f32 }
      guard let type = floatType ?? GGUFTensorType(stored) else {
        throw refuse(.wrongType(stored))
      }
      guard (entry.shape.last ?? 0) % type.blockSize == 0 else {
        throw refuse(
          .rowsNotWhole(width: entry.shape.last ?? 0, type: type.name, blockSize: type.blockSize))
      }
      return type
    }
  }
}
