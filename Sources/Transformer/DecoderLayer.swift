import Architecture
import Compute
import Tensors

/// The weights of one block.
package struct DecoderLayer: Sendable {
  /// The projections to queries, keys and values: one fused matrix, or three.
  package enum QKVProjection: Sendable {
    case fused(Linear)
    case separate(q: Linear, k: Linear, v: Linear)

    package var linears: [Linear] {
      switch self {
      case .fused(let linear): [linear]
      case .separate(let q, let k, let v): [q, k, v]
      }
    }

    /// ``Linear/announce(_:outputs:pool:)`` for the projections, which one product reads one after the other.
    func announce(pool: WorkerPool) {
      switch self {
      case .fused(let linear): Linear.announce(linear, outputs: linear.outFeatures, pool: pool)
      case .separate(let q, let k, let v):
        Linear.announce(q, outputs: q.outFeatures + k.outFeatures + v.outFeatures, pool: pool)
      }
    }
  }

  /// `[hiddenSize]`
  package var inputNorm: AlignedBuffer<Float>
  package var qkv: QKVProjection
  package var o: Linear
  /// `[hiddenSize]`
  package var postAttentionNorm: AlignedBuffer<Float>
  package var gate: Linear
  package var up: Linear
  package var down: Linear

  package init(
    inputNorm: AlignedBuffer<Float>, qkv: QKVProjection, o: Linear, postAttentionNorm: AlignedBuffer<Float>,
    gate: Linear, up: Linear, down: Linear
  ) {
    self.inputNorm = inputNorm
    self.qkv = qkv
    self.o = o
    self.postAttentionNorm = postAttentionNorm
    self.gate = gate
    self.up = up
    self.down = down
  }
}

extension DecoderLayer {
  /// Whether a projection has integer weights.
  package var hasIntegers: Bool {
    (qkv.linears + [o, gate, up, down]).contains {
      if case .intPanels = $0.weight { true } else { false }
    }
  }

  /// How the layer's products with floats are computed.
  package mutating func setFloatArithmetic(_ arithmetic: FloatArithmetic) {
    func set(_ linear: inout Linear) { linear.floatArithmetic = arithmetic }
    switch qkv {
    case .fused(var linear):
      set(&linear)
      qkv = .fused(linear)
    case .separate(var q, var k, var v):
      set(&q)
      set(&k)
      set(&v)
      qkv = .separate(q: q, k: k, v: v)
    }
    set(&o)
    set(&gate)
    set(&up)
    set(&down)
  }
}

extension DecoderLayer {
  /// The projection of that kind.
  /// - Precondition: the layer has it; ``TensorIndex/stages`` of its architecture says which it has.
  package subscript(kind: ModuleKind) -> Linear {
    get {
      switch (kind, qkv) {
      case (.fusedQKV, .fused(let linear)): return linear
      case (.query, .separate(let q, _, _)): return q
      case (.key, .separate(_, let k, _)): return k
      case (.value, .separate(_, _, let v)): return v
      case (.attentionOutput, _): return o
      case (.gate, _): return gate
      case (.up, _): return up
      case (.down, _): return down
      default: preconditionFailure("this layer has no projection \(kind.rawValue)")
      }
    }
    set {
      switch (kind, qkv) {
      case (.fusedQKV, .fused): qkv = .fused(newValue)
      case (.query, .separate(_, let k, let v)): qkv = .separate(q: newValue, k: k, v: v)
      case (.key, .separate(let q, _, let v)): qkv = .separate(q: q, k: newValue, v: v)
      case (.value, .separate(let q, let k, _)): qkv = .separate(q: q, k: k, v: newValue)
      case (.attentionOutput, _): o = newValue
      case (.gate, _): gate = newValue
      case (.up, _): up = newValue
      case (.down, _): down = newValue
      default: preconditionFailure("this layer has no projection \(kind.rawValue)")
      }
    }
  }
}

