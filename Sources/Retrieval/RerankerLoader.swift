import Compute
import Models

/// Opens whatever scores pairs.
package enum RerankerLoader {
  /// - Parameter options: what wins over the model's `reranker.json`.
  /// - Throws: ``RetrievalError`` when the model cannot score, or when it is not said how and a guess could be wrong.
  package static func open(
    _ model: OpenedModel, options: RerankerOptions = RerankerOptions(), pool: WorkerPool = .shared
  ) throws -> any Reranker {
    let settings = try options.completed(for: model)
    if model.configuration.encoder != nil {
      if let name = settings.decoderSetting {
        throw RetrievalError(
          .badSetting(name, "is for decoders, but the model is an encoder"), path: model.path)
      }
      return try CrossEncoder(
        model, arithmetic: settings.arithmetic, maximumLength: settings.maximumLength, pool: pool)
    }
    // What the caller states must have a meaning; what the file says of the other kind is only overruled.
    switch try kind(model, settings) {
    case .head:
      if options.describesYesNo {
        throw RetrievalError(
          .badSetting("a prompt for yes and no", "is stated, but the model scores with a head"),
          path: model.path)
      }
      return try HeadReranker(model, settings, pool: pool)
    case .yesNo:
      if let name = options.headSetting {
        throw RetrievalError(
          .badSetting(name, "is for a head, but the model scores with yes and no"), path: model.path)
      }
      return try YesNoReranker(model, settings, pool: pool)
    }
  }

  private static func kind(_ model: OpenedModel, _ settings: RerankerOptions) throws -> RerankerOptions.Kind {
    if let kind = settings.kind { return kind }
    if settings.describesYesNo && settings.position == nil { return .yesNo }
    let name = settings.weightName ?? HeadReranker.weightName
    if try model.entry(named: name) != nil { return .head }
    throw RetrievalError(.noScore(head: name), path: model.path)
  }
}
