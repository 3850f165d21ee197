import Architecture
import Compute
import Tensors

/// Weight and bias of a layer norm, `[hiddenSize]` each.
package struct LayerNorm: Sendable {
  package var weight: AlignedBuffer<Float>
  package var bias: AlignedBuffer<Float>

  package init(weight: AlignedBuffer<Float>, bias: AlignedBuffer<Float>) {
    precondition(weight.count == bias.count)
    self.weight = weight
    self.bias = bias
  }
}

/// The weights of one block of an encoder.
package struct EncoderLayer: Sendable {
  package var query: Linear
  package var key: Linear
  package var value: Linear
  package var attentionOutput: Linear
  package var attentionNorm: LayerNorm
  package var intermediate: Linear
  package var output: Linear
  package var outputNorm: LayerNorm

  package init(
    query: Linear, key: Linear, value: Linear, attentionOutput: Linear, attentionNorm: LayerNorm,
    intermediate: Linear, output: Linear, outputNorm: LayerNorm
  ) {
    self.query = query
    self.key = key
    self.value = value
    self.attentionOutput = attentionOutput
    self.attentionNorm = attentionNorm
    self.intermediate = intermediate
    self.output = output
    self.outputNorm = outputNorm
  }

  /// `fast` where the projections before it are: of integer weights.
  var attentionArithmetic: AttentionArithmetic {
    if case .intPanels = query.weight, query.arithmetic == .fast { .fast } else { .exact }
  }

  /// The projection of that kind.
  /// - Precondition: the layer has it; ``TensorIndex/stages`` of its architecture says which it has.
  package subscript(kind: ModuleKind) -> Linear {
    get {
      switch kind {
      case .query: query
      case .key: key
      case .value: value
      case .attentionOutput: attentionOutput
      case .intermediate: intermediate
      case .output: output
      default: preconditionFailure("an encoder's layer has no projection \(kind.rawValue)")
      }
    }
    set {
      switch kind {
      case .query: query = newValue
      case .key: key = newValue
      case .value: value = newValue
      case .attentionOutput: attentionOutput = newValue
      case .intermediate: intermediate = newValue
      case .output: output = newValue
      default: preconditionFailure("an encoder's layer has no projection \(kind.rawValue)")
      }
    }
  }
}

/// The steps of an encoder's block in the order of a forward pass, as ``BlockStep`` is of a decoder's.
package enum EncoderStep: Int, CaseIterable, Sendable {
  /// qkv = x · Wᵀ + b.
  case queriesKeysValues
  /// attention = softmax(q · Kᵀ / √headDim) · V, every token seeing its whole text.
  case attention
  /// x = LayerNorm(attention · Wᵀ + b + x).
  case attentionOutput
  /// intermediate = activation(x · Wᵀ + b).
  case intermediate
  /// x = LayerNorm(intermediate · Wᵀ + b + x).
  case output

  /// The projections that the step multiplies with; nil: none.
  package var stage: TensorRule.Stage? {
    switch self {
    case .queriesKeysValues: .attentionInput
    case .attention: nil
    case .attentionOutput: .attentionOutput
    case .intermediate: .feedForwardInput
    case .output: .feedForwardOutput
    }
  }
}

/// Rows of activations on their way through a block of an encoder, and the memory of its steps: row-major, one row a token, the
/// texts one after the other without padding.
package struct EncoderRows {
  /// Rows of each text.
  package var texts: [Range<Int>]
  package var count: Int
  /// The block's input, then its output: `[count, hiddenSize]`.
  package var x: UnsafeMutablePointer<Float>
  /// `[count, 3 * hiddenSize]`: queries, keys, values.
  package var qkv: UnsafeMutablePointer<Float>
  /// `[count, hiddenSize]`
  package var attention: UnsafeMutablePointer<Float>
  /// `[count, intermediateSize]`
  package var intermediate: UnsafeMutablePointer<Float>
  /// What projections give before it is added: `[count, hiddenSize]`. It lies where queries do, which are used up by then.
  package var product: UnsafeMutablePointer<Float> { qkv }

  /// - Parameter texts: rows of each, the first from 0.
  package init(x: UnsafeMutablePointer<Float>, texts: [Range<Int>], work: EncoderBuffers) {
    count = texts.last?.upperBound ?? 0
    precondition(count <= work.rows, "the working memory is for \(work.rows) rows, there are \(count)")
    self.texts = texts
    self.x = x
    qkv = work.qkv.pointer
    attention = work.attention.pointer
    intermediate = work.intermediate.pointer
  }

  /// What goes into the projections of a stage.
  package func input(of stage: TensorRule.Stage) -> UnsafeMutablePointer<Float> {
    switch stage {
    case .attentionInput, .feedForwardInput: x
    case .attentionOutput: attention
    case .feedForwardOutput: intermediate
    }
  }
}