/// Rows of activations that belong together as one sequence.
package struct SequenceSlice: Sendable {
  /// Row of its first token in the batch.
  package var firstRow: Int
  package var rowCount: Int
  /// Position of its first token: tokens already in the cache.
  package var firstPosition: Int
  package var cache: KVCache

  package init(firstRow: Int, rowCount: Int, firstPosition: Int, cache: KVCache) {
    self.firstRow = firstRow
    self.rowCount = rowCount
    self.firstPosition = firstPosition
    self.cache = cache
  }
}

/// The steps of a block, one by one, so that calibration can stop between them. Buffers are row-major, one row a token.
package struct LayerSteps: Sendable {
  package let configuration: DecoderConfiguration
  package let rotary: RotaryEmbedding
  package let pool: WorkerPool
  /// Of attention.
  package let arithmetic: AttentionArithmetic

  package init(
    configuration: DecoderConfiguration, rotary: RotaryEmbedding, pool: WorkerPool,
    arithmetic: AttentionArithmetic = .exact
  ) {
    self.arithmetic = arithmetic
    self.configuration = configuration
    self.rotary = rotary
    self.pool = pool
  }

  /// y = RMSNorm(x) · weight; `[rows, hiddenSize]` both. y may be x.
  package func normalize(
    _ x: UnsafePointer<Float>, weight: AlignedBuffer<Float>, rows: Int, into y: UnsafeMutablePointer<Float>
  ) {
    let width = configuration.hiddenSize
    let kernels = pool.kernels
    let (x, y) = (SharedPointer(x), DisjointWrites(y))
    pool.runRanges(rows, grain: 4) { range in
      for row in range {
        kernels.rmsNorm(
          y + row * width, x: x + row * width, weight: weight.pointer, count: width,
          epsilon: configuration.rmsNormEps)
      }
    }
  }

  /// x `[rows, hiddenSize]` → queries, keys and values `[rows, qkvWidth]`.
  package func projectQKV(
    _ x: UnsafePointer<Float>, rows: Int, projection: DecoderLayer.QKVProjection,
    into qkv: UnsafeMutablePointer<Float>
  ) {
    Linear.apply(projections(projection, into: qkv), to: x, rows: rows, pool: pool)
  }

  /// The projections of queries, keys and values, with their places in a row.
  func projections(_ projection: DecoderLayer.QKVProjection, into qkv: UnsafeMutablePointer<Float>)
    -> [Linear.Projection]
  {
    let width = configuration.qkvWidth
    switch projection {
    case .fused(let linear): return [(linear, qkv, width)]
    case .separate(let q, let k, let v):
      let keys = qkv + q.outFeatures
      return [(q, qkv, width), (k, keys, width), (v, keys + k.outFeatures, width)]
    }
  }

  /// x += y, `rows` rows of `hiddenSize`.
  package func addResidual(_ y: UnsafePointer<Float>, rows: Int, to x: UnsafeMutablePointer<Float>) {
    let width = configuration.hiddenSize
    let kernels = pool.kernels
    let (x, y) = (DisjointWrites(x), SharedPointer(y))
    pool.runRanges(rows, grain: 4) { range in
      kernels.add(x + range.lowerBound * width, y + range.lowerBound * width, count: range.count * width)
    }
  }

  /// y = silu(gate) · up, `rows` rows of `intermediateSize`. y may be gate.
  package func activate(
    gate: UnsafePointer<Float>, up: UnsafePointer<Float>, rows: Int, into y: UnsafeMutablePointer<Float>
  ) {
    let width = configuration.intermediateSize
    let kernels = pool.kernels
    let (gate, up, y) = (SharedPointer(gate), SharedPointer(up), DisjointWrites(y))
    pool.runRanges(rows) { range in
      let offset = range.lowerBound * width
      kernels.siluMultiply(y + offset, gate: gate + offset, up: up + offset, count: range.count * width)
    }
  }
}
