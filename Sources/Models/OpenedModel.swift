import Architecture
import AutoGPTQ
import Compute
import Files
import Foundation
import GGUF
import PackedModel
import Safetensors
import Tensors
import Tokenization
import Transformer

/// A model, whatever it is stored as: a Hugging Face folder, an AutoGPTQ folder, a `.zhinao` file or a GGUF file.
package struct OpenedModel: Sendable {
  package let path: String
  package let store: any ModelStore

  package var kind: ModelKind { store.kind }
  package var configuration: ModelConfiguration { store.configuration }
  package var quantization: QuantizeConfiguration? { store.quantization }
  package var files: any ModelFiles { store.files }

  /// What a caller can do something with.
  package enum Kinds: Sendable { case decoders, encoders, all }

  /// How much of a model is checked when it is opened.
  package enum Verification: String, CaseIterable, Sendable {
    /// Structure only: nothing outside the file can be touched, but damage goes unseen.
    case none
    /// Also the header's checksum.
    case header
    /// Also every byte: the checksum of each tensor, or, in a folder, that no weight is NaN or infinite.
    case full
  }

  /// Opens `path` and checks its configuration; weights are mapped, not read unless `verification` is full.
  /// - Parameters:
  ///   - dequantizedType: what the blocks of a GGUF file become: bf16, f16 or f32.
  ///   - keepsCodes: blocks of a GGUF file that GPTQ's integers can express stay integers.
  ///   - preTokenizer: llama.cpp's name for how the tokenizer of a GGUF file cuts text; it wins over the file's.
  ///   - families: those among which the configuration's `model_type` chooses.
  ///   - accepting: the others are refused by name.
  package init(
    path: String, verification: Verification = .header, dequantizedType: DType = .bf16,
    keepsCodes: Bool = false, preTokenizer: String? = nil, families: [ModelFamily] = ModelFamily.builtIn,
    accepting kinds: Kinds = .decoders
  ) throws {
    self.path = path
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw FileError(.cannotOpen, path: path, detail: "no such file or folder")
    }
    if let refusal = isFolder.boolValue
      ? ForeignWeights.refusal(ofFolder: path) : ForeignWeights.refusal(ofFile: path)
    {
      throw refusal
    }
    if isFolder.boolValue {
      store = try FolderStore(path: path, families: families)
    } else if path.bytes.hasSuffix(".safetensors") {
      throw ModelError(.singleSafetensorsFile, path: path)
    } else if path.bytes.hasSuffix(".gguf") || GGUFFile.isGGUF(path: path) {
      store = try GGUFStore(
        file: try GGUFFile(path: path), dequantizedType: dequantizedType, keepsCodes: keepsCodes,
        preTokenizer: preTokenizer, families: families)
    } else {
      store = try PackedStore(
        file: PackedModelFile(path: path, checkingHeader: verification != .none), families: families)
    }
    switch (kinds, store.configuration.family.kind) {
    case (.decoders, .encoder): throw ModelError(.isEncoder(store.configuration.family.name), path: path)
    case (.encoders, .decoder): throw ModelError(.isDecoder(store.configuration.family.name), path: path)
    default: break
    }
    if verification == .full, let problem = store.problems(progress: { _ in }).first {
      throw ModelError(.problem(problem), path: path)
    }
  }

  package var decoderConfiguration: DecoderConfiguration { configuration.decoder }

  package func builder(arithmetic: Int4Arithmetic = .exact) -> DecoderBuilder {
    DecoderBuilder(configuration, weights: store, arithmetic: arithmetic)
  }

  /// The decoder, its weights used where they are mapped.
  package func decoder(arithmetic: Int4Arithmetic = .exact, pool: WorkerPool = .shared) throws -> Decoder {
    try builder(arithmetic: arithmetic).decoder(pool: pool)
  }

  /// The encoder. Float matrices of a folder are brought into the kernels' order in memory; others are used where they are
  /// mapped.
  /// - Throws: also when the model is a decoder.
  package func encoder(arithmetic: Int4Arithmetic = .exact, pool: WorkerPool = .shared) throws -> Encoder {
    try encoderBuilder(arithmetic: arithmetic, pool: pool).encoder()
  }

  package func encoderBuilder(arithmetic: Int4Arithmetic = .exact, pool: WorkerPool = .shared) throws
    -> EncoderBuilder
  {
    guard configuration.encoder != nil else {
      throw ModelError(.isDecoder(configuration.family.name), path: path)
    }
    return EncoderBuilder(configuration, weights: store, arithmetic: arithmetic, pool: pool)
  }

  /// The tokenizer, checked to fit the model's vocabulary. Added tokens may lie beyond it, as padding often does: text that
  /// does not name them never becomes their ids.
  package func tokenizer() throws -> any Tokenizer {
    let tokenizer = try TokenizerLoader.load(files)
    guard tokenizer.ordinaryTokenCount <= configuration.vocabularySize else {
      throw ModelError(
        .tokenizerTooLarge(tokens: tokenizer.ordinaryTokenCount, rows: configuration.vocabularySize),
        path: path)
    }
    return tokenizer
  }

  /// Ids that end a generation: those the configurations name, and the chat template's.
  package func stopTokens(tokenizer: any Tokenizer, template: ChatTemplate?) throws -> Set<Int> {
    var stops = Set(configuration.eosTokenIDs)
    stops.formUnion(try files.generationConfiguration().eosTokenIDs)
    stops.formUnion(template?.stopTokens(tokenizer) ?? [])
    return stops.filter { $0 >= 0 && $0 < configuration.vocabularySize }
  }
}
