import HTTPTypes
import Hummingbird
import JSON
import Tokenization

/// `POST /tokenize`: the tokens of texts, in the form of Text Embeddings Inference.
struct TokenizeRoute: APIRoute {
  let models: ServedModels
  let limits: ServerLimits
  let name = "/tokenize"
  let method = HTTPRequest.Method.post
  let admission = Admission.keyAndBody
  let errorDialect = ErrorDialect.textEmbeddingsInference

  func respond(to request: Request, context: APIContext) async throws -> Response {
    let fields = try await JSONFields(bodyOf: request)
    let model = try models.anyModel(named: try fields.string("model"))
    _ = try RetrievalFields.tokenize.check(fields)
    let isSingle = fields["inputs"]?.stringValue != nil
    let texts =
      isSingle
      ? [try fields.requiredString("inputs")]
      : try RerankRequest.strings(fields, "inputs", most: limits.inputs)
    let addsAffixes = try fields.bool("add_special_tokens") ?? true
    var prompt = ""
    if let name = try fields.string("prompt_name") {
      guard let found = (model as? ServedEmbedder)?.backend.settings.prompts[name] else {
        throw fields.refusal("prompt_name", "is \"\(name)\", which the model does not have")
      }
      prompt = found
    }
    let tokenizer = model.anyTokenizer
    let specials = Set(tokenizer.specialTokens.values)
    return Response(
      .array(
        try texts.map { text in
          .array(
            try TokenizeRoute.ids(of: prompt + text, tokenizer, addsAffixes).map { id in
              let bytes = try TokenizeRoute.bytes(of: id, tokenizer)
              // Normalization has no way back from tokens to places in the text.
              return [
                "id": .init(id), "text": .string(String(decoding: bytes, as: UTF8.self)),
                "special": .bool(specials.contains(id)), "start": nil, "stop": nil,
              ]
            })
        }))
  }

  /// The token's text. Decoders of WordPiece put a space before a word, which is not part of its token.
  private static func bytes(of id: Int, _ tokenizer: any Tokenizer) throws -> ArraySlice<UInt8> {
    let bytes = try tokenizer.bytes(of: id, skippingSpecials: false) ?? []
    return tokenizer is any PairTokenizer && bytes.first == UInt8(ascii: " ") && bytes.count > 1
      ? bytes.dropFirst() : bytes[...]
  }

  private static func ids(of text: String, _ tokenizer: any Tokenizer, _ addsAffixes: Bool) throws -> [Int] {
    if addsAffixes, let pairs = tokenizer as? any PairTokenizer {
      return try pairs.encode(
        text, pair: nil, maximumLength: nil, truncation: .longestFirst, side: .right, specials: .recognized
      ).ids
    }
    return tokenizer.encode(text, specials: .recognized, addingAffixes: addsAffixes)
  }
}

/// `POST /decode`: the text of token ids, in the form of Text Embeddings Inference.
struct DecodeRoute: APIRoute {
  let models: ServedModels
  let limits: ServerLimits
  let name = "/decode"
  let method = HTTPRequest.Method.post
  let admission = Admission.keyAndBody
  let errorDialect = ErrorDialect.textEmbeddingsInference

  func respond(to request: Request, context: APIContext) async throws -> Response {
    let fields = try await JSONFields(bodyOf: request)
    let tokenizer = try models.anyModel(named: try fields.string("model")).anyTokenizer
    _ = try RetrievalFields.decode.check(fields)
    let skips = try fields.bool("skip_special_tokens") ?? true
    guard fields["ids"]?.stringValue == nil else {
      throw fields.unexpected("ids", expected: "token ids, or arrays of them")
    }
    let texts = try TextInput.decode(fields, "ids", most: limits.inputs).map { input -> JSONValue in
      guard case .ids(let ids) = input, ids.allSatisfy({ $0 < tokenizer.tokenCount }) else {
        throw fields.unexpected("ids", expected: "token ids from 0 to \(tokenizer.tokenCount - 1)")
      }
      return .string(try tokenizer.decode(ids, skippingSpecials: skips))
    }
    return Response(.array(texts))
  }
}
