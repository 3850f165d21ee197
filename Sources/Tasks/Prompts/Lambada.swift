import Files
import Foundation
import JSON

/// A text whose continuation is scored.
package struct ContinuationItem: Equatable, Sendable {
  /// Unique within the task.
  package var id: String
  package var context: String
  package var continuation: String

  package init(id: String, context: String, continuation: String) {
    (self.id, self.context, self.continuation) = (id, context, continuation)
  }
}

/// LAMBADA (Paperno et al. 2016) as lm-eval's `lambada_openai`: the last word of a passage, whose log-likelihood is taken after the rest of
/// it. It is right when each of its tokens is the likeliest; the perplexity is exp(−mean log-likelihood of the words).
package enum Lambada {
  package static let name = "lambada"
  package static let title = "LAMBADA"
  package static let licence =
    "CC BY 4.0 (zenodo.org/record/2630551; OpenAI's variant on Hugging Face: EleutherAI/lambada_openai)"
  package static let layout =
    "a JSON Lines file whose objects have text (or prompt and label as OpenCompass has them); or a folder with test.jsonl or lambada_test.jsonl"

  /// - Throws: ``DataError`` and others that name the file and the line.
  package static func load(_ path: String) throws -> (items: [ContinuationItem], files: [DataFile]) {
    var path = path.withoutTrailingSlashes
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw DataError(.notFound(task: title, layout: layout, licence: licence), path: path)
    }
    if isFolder.boolValue {
      let names = ["test.jsonl", "lambada_test.jsonl"]
      guard let name = names.first(where: { FileManager.default.fileExists(atPath: "\(path)/\($0)") }) else {
        throw DataError(.missingFiles([names[0]], layout: layout, licence: licence), path: path)
      }
      path = "\(path)/\(name)"
    }
    var items: [ContinuationItem] = []
    let file = try JSONLines.forEach(file: path) { fields, _ in
      let (context, word) = try parts(fields)
      items.append(ContinuationItem(id: "\(items.count)", context: context, continuation: " " + word))
      return true
    }
    guard !items.isEmpty else { throw DataError(.noItems, path: path) }
    return (items, [file])
  }

  /// All before the last space, and the word after it.
  static func parts(_ fields: JSONFields) throws -> (context: String, word: String) {
    if let label = try fields.string("label"), let prompt = try fields.string("prompt") {
      return (prompt, label)
    }
    let text = try fields.requiredString("text")
    guard let space = text.unicodeScalars.lastIndex(of: " "), space > text.startIndex else {
      throw fields.refusal("text", "has no space, so no last word")
    }
    let word = String(text[text.unicodeScalars.index(after: space)...])
    guard !word.isEmpty else {
      throw fields.refusal("text", "ends in a space, where the last word should be")
    }
    return (String(text[..<space]), word)
  }
}
