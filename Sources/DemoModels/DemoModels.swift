import Files
import Foundation

/// The small trained models that demos and tests run on, beside the programs.
package enum DemoModels {
  /// A decoder with 4 layers and a hidden size of 256, trained on classic novels, with texts and calibration data.
  package static let decoder = "tiny-zhinao"
  /// An encoder and a reranker of 2 layers with a corpus, queries and judgements.
  package static let search = "tiny-search"

  /// The folder of one of them.
  /// - Throws: ``FileError`` when the programs were moved without it.
  package static func folder(_ name: String) throws -> String {
    guard let path = Bundle.module.path(forResource: name, ofType: nil) else {
      throw FileError(
        .cannotOpen, path: name,
        detail: "the models of the demo are not beside the program; build it with swift build")
    }
    return path
  }
}