/// Working memory of a block's steps.
package struct EncoderBuffers: Sendable {
  package let rows: Int
  let qkv: AlignedBuffer<Float>
  let attention: AlignedBuffer<Float>
  let intermediate: AlignedBuffer<Float>

  package init(_ c: EncoderConfiguration, rows: Int) {
    self.rows = rows
    qkv = AlignedBuffer(count: rows * 3 * c.hiddenSize)
    attention = AlignedBuffer(count: rows * c.hiddenSize)
    intermediate = AlignedBuffer(count: rows * c.intermediateSize)
  }

  /// Bytes for so many rows.
  package static func byteCount(_ c: EncoderConfiguration, rows: Int) -> Int {
    4 * rows * (4 * c.hiddenSize + c.intermediateSize)
  }
}

/// The steps of an encoder's block, one by one, so that calibration can stop between them.
package struct EncoderSteps: Sendable {
  package let configuration: EncoderConfiguration
  package let pool: WorkerPool

  package init(configuration: EncoderConfiguration, pool: WorkerPool) {
    self.configuration = configuration
    self.pool = pool
  }

  /// Runs one step of a layer on `rows`.
  package func run(_ step: EncoderStep, of layer: EncoderLayer, on rows: EncoderRows) {
    let hidden = configuration.hiddenSize
    let count = rows.count
    switch step {
    case .queriesKeysValues:
      let width = 3 * hidden
      Linear.apply(
        [
          (layer.query, rows.qkv, width), (layer.key, rows.qkv + hidden, width),
          (layer.value, rows.qkv + 2 * hidden, width),
        ],
        to: rows.x, rows: count, pool: pool)
    case .attention:
      attend(rows.qkv, texts: rows.texts, arithmetic: layer.attentionArithmetic, into: rows.attention)
    case .attentionOutput:
      add(layer.attentionOutput, of: rows.attention, to: rows, then: layer.attentionNorm)
    case .intermediate:
      let width = configuration.intermediateSize
      Linear.apply(
        [(layer.intermediate, rows.intermediate, width)], to: rows.x, rows: count, addsBias: false, pool: pool
      )
      activate(rows.intermediate, bias: layer.intermediate.bias, rows: count)
    case .output: add(layer.output, of: rows.intermediate, to: rows, then: layer.outputNorm)
    }
  }

  /// x = LayerNorm(input · Wᵀ + b + x)
  private func add(
    _ linear: Linear, of input: UnsafePointer<Float>, to rows: EncoderRows, then norm: LayerNorm
  ) {
    let width = configuration.hiddenSize
    Linear.apply([(linear, rows.product, width)], to: input, rows: rows.count, addsBias: false, pool: pool)
    let kernels = pool.kernels
    let (x, product) = (DisjointWrites(rows.x), DisjointWrites(rows.product))
    pool.runRanges(rows.count, grain: 4) { range in
      for row in range {
        kernels.layerNorm(
          x + row * width, x: product + row * width, adding: linear.bias?.pointer, residual: x + row * width,
          weight: norm.weight.pointer, bias: norm.bias.pointer, count: width,
          epsilon: configuration.layerNormEps)
      }
    }
  }

  /// y = activation(y + bias), `rows` rows of `intermediateSize`.
  private func activate(_ y: UnsafeMutablePointer<Float>, bias: AlignedBuffer<Float>?, rows: Int) {
    let width = configuration.intermediateSize
    let kernels = pool.kernels
    let y = DisjointWrites(y)
    pool.runRanges(rows) { range in
      for row in range {
        let line = y + row * width
        switch configuration.activation {
        case .gelu: kernels.gelu(line, bias: bias?.pointer, count: width)
        case .geluTanh: kernels.geluTanh(line, bias: bias?.pointer, count: width)
        case .relu: kernels.relu(line, bias: bias?.pointer, count: width)
        }
      }
    }
  }
}
