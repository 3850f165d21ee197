import Architecture
import Compute
import Distribution
import Files
import Tensors

/// The layer store for all ranks: rank 0 has it on its disk, reads it for the others, and writes it.
///
/// All ranks call the same methods in the same order.
struct SharedStore {
  /// Nil on other ranks than 0.
  let store: LayerStore?
  let communicator: any Communicator

  init(_ store: LayerStore?, _ communicator: any Communicator) {
    precondition((store != nil) == communicator.isRoot, "rank 0 has the store")
    (self.store, self.communicator) = (store, communicator)
  }

  /// What rank 0 finds in the store, on all ranks.
  func ask<Value: BitwiseCopyable>(_ question: (LayerStore) throws -> Value) throws -> Value {
    try communicator.broadcast(store.map { [try question($0)] })[0]
  }

  func finishedLayers() throws -> Int { try ask(\.finishedLayers) }

  // MARK: Activations

  /// Reads the latest activations that are there and go into `layer` or one before it.
  /// - Parameter hidden: of this rank's rows, in the quantized model and perhaps in the float model.
  /// - Returns: the layer they go into; nil when there are none.
  func load(
    into hidden: [AlignedBuffer<Float>], of shards: CalibrationShards, width: Int, notAfter layer: Int
  ) throws -> Int? {
    guard !communicator.isAlone else { return try store?.load(into: hidden, notAfter: layer) }
    let bytes = shards.allRows * width * 4
    let file = try store?.hidden(byteCount: bytes * hidden.count, notAfter: layer)
    let found = try communicator.broadcast(value: file?.layer ?? -1)
    guard found >= 0 else { return nil }
    for (place, stream) in hidden.enumerated() {
      try withExtendedLifetime(file) {
        try shards.deal(
          file?.file.bytes.baseAddress.map { $0 + place * bytes }, into: stream.pointer, width: width * 4,
          communicator)
      }
    }
    return found
  }

  /// Keeps the activations that go into `layer`.
  func save(
    hidden: [AlignedBuffer<Float>], of shards: CalibrationShards, width: Int, before layer: Int
  ) throws {
    if communicator.isAlone, let store { return try store.save(hidden: hidden, before: layer) }
    let file = try collect(hidden: hidden, of: shards, width: width, before: layer)
    if let file { try store?.commit(hidden: file, before: layer) }
  }

  /// Writes the activations that go into `layer`, of all ranks.
  /// - Returns: on rank 0 the file, which the store has yet to commit.
  func collect(
    hidden: [AlignedBuffer<Float>], of shards: CalibrationShards, width: Int, before layer: Int
  ) throws -> AtomicFile? {
    let file = try store?.hiddenFile(
      byteCount: shards.allRows * width * 4 * hidden.count, before: layer)
    for stream in hidden {
      try shards.collect(stream.pointer, width: width * 4, communicator) { try file?.write($0) }
    }
    return file
  }

  // MARK: Statistics

  /// Keeps what was learned of a layer's outputs, and the gradient of its input.
  /// - Parameters:
  ///   - statistics: of this rank's rows, and output Hessians of all.
  ///   - gradient: of this rank's rows.
  func save(
    _ statistics: LayerStatistics, gradient: AlignedBuffer<Float>, of shards: CalibrationShards, width: Int,
    ofLayer layer: Int, layerCount: Int
  ) throws {
    // The gradient of the layer after is needed until these statistics are there.
    if layer > 0 {
      let file = try store?.gradientFile(byteCount: shards.allRows * width * 4, ofLayer: layer)
      try shards.collect(gradient.pointer, width: width * 4, communicator) { bytes in
        // Small pieces: each is copied, and a few wait to be written.
        for start in stride(from: 0, to: bytes.count, by: 1 << 21) {
          try file?.write(
            UnsafeRawBufferPointer(rebasing: bytes[start..<min(bytes.count, start + 1 << 21)]))
        }
      }
      try file?.commit()
    }
    var whole = statistics
    if !communicator.isAlone {
      for (kind, module) in statistics.modules {
        var weights: [UInt8] = []
        try shards.collect(module.tokenWeights.pointer, width: 4, communicator) { weights += $0 }
        if communicator.isRoot {
          let all = AlignedBuffer<Float>(count: shards.allRows)
          UnsafeMutableRawBufferPointer(all.buffer).copyBytes(from: weights)
          whole.setTokenWeights(all, of: kind)
        }
      }
    }
    try withExtendedLifetime(whole) {
      try store?.save(statistics: whole.parts, ofLayer: layer, layerCount: layerCount)
    }
  }

