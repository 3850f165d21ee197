import ArgumentParser
import Distribution
import Files
import Foundation
import JSON
import Models
import Retrieval
import ToolSupport

struct EmbedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "embed",
    abstract: "Make a vector of each line of standard input.",
    discussion: """
      The name of the output decides its format: .npy (NumPy), .safetensors (tensor embeddings, [n, d]), or .jsonl (one object with \
      index and embedding on each line). Vectors are in the order of the input.

      EXAMPLES
        zhinao-search embed MODEL_DIR -o vectors.npy < texts.txt
        zhinao-search embed MODEL_DIR --query -o queries.safetensors < queries.txt
        echo '{"text": "a", "pair": "b"}' | zhinao-search embed MODEL_DIR -o pair.jsonl
      """)

  @Argument(help: "An encoder: Hugging Face folder or .zhinao file.")
  var model: String
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("Output: FILE.npy, FILE.safetensors or FILE.jsonl.", valueName: "file"))
  var output: String
  @Flag(help: "The texts are queries: the model's query prompt is put before them.")
  var query = false
  @Flag(help: "Replace an existing output.")
  var overwrite = false
  @OptionGroup var input: TextInput
  @OptionGroup var embedding: EmbeddingArguments
  @OptionGroup var arithmetic: ArithmeticOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions

  func validate() throws {
    guard VectorFile.Format(path: output) != nil else {
      throw ValidationError("-o: expected a name that ends with .npy, .safetensors or .jsonl.")
    }
  }

  /// Texts that wait for each other, so that those of like lengths run together and memory stays bounded.
  private static let window = 1024

  func run() throws {
    let communicator = try compute.join()
    guard let format = VectorFile.Format(path: output) else { return }
    guard !communicator.isRoot || overwrite || !FileManager.default.fileExists(atPath: output) else {
      throw FileError(.cannotWrite, path: output, detail: "exists; remove it or pass --overwrite")
    }
    let embedder = try EmbeddingArguments.open(model, opening, arithmetic)
    try RankSession.check("the model", ModelFingerprint.of(embedder.model), communicator)
    let run = RankedEmbedder(
      try embedding.run(embedder, role: query ? .query : .passage), communicator)
    guard communicator.isRoot else { return try run.serve() }
    let file = try VectorFile(path: output, format: format, dimensions: run.dimensions)
    let start = Date()
    let inputByteCount = EmbedCommand.standardInputByteCount
    let bar = ProgressReporter("embed", unit: "bytes")
    var waiting: [(text: String, pair: String?)] = []
    var (texts, tokens, truncated, bytes) = (0, 0, 0, 0)
    func flush() throws {
      let made = try run.vectors(of: waiting)
      try file.append(made.vectors.pointer, rows: waiting.count)
      texts += waiting.count
      tokens += made.tokenCount
      truncated += made.truncatedCount
      waiting.removeAll(keepingCapacity: true)
      if let inputByteCount { bar.update(min(bytes, inputByteCount), of: inputByteCount) }
    }
    try input.forEachText { text, byteCount in
      waiting.append((text.text, text.pair))
      bytes += byteCount
      if waiting.count == EmbedCommand.window { try flush() }
    }
    if !waiting.isEmpty { try flush() }
    try run.finish()
    try file.commit()
    let seconds = Date().timeIntervalSince(start)
    if truncated > 0 {
      Output.warn(
        "\(truncated) of \(texts) texts were longer than \(embedder.settings.maximumLength) tokens and lost their end"
      )
    }
    Output.remark(
      "\(output): \(texts) vectors of \(run.dimensions), \(tokens) tokens in \(Format.duration(seconds)), "
        + "\(Format.rate(texts, seconds)) texts/s, \(Format.rate(tokens, seconds)) tokens/s")
  }

  /// The size of standard input when it is a file.
  private static var standardInputByteCount: Int? {
    var status = stat()
    guard fstat(STDIN_FILENO, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size > 0 else {
      return nil
    }
    return Int(status.st_size)
  }
}
