import Evaluation
import Files
import Foundation
import JSON
import Retrieval

/// A collection of passages and queries with judgements of which passages answer which queries.
package struct RetrievalData: Sendable {
  package struct Query: Equatable, Sendable {
    package var id: String
    package var text: String

    package init(id: String, text: String) { (self.id, self.text) = (id, text) }
  }

  package static let title = "Retrieval"
  package static let layout =
    "a folder with corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and qrels/SPLIT.tsv or qrels.tsv (query-id, corpus-id, score), as BEIR has "
    + "them; or with C-MTEB's fields as JSON Lines: corpus.jsonl and queries.jsonl (id, text) and qrels.jsonl (qid, pid, score)"
  package static let licence =
    "the terms of each collection (C-MTEB: C-MTEB on Hugging Face; BEIR: beir-cellar/beir on GitHub)"

  /// Mapped, and read where it is needed.
  package var corpus: CorpusFile
  /// Those that are judged, in the order of the file.
  package var queries: [Query]
  package var judgements: RelevanceJudgements
  package var files: [DataFile]
  /// A passage with the query's own id is not a result, as mteb has it for some collections.
  package var ignoresIdenticalIDs: Bool
  /// Judgements of passages that the corpus lacks. They count as passages that were not found.
  package var judgedButMissing: Int

  /// mteb's `ignore_identical_ids` (`tasks/retrieval/zho/cmteb_retrieval.py`).
  private static let collectionsIgnoringIdenticalIDs = [
    "T2Retrieval", "MMarcoRetrieval", "EcomRetrieval", "MedicalRetrieval", "VideoRetrieval",
  ]

  /// - Parameters:
  ///   - split: nil for the first of dev and test that there is; C-MTEB evaluates dev.
  ///   - ignoresIdenticalIDs: nil for what mteb does with a collection of the folder's name.
  /// - Throws: ``DataError`` and others that name the file and the line.
  package static func load(_ path: String, split: String? = nil, ignoresIdenticalIDs: Bool? = nil) throws
    -> RetrievalData
  {
    let path = path.withoutTrailingSlashes
    guard FileManager.default.fileExists(atPath: path) else {
      throw DataError(.notFound(task: title, layout: layout, licence: licence), path: path)
    }
    func isThere(_ name: String) -> Bool { FileManager.default.fileExists(atPath: "\(path)/\(name)") }
    let splits = split.map { [$0] } ?? ["dev", "test"]
    var names = splits.flatMap { ["qrels/\($0).tsv", "qrels/\($0).jsonl"] }
    if split == nil { names += ["qrels.tsv", "qrels.jsonl"] }
    let qrels = names.first(where: isThere)
    let missing =
      ["corpus.jsonl", "queries.jsonl"].filter { !isThere($0) } + (qrels == nil ? [names[0]] : [])
    guard missing.isEmpty, let qrels else {
      throw DataError(.missingFiles(missing, layout: layout, licence: licence), path: path)
    }
    var files: [DataFile] = []
    func note(_ name: String) throws { files.append(DataFile(try MappedFile(path: "\(path)/\(name)"))) }

    let corpus = try CorpusFile(path: "\(path)/corpus.jsonl")
    try note("corpus.jsonl")
    let judgements: RelevanceJudgements
    if qrels.hasSuffix(".tsv") {
      judgements = try RelevanceJudgements(path: "\(path)/\(qrels)")
    } else {
      judgements = try jsonJudgements("\(path)/\(qrels)")
    }
    try note(qrels)

    var queries: [Query] = []
    var seen: [ByteText: Int] = [:]
    let queriesPath = "\(path)/queries.jsonl"
    files.append(
      try JSONLines.forEach(file: queriesPath) { fields, line in
        let query = try RetrievalData.query(fields)
        if let earlier = seen.updateValue(line, forKey: query.id.bytes) {
          throw DataError(.repeatedID(query.id, earlier: earlier), path: queriesPath, line: line)
        }
        if judgements.grades[query.id.bytes] != nil { queries.append(query) }
        return true
      })
    if let unknown = judgements.grades.keys.sorted().first(where: { seen[$0] == nil }) {
      throw DataError(
        .refused("judges the query \(unknown.text.bytes.prefix(scalars: 80)), which queries.jsonl lacks"),
        path: "\(path)/\(qrels)")
    }
    guard !queries.isEmpty else { throw DataError(.noItems, path: queriesPath) }

    var judged: Set<ByteText> = []
    for grades in judgements.grades.values { judged.formUnion(grades.keys) }
    for index in 0..<corpus.count where !judged.isEmpty { judged.remove(try corpus.passage(index).id.bytes) }
    let folder = PathParts(path).name
    return RetrievalData(
      corpus: corpus, queries: queries, judgements: judgements, files: files,
      ignoresIdenticalIDs: ignoresIdenticalIDs
        ?? collectionsIgnoringIdenticalIDs.contains { folder.bytes.hasPrefix($0) },
      judgedButMissing: judged.count)
  }

  /// The query of one line, in BEIR's or C-MTEB's names.
  package static func query(_ fields: JSONFields) throws -> Query {
    let key = fields.isPresent("_id") ? "_id" : "id"
    let id: String
    if let number = fields[key]?.intValue { id = "\(number)" } else { id = try fields.requiredString(key) }
    guard !id.isEmpty else { throw fields.refusal(key, "is empty; every query needs an id") }
    return Query(id: id, text: try fields.requiredString("text"))
  }

  /// C-MTEB's judgements: a query's id, a passage's id and a score on each line.
  private static func jsonJudgements(_ path: String) throws -> RelevanceJudgements {
    var grades: [ByteText: [ByteText: Int]] = [:]
    _ = try JSONLines.forEach(file: path) { fields, line in
      func id(_ key: String) throws -> String {
        if let number = fields[key]?.intValue { return "\(number)" }
        return try fields.requiredString(key)
      }
      let (query, passage) = (try id("qid"), try id("pid"))
      let grade = try fields.requiredInteger("score", in: -(1 << 20)...(1 << 20))
      guard grades[query.bytes, default: [:]].updateValue(grade, forKey: passage.bytes) == nil else {
        throw DataError(
          .refused("judges passage \(passage) for query \(query) a second time"), path: path, line: line)
      }
      return true
    }
    guard !grades.isEmpty else { throw DataError(.noItems, path: path) }
    return RelevanceJudgements(grades)
  }
}

