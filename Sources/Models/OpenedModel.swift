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
  package enum Kind: String, Sendable {
    case checkpoint = "Hugging Face checkpoint"
    case autoGPTQ = "AutoGPTQ checkpoint"
    case packed = ".zhinao file"
    case gguf = "GGUF file"
  }
  package let path: String
  package let kind: Kind
  package let configuration: ModelConfiguration
  package let quantization: QuantizeConfiguration?
  package let files: any ModelFiles
  package let weights: any WeightSource

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
  package init(
    path: String, verification: Verification = .header, dequantizedType: DType = .bf16,
    keepsCodes: Bool = false
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
      let files = FolderFiles(path)
      self.files = files
      configuration = try files.modelConfiguration()
      quantization = try files.quantizeConfiguration()
      let table = try TensorTable(path: path)
      weights = FolderWeights(table: table, quantization: quantization)
      kind = quantization == nil ? .checkpoint : .autoGPTQ
    } else if path.bytes.hasSuffix(".safetensors") {
      throw ModelError(
        path: path, detail: "is a single safetensors file; give the folder that also holds config.json")
    } else if path.bytes.hasSuffix(".gguf") || GGUFFile.isGGUF(path: path) {
      let file = try GGUFFile(path: path)
      files = try GGUFModelFiles(file: file, weightType: dequantizedType)
      configuration = try files.modelConfiguration()
      let gguf = try GGUFWeights(
        file: file, configuration: configuration, dequantizedType: dequantizedType, keepsCodes: keepsCodes)
      quantization = gguf.quantization
      weights = gguf
      kind = .gguf
    } else {
      let file = try PackedModelFile(path: path, checkingHeader: verification != .none)
      files = file.files
      configuration = try file.files.modelConfiguration()
      quantization = file.header.quantization
      weights = PackedWeights(file: file)
      kind = .packed
    }
    if verification == .full, let problem = firstProblem() { throw ModelError(path: path, detail: problem) }
  }

  /// What is wrong with the weights' bytes, or nil.
  private func firstProblem() -> String? {
    if let packed = weights as? PackedWeights { return packed.file.problems().first }
    if let gguf = weights as? GGUFWeights { return gguf.problems { _, _ in }.first }
    guard let folder = weights as? FolderWeights else { return nil }
    return folder.table.inFileOrder.lazy.compactMap { FiniteCheck.problem($0) }.first
  }

  package var decoderConfiguration: DecoderConfiguration { DecoderConfiguration(configuration) }

  package func builder(arithmetic: Int4Arithmetic = .exact) -> DecoderBuilder {
    DecoderBuilder(configuration, weights: weights, arithmetic: arithmetic)
  }

  /// The decoder, its weights used where they are mapped.
  package func decoder(arithmetic: Int4Arithmetic = .exact, pool: WorkerPool = .shared) throws -> Decoder {
    try builder(arithmetic: arithmetic).decoder(pool: pool)
  }

  /// The tokenizer, checked to fit the model's vocabulary.
  package func tokenizer() throws -> any Tokenizer {
    let tokenizer = try TokenizerLoader.load(files)
    guard tokenizer.tokenCount <= configuration.vocabularySize else {
      throw ModelError(
        path: path,
        detail:
          "the tokenizer has \(tokenizer.tokenCount) ids, the model only \(configuration.vocabularySize) rows: "
          + "they do not belong together")
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
