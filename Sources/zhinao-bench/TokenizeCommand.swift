import ArgumentParser
import Files
import Foundation
import Tokenization
import ToolSupport

struct TokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize",
    abstract: "Encoding speed on a text.",
    discussion: """
      Every run encodes the whole text anew, from a string to an array of ids: what a run remembers of the text's
      pieces ends with it. The vocabulary and the processor's caches are warm.

      EXAMPLE
        zhinao-bench tokenize vocab/360.tiktoken corpus.txt
      """)

  @Argument(help: "Vocabulary (.tiktoken or tokenizer.json) or model folder.") var vocabulary: String
  @Argument(help: "Text.") var text: String
  @OptionGroup var repetitions: RepetitionOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    var isFolder: ObjCBool = false
    _ = FileManager.default.fileExists(atPath: vocabulary, isDirectory: &isFolder)
    var tokenizer: (any Tokenizer)?
    let load = try Timing.seconds {
      tokenizer =
        isFolder.boolValue
        ? try TokenizerLoader.load(FolderFiles(vocabulary)) : try TokenizerLoader.load(file: vocabulary)
    }
    let content = String(decoding: try Gzip.contents(ofFile: text), as: UTF8.self)
    guard let tokenizer, !content.isEmpty else {
      throw FileError(.badContent, path: text, detail: "holds no text")
    }
    var tokens = 0
    let seconds = Timing.median(
      (0..<repetitions.count).map { _ in Timing.seconds { tokens = tokenizer.encode(content).count } })
    let rate = Double(content.utf8.count) / seconds
    try output.show([
      "bytes": .init(content.utf8.count), "tokens": .init(tokens), "seconds": .init(seconds),
      "bytes_per_second": .init(rate), "load_seconds": .init(load),
    ]) {
      "\(Format.bytes(content.utf8.count)), \(tokens) tokens: \(Format.bytes(Int(rate)))/s on one thread; vocabulary loaded in "
        + "\(Format.number(load * 1000, digits: 0)) ms"
    }
  }
}