/// Queries with positive and negative passages, for rerankers.
package struct RerankingData: Equatable, Sendable {
  package struct Row: Equatable, Sendable {
    /// A passage's score is the highest over these.
    package var queries: [String]
    package var positive: [String]
    package var negative: [String]

    package init(queries: [String], positive: [String], negative: [String]) {
      (self.queries, self.positive, self.negative) = (queries, positive, negative)
    }
  }

  package static let title = "Reranking"
  package static let layout =
    "a JSON Lines file whose objects have query (a text or a list), positive and negative (lists of texts), as C-MTEB has them; or a folder with dev.jsonl or "
    + "test.jsonl"
  package static let licence = "the terms of each collection (C-MTEB on Hugging Face)"

  /// In the order of the file.
  package var rows: [Row]
  package var files: [DataFile]
  /// Rows without a positive or without a negative passage, which mteb leaves out as well.
  package var leftOut: Int

  /// - Throws: ``DataError`` and others that name the file and the line.
  package static func load(_ path: String, split: String? = nil) throws -> RerankingData {
    var path = path.withoutTrailingSlashes
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw DataError(.notFound(task: title, layout: layout, licence: licence), path: path)
    }
    if isFolder.boolValue {
      let names = (split.map { [$0] } ?? ["dev", "test"]).map { "\($0).jsonl" }
      guard let name = names.first(where: { FileManager.default.fileExists(atPath: "\(path)/\($0)") }) else {
        throw DataError(.missingFiles([names[0]], layout: layout, licence: licence), path: path)
      }
      path = "\(path)/\(name)"
    }
    var data = RerankingData(rows: [], files: [], leftOut: 0)
    data.files.append(
      try JSONLines.forEach(file: path) { fields, _ in
        let row = try RerankingData.row(fields)
        if row.positive.isEmpty || row.negative.isEmpty { data.leftOut += 1 } else { data.rows.append(row) }
        return true
      })
    guard !data.rows.isEmpty else { throw DataError(.noItems, path: path) }
    return data
  }

  /// The row of one line.
  package static func row(_ fields: JSONFields) throws -> Row {
    func texts(_ key: String) throws -> [String] {
      guard fields.isPresent(key) else { throw fields.error(key, .missing) }
      return try fields.strings(key, most: 1_000_000)
    }
    let queries = try texts("query")
    guard !queries.isEmpty else { throw fields.refusal("query", "is empty") }
    return Row(queries: queries, positive: try texts("positive"), negative: try texts("negative"))
  }
}
