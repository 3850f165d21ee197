import Architecture
import Compute
import Files
import Foundation
import Models
import Safetensors
import Tensors
import Transformer

/// An adapter that is used beside a model, and how much of it.
package struct AppliedAdapter: Sendable {
  package let adapter: LoRAAdapter
  /// What its updates are multiplied with, beside their own scale; 1: as it was trained.
  package let factor: Float

  package init(_ adapter: LoRAAdapter, factor: Float = 1) {
    self.adapter = adapter
    self.factor = factor
  }

  /// - Parameter argument: of a command line: a folder, and after a colon perhaps the factor.
  package init(argument: String) throws {
    func isThere(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
    guard !isThere(argument), let last = argument.bytes.split(separator: ":").last,
      let folder = argument.bytes.dropping(suffix: ":" + last), isThere(folder)
    else {
      self.init(try LoRAAdapter(path: argument))
      return
    }
    guard let factor = Float(last), factor.isFinite else {
      throw AdapterError(.badFactor(last), path: folder)
    }
    self.init(try LoRAAdapter(path: folder), factor: factor)
  }
}

extension OpenedModel {
  /// The decoder with adapters beside its weights, which are used where they are mapped. Several adapters add up.
  ///
  /// The weights may be of any type: floats, integers or blocks of a GGUF file.
  /// - Parameter note: called with what a person must know.
  /// - Throws: ``AdapterError`` when an adapter does not belong to the model, or changes something that only a merge can change.
  package func decoder(
    adapters: [AppliedAdapter], arithmetic: Int4Arithmetic = .exact, pool: WorkerPool = .shared,
    note: (String) -> Void = { _ in }
  ) throws -> Decoder {
    // Before anything is read: an encoder has no decoder.
    if let first = adapters.first, configuration.family.kind != .decoder {
      throw AdapterError(.baseIsNoDecoder(configuration.family.name), path: first.adapter.path)
    }
    let decoder = try decoder(arithmetic: arithmetic, pool: pool)
    guard !adapters.isEmpty else { return decoder }
    return decoder.replacing(try weights(of: decoder, adaptedBy: adapters, note: note))
  }

  /// What adapters make of a decoder's weights, whose memory is shared.
  /// - Parameter decoder: this model's.
  package func weights(
    of decoder: Decoder, adaptedBy adapters: [AppliedAdapter], note: (String) -> Void = { _ in }
  ) throws -> DecoderWeights {
    var adaptation = Adaptation(self, decoder)
    for applied in adapters {
      if let text = applied.adapter.untargetedNote { note(text) }
      if let text = applied.adapter.templateNote(base: files) { note(text) }
      try adaptation.add(applied)
    }
    return try adaptation.finished()
  }
}

extension LoRAAdapter {
  /// A sentence on weights in the file that the settings leave out; nil: there are none.
  package var untargetedNote: String? {
    untargeted.first.map {
      "\(path): weights of \(untargeted.count) modules, \($0) among them, are left out, because target_modules and the settings "
        + "beside it do not name them"
    }
  }

  /// Bytes of the weights that take the place of the base model's.
  package var replacementByteCount: Int {
    (Array(replacements.values) + Array(originals.values)).reduce(0) { $0 + $1.bytes.count }
  }
}

/// Collects what adapters change of a decoder.
private struct Adaptation {
  private let path: String
  private let configuration: ModelConfiguration
  private let index: TensorIndex
  private let projections: Set<ModuleKind>
  private let decoder: Decoder
  private let pool: WorkerPool
  private var weights: DecoderWeights
  private var updates: [ModuleID: [Piece]] = [:]
  private var replaced: Set<TensorID> = []

  /// An update with the row of B for each output of the projection; −1: none.
  private struct Piece {
    let update: LoRAAdapter.Update
    let factor: Float
    let rows: [Int]
  }

  init(_ model: OpenedModel, _ decoder: Decoder) {
    path = model.path
    configuration = model.configuration
    index = TensorIndex(model.configuration)
    projections = Set(index.stages.flatMap(\.modules))
    self.decoder = decoder
    pool = decoder.steps.pool
    weights = decoder.weights
  }

  mutating func add(_ applied: AppliedAdapter) throws {
    let adapter = applied.adapter
    func refuse(_ what: AdapterError.MergedOnly, _ tensor: ByteText) -> AdapterError {
      AdapterError(.needsMerge(what), path: adapter.path, tensor: tensor.text)
    }
    if let first = adapter.rows.keys.min() { throw refuse(.tokenRows, first) }
    for (name, tensor) in adapter.originals.sorted(by: { $0.key < $1.key })
    where adapter.replacements[name] == nil {
      try replace(name, by: tensor, of: applied, isOriginal: true)
    }
    for (name, tensor) in adapter.replacements.sorted(by: { $0.key < $1.key }) {
      try replace(name, by: tensor, of: applied, isOriginal: false)
    }
    for (module, update) in adapter.updates.sorted(by: { $0.key < $1.key }) {
      let id = index.module(named: module.text)
      if id == .embedding { throw refuse(.embedding, module) }
      if id == .head && configuration.tieWordEmbeddings && adapter.keepsTies {
        throw refuse(.tiedMatrices, module)
      }
      let places = try adapter.places(of: module.text, update, in: configuration, base: path) {
        linear($0).map { [$0.outFeatures, $0.inFeatures] }
      }
      for tensor in [update.a, update.b] { try checkFinite(tensor) }
      for place in places {
        updates[place.module, default: []].append(
          Piece(update: update, factor: applied.factor, rows: place.rows))
      }
    }
  }

  func finished() throws -> DecoderWeights {
    var result = weights
    for (module, pieces) in updates {
      let update = lowRank(pieces)
      if let layer = module.layer {
        result.layers[layer][module.kind].update = update
      } else {
        result.head.update = update
      }
    }
    return result
  }

  // MARK: Updates

  /// The projection; nil: the decoder has none of that name.
  private func linear(_ id: ModuleID) -> Linear? {
    guard let layer = id.layer else { return id == .head ? weights.head : nil }
    guard weights.layers.indices.contains(layer), projections.contains(id.kind) else { return nil }
    return weights.layers[layer][id.kind]
  }

  /// Several updates as one: the rows of A one after the other, the columns of B beside each other.
  private func lowRank(_ pieces: [Piece]) -> LowRankUpdate {
    let types = Set(pieces.flatMap { [$0.update.a.dtype, $0.update.b.dtype] })
    let type = types.count == 1 ? types.first ?? .f32 : .f32
    let rank = pieces.reduce(0) { $0 + $1.update.rank }
    let (width, height) = (pieces.first?.update.a.shape[1] ?? 0, pieces.first?.rows.count ?? 0)
    let size = type.byteCount
    let a = AlignedBuffer<UInt8>(zeros: rank * width * size)
    let b = AlignedBuffer<UInt8>(zeros: height * rank * size)
    var first = 0
    for piece in pieces {
      let own = piece.update.rank
      copy(piece.update.a, as: type, to: a.pointer + first * width * size)
      let columns = AlignedBuffer<UInt8>(count: piece.update.b.shape[0] * own * size)
      copy(piece.update.b, as: type, to: columns.pointer)
      for (row, source) in piece.rows.enumerated() where source >= 0 {
        (b.pointer + (row * rank + first) * size).update(
          from: columns.pointer + source * own * size, count: own * size)
      }
      first += own
    }
    return LowRankUpdate(
      a: panels(a.pointer, type, out: rank, in: width), b: panels(b.pointer, type, out: height, in: rank),
      scales: pieces.flatMap { piece in
        [Float](repeating: piece.update.scale * piece.factor, count: piece.update.rank)
      })
  }

  private func copy(_ tensor: StoredTensor, as type: DType, to target: UnsafeMutablePointer<UInt8>) {
    guard let base = tensor.bytes.baseAddress else { return }
    if tensor.dtype == type {
      UnsafeMutableRawPointer(target).copyMemory(from: base, byteCount: tensor.bytes.count)
    } else {
      UnsafeMutableRawPointer(target).withMemoryRebound(
        to: Float.self, capacity: tensor.shape.reduce(1, *)
      ) {
        pool.kernels.widen(
          $0, from: base, type: tensor.dtype.kernelType, count: tensor.shape.reduce(1, *))
      }
    }
  }

  private func panels(_ rows: UnsafePointer<UInt8>, _ type: DType, out: Int, in width: Int) -> PanelMatrix {
    let bytes = AlignedBuffer<UInt8>(
      count: PanelMatrix.byteCount(outFeatures: out, inFeatures: width, dtype: type))
    FloatPanels.pack(rows, dtype: type, out: out, in: width, into: bytes.pointer, pool: pool)
    return PanelMatrix(
      elements: bytes.pointer, dtype: type, outFeatures: out, inFeatures: width, owner: bytes)
  }

  private func checkFinite(_ tensor: StoredTensor) throws {
    if let index = FiniteCheck.firstNotFinite(tensor.bytes, dtype: tensor.dtype, pool: pool) {
      throw AdapterError(.notFinite(index: index), path: tensor.file.path, tensor: tensor.name)
    }
  }

  // MARK: Whole weights

  /// Puts a weight of the adapter in the place of the model's.
  /// - Parameter isOriginal: it is the base model's as it was trained on, which may well be the same.
  private mutating func replace(
    _ name: ByteText, by tensor: StoredTensor, of applied: AppliedAdapter, isOriginal: Bool
  ) throws {
    let path = applied.adapter.path
    func fail(_ reason: AdapterError.Reason) -> AdapterError {
      AdapterError(reason, path: path, tensor: tensor.name)
    }
    let missing = AdapterError.Reason.noTensorInBase(shape: tensor.shape, base: self.path)
    guard case .known(let id) = index.key(named: name.text) else { throw fail(missing) }
    guard let expected = index.tensor(id)?.shape else { throw fail(missing) }
    let isOfVocabulary = id.module == .embedding || id.module == .head
    guard tensor.shape == expected else {
      throw fail(
        isOfVocabulary && tensor.shape.dropFirst() == expected.dropFirst()
          ? .needsMerge(.vocabulary) : .replacementDoesNotFit(shape: tensor.shape, base: expected))
    }
    if isOriginal, isSame(tensor, as: id) { return }
    if id.module == .embedding { throw fail(.needsMerge(.embedding)) }
    if id.module == .head && configuration.tieWordEmbeddings && applied.adapter.keepsTies {
      throw fail(.needsMerge(.tiedMatrices))
    }
    guard applied.factor == 1 else { throw fail(.replacementWithFactor(applied.factor)) }
    guard replaced.insert(id).inserted else { throw fail(.replacedTwice) }
    try checkFinite(tensor)
    guard try set(tensor, as: id) else { throw fail(missing) }
  }

  /// - Returns: false when the decoder has no such tensor.
  private mutating func set(_ tensor: StoredTensor, as id: TensorID) throws -> Bool {
    switch (id.module.kind, id.module.layer, id.part) {
    case (.finalNorm, _, .weight): weights.finalNorm = vector(tensor)
    case (.inputNorm, let layer?, .weight): weights.layers[layer].inputNorm = vector(tensor)
    case (.postAttentionNorm, let layer?, .weight): weights.layers[layer].postAttentionNorm = vector(tensor)
    default:
      guard var linear = linear(id.module) else { return false }
      switch id.part {
      case .weight: linear.weight = matrix(tensor)
      case .bias:
        guard linear.bias != nil else { return false }
        linear.bias = vector(tensor)
      }
      if let layer = id.module.layer {
        weights.layers[layer][id.module.kind] = linear
      } else {
        weights.head = linear
      }
    }
    return true
  }

  private func vector(_ tensor: StoredTensor) -> AlignedBuffer<Float> {
    let result = AlignedBuffer<Float>(count: tensor.shape.reduce(1, *))
    if let base = tensor.bytes.baseAddress {
      pool.kernels.widen(result.pointer, from: base, type: tensor.dtype.kernelType, count: result.count)
    }
    return result
  }

  private func matrix(_ tensor: StoredTensor) -> WeightMatrix {
    let bytes = AlignedBuffer<UInt8>(count: tensor.bytes.count)
    if let base = tensor.bytes.baseAddress {
      UnsafeMutableRawPointer(bytes.pointer).copyMemory(from: base, byteCount: tensor.bytes.count)
    }
    return .panels(panels(bytes.pointer, tensor.dtype, out: tensor.shape[0], in: tensor.shape[1]))
  }

  /// Whether the decoder has the same numbers.
  private func isSame(_ tensor: StoredTensor, as id: TensorID) -> Bool {
    guard id.part == .weight, let base = tensor.bytes.baseAddress else { return false }
    let matrix: WeightMatrix
    switch id.module {
    case .embedding: matrix = decoder.embedding
    case .head: matrix = weights.head.weight
    default:
      guard let linear = linear(id.module) else { return false }
      matrix = linear.weight
    }
    guard tensor.shape == [matrix.outFeatures, matrix.inFeatures] else { return false }
    let (width, kernels) = (matrix.inFeatures, pool.kernels)
    return Scratch.withFloats(2 * width) { rows in
      let (own, other) = (rows, rows + width)
      return (0..<matrix.outFeatures).allSatisfy { row in
        matrix.copyRow(row, into: own, kernels: kernels)
        kernels.widen(
          other, from: base + row * width * tensor.dtype.byteCount, type: tensor.dtype.kernelType,
          count: width)
        return (0..<width).allSatisfy { own[$0] == other[$0] }
      }
    }
  }
}
