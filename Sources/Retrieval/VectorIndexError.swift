import Files

/// Why a corpus cannot be indexed, or an index not be searched.
package struct VectorIndexError: DiagnosedError, Equatable {
  /// One case per rule of `Formats/vector-index.md`.
  package enum Reason: Equatable, Sendable {
    // MARK: Corpora
    /// A line of the corpus breaks a rule, as the end of a sentence whose subject is the line.
    case badLine(Int, String)
    /// The line has the id of an earlier one.
    case repeatedID(line: Int, id: String, earlier: Int)
    case noPassages

    // MARK: Making an index
    /// `FOLDER.partial` belongs to another command.
    case otherJob(key: String, found: String, expected: String)
    /// The model gave a vector that is not finite.
    case vectorNotFinite(passage: Int, id: String)

    // MARK: Reading an index
    /// No `index.json`.
    case notAnIndex
    case newerVersion(found: Int, known: Int)
    /// The manifest is not the text that was written.
    case manifestDamaged
    /// A file of the index, and what is wrong with it as the end of a sentence.
    case damaged(file: String, String)
    /// The index was made with another model.
    case otherModel(String)
    /// The model is not where it was when the index was made.
    case modelMoved(String)
    /// The query's vector has another length.
    case otherDimensions(found: Int, expected: Int)
    case queryNotFinite
  }
  package let reason: Reason
  /// The corpus, or the folder of the index.
  package let path: String

  package init(_ reason: Reason, path: String) {
    (self.reason, self.path) = (reason, path)
  }

  package var category: FailureCategory { .badInput }

  package var description: String {
    switch reason {
    case .badLine(let line, let detail): "\(path), line \(line): \(detail)"
    case .repeatedID(let line, let id, let earlier):
      "\(path), line \(line): the _id \"\(id)\" is that of line \(earlier); every passage needs its own"
    case .noPassages:
      "\(path): holds no passage; expected lines like {\"_id\": \"1\", \"title\": \"\", \"text\": \"…\"}"
    case .otherJob(let key, let found, let expected):
      "\(path).partial was begun with another \(key) (\(found), now \(expected)); repeat the earlier command, or remove the folder"
    case .vectorNotFinite(let passage, let id):
      "the vector of passage \(passage) (\"\(id)\") holds NaN or infinity; check the model with zhinao-verify integrity"
    case .notAnIndex: "\(path): is not an index: it has no index.json. Make one with zhinao-search index"
    case .newerVersion(let found, let known):
      "\(path): is an index of format version \(found); this program reads versions up to \(known)"
    case .manifestDamaged:
      "\(path)/index.json: differs from what was written (its checksum does not fit); make the index again"
    case .damaged(let file, let detail): "\(path)/\(file): \(detail); the index is damaged, make it again"
    case .otherModel(let model):
      "\(model) is not the model that made the index \(path), so their vectors cannot be compared; pass --model with the "
        + "original, or make the index again"
    case .modelMoved(let model):
      "\(path): the model that made it is no longer at \(model); name its place with --model"
    case .otherDimensions(let found, let expected):
      "the query's vector has \(found) components, those of the index \(path) have \(expected)"
    case .queryNotFinite:
      "the query's vector holds NaN or infinity; check the model with zhinao-verify integrity"
    }
  }
}
