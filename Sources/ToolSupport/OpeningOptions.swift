import ArgumentParser
import Files
import Foundation
import JSON
import Models
import Tensors

extension OpenedModel.Verification: ExpressibleByArgument {}

/// `--pre-tokenizer`, for commands that read a tokenizer.
package struct PreTokenizerOption: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "How the tokenizer of a GGUF file cuts text, in llama.cpp's words (llama-bpe, qwen2, gpt-2 and others), for a file "
        + "that does not say it or says it wrong.", valueName: "name"))
  package var preTokenizer: String?

  package init() {}
}

/// `--verify` and `--pre-tokenizer`, for commands that open a model.
package struct OpeningOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Check the file when the model is opened: none, header (checksum of the header), or full (every byte).",
      valueName: "what"))
  package var verify = OpenedModel.Verification.header
  @OptionGroup var preTokenizerOption: PreTokenizerOption
  package var preTokenizer: String? { preTokenizerOption.preTokenizer }

  package init() {}

  /// Opens the model, and says where its files disagree.
  /// - Parameters: what becomes of the blocks of a GGUF file, and which models are of use; see ``OpenedModel``.
  package func open(
    _ path: String, dequantizedType: DType = .bf16, keepsCodes: Bool = false,
    accepting kinds: OpenedModel.Kinds = .decoders
  ) throws -> OpenedModel {
    let model = try OpenedModel(
      path: path, verification: verify, dequantizedType: dequantizedType, keepsCodes: keepsCodes,
      preTokenizer: preTokenizer, accepting: kinds)
    Output.warn(model.store.discrepancies)
    return model
  }
}

/// `--print-digest`, for commands that write models.
package struct DigestOptions: ParsableArguments {
  @Flag(help: "Print the SHA-256 of every written file in the format of sha256sum.")
  package var printDigest = false

  package init() {}

  /// Digests of a file, or of all files of a folder, sorted by name.
  package func digests(of paths: [String]) throws -> [(path: String, sha256: String)] {
    printDigest ? try DigestOptions.digests(of: paths) : []
  }

  /// As the method, whether they are to be printed or not.
  static func digests(of paths: [String]) throws -> [(path: String, sha256: String)] {
    try paths.flatMap { path in
      var isFolder: ObjCBool = false
      _ = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
      let files = isFolder.boolValue ? FolderFiles(path).names.map { "\(path)/\($0)" } : [path]
      return try files.map { ($0, try Checksum.sha256(ofFile: $0)) }
    }
  }

  package static func lines(_ digests: [(path: String, sha256: String)]) -> String {
    digests.map { "\n\($0.sha256)  \($0.path)" }.joined()
  }

  package static func json(_ digests: [(path: String, sha256: String)]) -> JSONValue {
    .object(JSONObject(digests.map { ($0.path, .string($0.sha256)) }))
  }
}
