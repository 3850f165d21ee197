import Files
import JSON
import Tensors

/// What vectors of an index are stored as.
package enum VectorType: String, CaseIterable, Sendable {
  case fp32, fp16
  /// Whole numbers −127…127 with one fp32 scale for each vector.
  case int8

  package var dtype: DType {
    switch self {
    case .fp32: .f32
    case .fp16: .f16
    case .int8: .i8
    }
  }
}

/// How texts became vectors, so that queries become vectors in the same way.
package struct IndexSettings: Equatable, Sendable {
  package var dimensions: Int
  package var vectorType: VectorType
  package var normalizes: Bool
  /// Longest text, in ids.
  package var maximumLength: Int
  package var passagePrompt: String
  package var queryPrompt: String
  package var plainText: Bool
  /// Name of the arithmetic that passages were embedded in.
  package var arithmetic: String

  package init(
    dimensions: Int, vectorType: VectorType, normalizes: Bool, maximumLength: Int, passagePrompt: String = "",
    queryPrompt: String = "", plainText: Bool = false, arithmetic: String = "exact"
  ) {
    self.dimensions = dimensions
    self.vectorType = vectorType
    self.normalizes = normalizes
    self.maximumLength = maximumLength
    self.passagePrompt = passagePrompt
    self.queryPrompt = queryPrompt
    self.plainText = plainText
    self.arithmetic = arithmetic
  }

  var json: JSONObject {
    JSONObject([
      ("dimensions", .init(dimensions)), ("vector_type", .string(vectorType.rawValue)),
      ("normalize", .bool(normalizes)), ("max_length", .init(maximumLength)),
      ("passage_prompt", .string(passagePrompt)), ("query_prompt", .string(queryPrompt)),
      ("plain_text", .bool(plainText)), ("arithmetic", .string(arithmetic)),
    ])
  }

  init(_ fields: JSONFields) throws {
    dimensions = try fields.requiredInteger("dimensions", in: 1...1 << 20)
    guard let type = VectorType(rawValue: try fields.requiredString("vector_type")) else {
      throw fields.unexpected("vector_type", expected: "fp32, fp16 or int8")
    }
    vectorType = type
    guard let normalizes = try fields.bool("normalize"), let plainText = try fields.bool("plain_text") else {
      throw fields.error("normalize", .missing)
    }
    self.normalizes = normalizes
    self.plainText = plainText
    maximumLength = try fields.requiredInteger("max_length", in: 1...1 << 24)
    passagePrompt = try fields.requiredString("passage_prompt")
    queryPrompt = try fields.requiredString("query_prompt")
    arithmetic = try fields.requiredString("arithmetic")
  }
}

/// The model that an index was made with.
package struct IndexedModel: Equatable, Sendable {
  /// Where it was.
  package var path: String
  /// See ``ModelFingerprint``.
  package var fingerprint: String

  package init(path: String, fingerprint: String) {
    self.path = path
    self.fingerprint = fingerprint
  }
}

/// `index.json` of an index: what is in it, how it was made, and the checksums of its files (`Formats/vector-index.md`).
package struct IndexManifest: Equatable, Sendable {
  package static let name = "index.json"
  package static let format = "zhinao-vector-index"
  package static let version = 1

  package struct File: Equatable, Sendable {
    package var name: String
    package var byteCount: Int
    package var sha256: String
  }

  package var generator: String
  package var passageCount: Int
  /// Passages without text, and passages that lost their end.
  package var emptyCount: Int
  package var truncatedCount: Int
  package var settings: IndexSettings
  package var model: IndexedModel
  /// The corpus's name, size and SHA-256.
  package var corpus: File
  package var files: [File]

  package var text: String {
    var object = content
    object["checksum"] = .string(IndexManifest.checksum(object))
    return JSONValue.object(object).serialized(indent: 2) + "\n"
  }

  private var content: JSONObject {
    JSONObject([
      ("format", .string(IndexManifest.format)), ("format_version", .init(IndexManifest.version)),
      ("generator", .string(generator)), ("passages", .init(passageCount)),
      ("empty_passages", .init(emptyCount)), ("truncated_passages", .init(truncatedCount)),
      ("settings", .object(settings.json)),
      ("model", ["path": .string(model.path), "fingerprint": .string(model.fingerprint)]),
      ("corpus", IndexManifest.json(corpus)), ("files", .array(files.map(IndexManifest.json))),
    ])
  }

  private static func json(_ file: File) -> JSONValue {
    ["name": .string(file.name), "bytes": .init(file.byteCount), "sha256": .string(file.sha256)]
  }

  /// SHA-256 of the manifest's text without its checksum.
  private static func checksum(_ object: JSONObject) -> String {
    Array(JSONValue.object(object).serialized(indent: 2).utf8).withUnsafeBytes { Checksum.sha256($0) }
  }

  package init(
    generator: String, passageCount: Int, emptyCount: Int, truncatedCount: Int, settings: IndexSettings,
    model: IndexedModel, corpus: File, files: [File]
  ) {
    self.generator = generator
    self.passageCount = passageCount
    self.emptyCount = emptyCount
    self.truncatedCount = truncatedCount
    self.settings = settings
    self.model = model
    self.corpus = corpus
    self.files = files
  }

  /// - Parameter folder: of the index, for messages.
  /// - Throws: ``VectorIndexError`` when any byte differs from what was written, or the version is newer.
  package init(_ bytes: [UInt8], folder: String) throws {
    let label = "\(folder)/\(IndexManifest.name)"
    let json: JSONValue
    do throws(JSONError) { json = try JSONValue.parse(bytes, maximumDepth: 16) } catch {
      throw VectorIndexError(.damaged(file: IndexManifest.name, "is \(error.description)"), path: folder)
    }
    let fields = try JSONFields(json, document: label)
    guard try fields.string("format") == IndexManifest.format else {
      throw VectorIndexError(.notAnIndex, path: folder)
    }
    let version = try fields.requiredInteger("format_version", in: 1...1 << 20)
    guard version <= IndexManifest.version else {
      throw VectorIndexError(.newerVersion(found: version, known: IndexManifest.version), path: folder)
    }
    var object = fields.object
    let stated = object["checksum"]?.stringValue
    object["checksum"] = nil
    guard let stated, stated == IndexManifest.checksum(object),
      (json.serialized(indent: 2) + "\n").utf8.elementsEqual(bytes)
    else { throw VectorIndexError(.manifestDamaged, path: folder) }
    generator = try fields.requiredString("generator")
    passageCount = try fields.requiredInteger("passages", in: 1...1 << 40)
    emptyCount = try fields.requiredInteger("empty_passages", in: 0...passageCount)
    truncatedCount = try fields.requiredInteger("truncated_passages", in: 0...passageCount)
    guard let settings = try fields.object("settings"), let model = try fields.object("model"),
      let corpus = try fields.object("corpus"), let files = try fields.objects("files")
    else { throw VectorIndexError(.manifestDamaged, path: folder) }
    self.settings = try IndexSettings(settings)
    self.model = IndexedModel(
      path: try model.requiredString("path"), fingerprint: try model.requiredString("fingerprint"))
    func file(_ fields: JSONFields) throws -> File {
      File(
        name: try fields.requiredString("name"), byteCount: try fields.requiredInteger("bytes", in: 0...1 << 60),
        sha256: try fields.requiredString("sha256"))
    }
    self.corpus = try file(corpus)
    self.files = try files.map(file)
  }
}