  /// Reads the gradient of a layer's input.
  /// - Parameter gradient: becomes that of this rank's rows.
  /// - Returns: whether it was there.
  func load(
    gradient: AlignedBuffer<Float>, of shards: CalibrationShards, width: Int, ofLayer layer: Int
  ) throws -> Bool {
    let file = try store?.gradient(ofLayer: layer, byteCount: shards.allRows * width * 4)
    guard try communicator.broadcast(value: file != nil) else { return false }
    try withExtendedLifetime(file) {
      try shards.deal(file?.bytes.baseAddress, into: gradient.pointer, width: width * 4, communicator)
    }
    return true
  }

  /// Reads what was learned of a layer.
  /// - Parameter blockSize: outputs of a block of output Hessians; nil: there are none.
  func statistics(
    ofLayer layer: Int, _ table: TensorIndex, of shards: CalibrationShards, blockSize: Int?
  ) throws -> LayerStatistics {
    let result = LayerStatistics(table, tokens: shards.rows, blockSize: blockSize)
    let blocks = result.modules.flatMap(\.statistics.outputs.blocks).reduce(0) { $0 + $1.values.count }
    let file = try store?.statistics(
      ofLayer: layer, byteCount: 4 * (result.modules.count * shards.allRows + blocks))
    try withExtendedLifetime(file) {
      var place = file?.bytes.baseAddress
      for (_, module) in result.modules {
        try shards.deal(place, into: module.tokenWeights.pointer, width: 4, communicator)
        place = place.map { $0 + 4 * shards.allRows }
        for block in module.outputs.blocks {
          let bytes = UnsafeMutableRawBufferPointer(block.values.buffer)
          if let from = place {
            bytes.copyMemory(from: UnsafeRawBufferPointer(start: from, count: bytes.count))
          }
          if !communicator.isAlone { try communicator.broadcast(bytes, from: 0) }
          place = place.map { $0 + bytes.count }
        }
      }
    }
    return result
  }

  // MARK: Layers

  /// The matrices of a finished layer.
  /// - Parameter modules: names and shapes, on all ranks the same.
  func tensors(_ modules: [(name: String, shape: (out: Int, in: Int))], layer: Int) throws -> [IntPanelTensor]
  {
    try modules.map { module in
      let own = try store?.tensor(module.name, layer: layer, shape: module.shape)
      if communicator.isAlone, let own { return own }
      let form = try communicator.broadcast(own.map { [Form($0.layout)] })[0]
      let layout = form.layout(out: module.shape.out, in: module.shape.in)
      if let own {
        try withExtendedLifetime(own) {
          // Broadcasting does not change what rank 0 has.
          try communicator.broadcast(UnsafeMutableRawBufferPointer(mutating: own.bytes), from: 0)
        }
        return own
      }
      let buffer = AlignedBuffer<UInt8>(count: layout.byteCount)
      try communicator.broadcast(UnsafeMutableRawBufferPointer(buffer.buffer), from: 0)
      return IntPanelTensor(layout, UnsafeBytes(UnsafeRawBufferPointer(buffer.buffer), owner: buffer))
    }
  }

  /// What of a layout the shape does not say.
  private struct Form {
    let bits: Int
    let groupSize: Int
    let isSymmetric: Bool
    let isPermuted: Bool

    init(_ layout: IntPanelLayout) {
      (bits, groupSize) = (layout.bits, layout.groupSize)
      (isSymmetric, isPermuted) = (layout.isSymmetric, layout.isPermuted)
    }

    func layout(out: Int, in inFeatures: Int) -> IntPanelLayout {
      IntPanelLayout(
        bits: bits, groupSize: groupSize, outFeatures: out, inFeatures: inFeatures, isSymmetric: isSymmetric,
        isPermuted: isPermuted)
    }
  }
}
