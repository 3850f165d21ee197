import ArgumentParser
import Foundation
import JSON
import Retrieval
import ToolSupport

struct SimilarityCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "similarity",
    abstract: "Compute the cosine similarity of a text with others.",
    discussion: """
      EXAMPLES
        zhinao-search similarity MODEL_DIR "how do I reset my password" "changing a password" "opening hours"
      """)

  @Argument(help: "An encoder: Hugging Face folder or .zhinao file.")
  var model: String
  @Argument(help: "The text that the others are compared with.")
  var text: String
  @Argument(help: "The other texts.")
  var others: [String]
  @Flag(help: "The first text is a query: the model's query prompt is put before it.")
  var query = false
  @OptionGroup var embedding: EmbeddingArguments
  @OptionGroup var arithmetic: ArithmeticOptions
  @OptionGroup var opening: OpeningOptions
  @OptionGroup var compute: ComputeOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    compute.apply()
    let embedder = try EmbeddingArguments.open(model, opening, arithmetic)
    let first = try embedding.run(embedder, role: query ? .query : .passage).vectors(of: [text]).vectors
    let rest = try embedding.run(embedder, role: .passage).vectors(of: others).vectors
    let width = first.count
    let similarities = others.indices.map { row in
      SimilarityCommand.cosine(first.pointer, rest.pointer + row * width, count: width)
    }
    try output.show(
      ["model": .string(model), "similarities": .array(similarities.map { Ranking.number(Float($0)) })]
    ) {
      others.count == 1
        ? Format.number(similarities[0], digits: 6)
        : Format.table(
          [["cosine", "text"]]
            + zip(similarities, others).map { [Format.number($0, digits: 6), Ranking.excerpt($1)] })
    }
  }

  /// x·y / (|x|·|y|) in double precision; 0 when one of them is zero.
  private static func cosine(_ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, count: Int) -> Double {
    var (xy, xx, yy) = (0.0, 0.0, 0.0)
    for i in 0..<count {
      let (a, b) = (Double(x[i]), Double(y[i]))
      xy += a * b
      xx += a * a
      yy += b * b
    }
    return xx > 0 && yy > 0 ? xy / (xx.squareRoot() * yy.squareRoot()) : 0
  }
}
