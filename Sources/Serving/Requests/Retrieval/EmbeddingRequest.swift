import JSON
import Tokenization

/// A request for vectors, decoded.
struct EmbeddingRequest: Sendable {
  let model: ServedEmbedder
  let texts: [EncodedText]
  /// The first components only; nil: all.
  let size: Int?
  /// Nil: as the model's folder says.
  let normalizes: Bool?
  /// What the client should know of its request.
  var warnings: [String]

  /// Decodes the body of `/v1/embeddings` (`input`), `/embed` (`inputs`) or `/v2/embed` (`texts`).
  /// - Parameters:
  ///   - key: of the texts.
  ///   - sizeKey: of the vectors' size.
  ///   - normalizes: when the request does not say.
  init(
    _ fields: JSONFields, key: String, sizeKey: String = "dimensions", known: RetrievalFields,
    normalizes: Bool?, models: ServedModels,
    limits: ServerLimits
  ) throws {
    model = try models.embedder(named: try fields.string("model"))
    warnings = try known.check(fields)
    self.normalizes = try fields.bool("normalize") ?? normalizes
    size = try EmbeddingRequest.size(fields, sizeKey, of: model, limits: limits)
    let options = try EncodingOptions(fields, model: model, limits: limits)
    let inputs = try TextInput.decode(fields, key, most: limits.inputs)
    texts = try inputs.map { [model] in try options.encode($0, of: model, field: key) }
    let cut = texts.indices.filter { texts[$0].isTruncated }
    if !cut.isEmpty {
      let places = cut.prefix(8).map(String.init).joined(separator: ", ") + (cut.count > 8 ? ", …" : "")
      warnings.append(
        "\(cut.count) of \(texts.count) texts are longer than \(options.length ?? model.maximumLength) tokens and were cut: \(places)"
      )
    }
  }

  /// A size that changes nothing is always taken; a shorter one, only where it makes sense.
  static func size(_ fields: JSONFields, _ key: String, of model: ServedEmbedder, limits: ServerLimits)
    throws(JSONFieldError) -> Int?
  {
    let whole = model.backend.dimensions
    guard let size = try fields.integer(key, in: 1...whole), size != whole else { return nil }
    if limits.shortensVectors { return size }
    guard let sizes = model.backend.settings.matryoshkaSizes else {
      throw fields.unsupported(
        key,
        because: "the model was not trained for shorter vectors than its \(whole) components (Matryoshka); "
          + "--allow-dimensions takes them all the same")
    }
    // None named: any size will do.
    guard sizes.isEmpty || sizes.contains(size) else {
      throw fields.unsupported(
        key,
        because:
          "the model's shorter vectors have \(sizes.map(String.init).joined(separator: ", ")) components")
    }
    return size
  }
}
