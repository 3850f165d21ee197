/// A family of models: how its configuration is read, and the table of its tensors. Everything else (reading, ordering,
/// writing, names in GGUF, targets of adapters, lint) is derived from the table, so that a new family is one new value.
package struct ModelFamily: Sendable, Equatable {
  /// In which order the rows of the attention's input projections stand.
  package typealias QKVLayout = DecoderConfiguration.QKVLayout

  /// Settings that families default in different ways.
  package struct Defaults: Sendable {
    /// `max_position_embeddings` when the configuration has none.
    package var contextLength: Int
    /// Whether queries, keys and values have biases: what the configuration says (`attention_bias`), or always.
    package var qkvBias: BiasRule
    /// The same for the attention's output projection.
    package var outputBias: BiasRule
    /// The window of attention that only `use_sliding_window` switches on, when the configuration does not give another;
    /// nil: `sliding_window` alone does.
    package var switchedWindow: SwitchedWindow?
    /// Whether `partial_rotary_factor` counts. transformers ignores it in `llama` and `qwen2` models.
    package var rotatesParts: Bool

    package init(
      contextLength: Int, qkvBias: BiasRule, outputBias: BiasRule, switchedWindow: SwitchedWindow? = nil,
      rotatesParts: Bool = false
    ) {
      self.contextLength = contextLength
      self.qkvBias = qkvBias
      self.outputBias = outputBias
      self.switchedWindow = switchedWindow
      self.rotatesParts = rotatesParts
    }
  }

  package struct SwitchedWindow: Sendable {
    /// `sliding_window`, in tokens.
    package var size: Int
    /// `max_window_layers`: the first layer that has the window.
    package var firstLayer: Int

    package init(size: Int, firstLayer: Int) {
      self.size = size
      self.firstLayer = firstLayer
    }
  }

  package enum BiasRule: Sendable {
    case always, never
    /// `attention_bias` or, in older files, `bias`; false when neither is there.
    case asConfigured
  }

  /// How llama.cpp knows the family.
  package struct GGUFDialect: Sendable {
    /// `general.architecture`.
    package var architecture: String
    /// llama.cpp rotates neighbouring elements of a head where Hugging Face rotates an element of each half, so that rows of
    /// queries and keys change places.
    package var rotatesNeighbours: Bool
    /// Whether llama.cpp reads biases outside of queries, keys and values, and Llama 3's scaling of frequencies.
    package var hasOtherBiases: Bool
    package var hasFrequencyFactors: Bool

    package init(
      architecture: String, rotatesNeighbours: Bool = false, hasOtherBiases: Bool = false,
      hasFrequencyFactors: Bool = false
    ) {
      self.architecture = architecture
      self.rotatesNeighbours = rotatesNeighbours
      self.hasOtherBiases = hasOtherBiases
      self.hasFrequencyFactors = hasFrequencyFactors
    }
  }

  /// What a family's models do with a sequence.
  package enum Kind: Sendable {
    /// Each token sees those before it: text is generated.
    case decoder
    /// Each token sees all: vectors and scores of whole texts.
    case encoder
  }

  /// `model_type` in `config.json`.
  package let name: String
  package let kind: Kind
  /// What classes with a head put before the names of the model without it; empty: nothing.
  package let bodyPrefix: String
  /// Older names of the parts of layer norms: weight, bias; nil: there are none.
  package let legacyNormParts: (weight: String, bias: String)?
  /// The class that transformers loads, `architectures` in `config.json`.
  package let modelClass: String
  package let qkvLayout: QKVLayout
  package let defaults: Defaults
  /// Nil: the family is exported in the layout of ``stockLayout``.
  package let gguf: GGUFDialect?
  /// What stands before the number of a layer in names, and its counterpart in GGUF.
  package let layerPrefix: String
  package let ggufLayerPrefix: String
  /// Every tensor, in the order of a forward pass: those before the layers, those of one layer, those after.
  package let tensors: [TensorRule]
  /// The family in whose layout engines without remote code load the same decoder; nil: this one's.
  package let stockLayoutName: String?

  package init(
    name: String, kind: Kind = .decoder, modelClass: String, qkvLayout: QKVLayout, defaults: Defaults,
    gguf: GGUFDialect?, stockLayoutName: String? = nil, layerPrefix: String = "model.layers.",
    ggufLayerPrefix: String = "blk.", bodyPrefix: String = "",
    legacyNormParts: (weight: String, bias: String)? = nil, tensors: [TensorRule]
  ) {
    self.name = name
    self.kind = kind
    self.bodyPrefix = bodyPrefix
    self.legacyNormParts = legacyNormParts
    self.modelClass = modelClass
    self.qkvLayout = qkvLayout
    self.defaults = defaults
    self.gguf = gguf
    self.stockLayoutName = stockLayoutName
    self.layerPrefix = layerPrefix
    self.ggufLayerPrefix = ggufLayerPrefix
    self.tensors = tensors
  }

  package static func == (a: ModelFamily, b: ModelFamily) -> Bool { a.name == b.name }

  /// The families this toolchain knows.
  package static let builtIn: [ModelFamily] = [.zhinao, .llama, .qwen2, .bert]

  /// The family whose layout stock engines load: ``stockLayoutName``, or this one.
  package var stockLayout: ModelFamily {
    ModelFamily.builtIn.first { $0.name == stockLayoutName } ?? self
  }

  /// Whether engines need the publisher's own code for the family.
  package var needsRemoteCode: Bool { stockLayoutName != nil }
}
