import Architecture
import Files
import GGUF
import Models

/// Looks at a finished output before it gets its name: it opens, and has all that its source had. Headers and small files are
/// read, the weights are not.
struct OutputCheck {
  let contents: ModelContents
  /// The name that the output is to have.
  let destination: String

  /// Checks a folder or a `.zhinao` file.
  /// - Throws: ``ConversionError/Reason/outputIncomplete(_:)``, ``ConversionError/Reason/outputUnreadable(_:)``.
  func model(at path: String) throws {
    do {
      let families = [contents.configuration.family] + ModelFamily.builtIn
      let model = try OpenedModel(path: path, families: families, accepting: .all)
      let files = ForgottenFiles(
        source: contents.files, output: model.files, isQuantized: contents.quantization != nil)
      if let name = try files.first { throw incomplete(name) }
      let written = try ModelContents(model)
      guard written.configuration.decoder == contents.configuration.decoder,
        written.configuration.encoder == contents.configuration.encoder,
        written.configuration.tieWordEmbeddings == contents.configuration.tieWordEmbeddings
      else { throw incomplete("the model's settings in config.json") }
      let keys = Set(written.entries.map(\.key))
      if let entry = contents.entries.first(where: { !keys.contains($0.key) }) {
        throw incomplete("tensor \(contents.index.name(of: entry.key))")
      }
    } catch { throw unreadable(error) }
  }

  /// Checks a GGUF file.
  func gguf(at path: String, fields: [(String, GGUFField)], tensors: [GGUFTensorPlan]) throws {
    do {
      let file = try GGUFFile(path: path)
      if let field = fields.first(where: { file[$0.0] == nil }) { throw incomplete("metadata \(field.0)") }
      for plan in tensors {
        guard let tensor = file.tensor(plan.name), tensor.shape == plan.shape, tensor.type == plan.type else {
          throw incomplete("tensor \(plan.name)")
        }
      }
    } catch { throw unreadable(error) }
  }

  private func incomplete(_ what: String) -> ConversionError {
    ConversionError(.outputIncomplete(what), path: destination)
  }

  private func unreadable(_ error: any Error) -> any Error {
    if let own = error as? ConversionError { return own }
    guard let error = error as? DiagnosedError else { return error }
    return ConversionError(.outputUnreadable(error.description), path: destination)
  }
}

/// Files that make a folder a model and that an output lacks. They are asked for by their names, because a source whose names
/// cannot be listed gives an output without any.
private struct ForgottenFiles {
  let source: any ModelFiles
  let output: any ModelFiles
  /// Whether the output has codes, and needs what describes them.
  let isQuantized: Bool

  var first: String? {
    get throws {
      let names = ModelFileNames.essential + source.names.filter(ModelFileNames.belongsToModel)
      return try names.first { name in
        if name == "quantize_config.json" && !isQuantized { return false }
        // What cannot be read in the source, the tokenizer of some GGUF files, it does not have.
        guard (try? source.bytes(named: name)) != nil else { return false }
        return try output.bytes(named: name) == nil
      }
    }
  }
}
