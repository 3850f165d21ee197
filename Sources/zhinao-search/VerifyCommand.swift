import ArgumentParser
import Files
import JSON
import Retrieval
import ToolSupport

struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Check every byte of an index.",
    discussion: """
      EXAMPLES
        zhinao-search verify INDEX
      """)

  @Argument(help: "Folder of an index.")
  var folder: String
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    compute.apply()
    let index = try VectorIndex(path: folder)
    try VerifyCommand.check(index)
    try output.show(
      [
        "index": .string(folder), "passages": .init(index.count), "dimensions": .init(index.dimensions), "problems": [],
      ]
    ) { "\(folder): \(index.count) passages, vectors of \(index.dimensions); every file is as it was written" }
  }

  /// - Throws: an error that names the files that differ from their checksums.
  static func check(_ index: VectorIndex) throws {
    let bar = ProgressReporter("verify", unit: "bytes")
    let problems = try index.problems { bar.update($0, of: $1) }
    guard problems.isEmpty else { throw IndexProblems(problems: problems) }
  }
}

/// What is wrong with an index.
struct IndexProblems: DiagnosedError {
  let problems: [String]
  var category: FailureCategory { .badInput }
  var description: String { problems.joined(separator: "\n") + "\nmake the index again" }
}
