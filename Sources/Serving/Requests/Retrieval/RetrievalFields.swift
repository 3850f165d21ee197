import JSON

/// The fields of a request for vectors or scores, and what becomes of those that do nothing here.
struct RetrievalFields: Sendable {
  /// They do what the documentation says.
  let acting: [String]
  /// They would change the answer and are not supported: refused by name, unless they have one of the harmless values.
  let refused: [(name: String, reason: String, harmless: [JSONValue])]

  /// They only concern who asks, or how the request is scheduled and recorded.
  private static let ignored: Set<String> = [
    "user", "priority", "request_id", "metadata", "safety_identifier", "store", "service_tier", "session_id",
  ]

  /// Refuses what is known and not done.
  /// - Returns: what the client should know of fields that are not known.
  func check(_ fields: JSONFields) throws(JSONFieldError) -> [String] {
    for (name, reason, harmless) in refused {
      try fields.refuseUnsupported(name, because: reason, unless: { harmless.contains($0) })
    }
    let known = Set(acting + refused.map(\.name)).union(RetrievalFields.ignored)
    let unknown = fields.object.keys.filter { fields.isPresent($0) && !known.contains($0) }
    return unknown.prefix(8).map { name in
      "\(String(String.UnicodeScalarView(name.unicodeScalars.prefix(60)))) is not a known field; it is ignored"
    }
  }

  private static let reading = [
    "model", "prompt_name", "input_type", "truncate", "truncation_direction", "truncation_side",
    "truncate_prompt_tokens", "allow_special_tokens",
  ]
  private static let noTemplates: [(name: String, reason: String, harmless: [JSONValue])] = [
    ("messages", "texts are embedded as they are, without a chat template", []),
    ("chat_template", "texts are embedded as they are, without a chat template", []),
    ("add_special_tokens", "the model was trained with its special tokens; token arrays have none", [true]),
    ("mm_processor_kwargs", "only text is read", [[:]]),
  ]

  static let embeddings = RetrievalFields(
    acting: reading + ["input", "encoding_format", "dimensions", "normalize"],
    refused: noTemplates + [
      ("embed_dtype", "vectors are 32-bit floats", ["float32"]),
      ("output_dtype", "vectors are 32-bit floats", ["float"]),
      ("embedding_type", "vectors are 32-bit floats", ["float"]),
      ("endianness", "base64 holds little-endian floats", ["native", "little"]),
      ("task", "the model has one set of weights; prompt_name and input_type choose a prompt", []),
      ("late_chunking", "every text is embedded by itself", [false]),
    ])
  static let embed = RetrievalFields(
    acting: reading + ["inputs", "dimensions", "normalize"], refused: noTemplates)
  static let cohere = RetrievalFields(
    acting: reading + ["texts", "embedding_types", "output_dimension", "normalize"],
    refused: noTemplates + [
      ("images", "only text is read", [[]]), ("inputs", "texts holds the texts", [[]]),
      ("max_tokens", "its name here is truncate_prompt_tokens", []),
    ])
  static let similarity = RetrievalFields(acting: ["model", "inputs", "parameters"], refused: [])

  private static let scoring: [(name: String, reason: String, harmless: [JSONValue])] = [
    ("instruction", "the reranker's own instruction is used", []),
    ("chat_template", "the reranker's own template is used", []),
    ("score_template", "the reranker's own template is used", []),
    ("mm_processor_kwargs", "only text is read", [[:]]),
    ("truncation_side", "pairs are cut as the reranker was made for", ["right"]),
    ("truncation_direction", "pairs are cut as the reranker was made for", ["right", "Right"]),
  ]
  private static let scored = [
    "model", "raw_scores", "use_activation", "truncate", "truncate_prompt_tokens",
  ]
  static let rerank = RetrievalFields(
    acting: scored + ["query", "documents", "top_n", "return_documents", "max_tokens_per_doc"],
    refused: scoring + [
      ("rank_fields", "documents have one text", [["text"]]),
      ("max_chunks_per_doc", "documents are scored whole, as far as they fit", [1]),
    ])
  static let rerankTexts = RetrievalFields(
    acting: scored + ["query", "texts", "return_text"], refused: scoring)
  static let predict = RetrievalFields(acting: scored + ["inputs"], refused: scoring)
  static let score = RetrievalFields(
    acting: scored + ["text_1", "text_2", "data_1", "data_2", "queries", "documents", "items"],
    refused: scoring)
  static let tokenize = RetrievalFields(
    acting: ["model", "inputs", "add_special_tokens", "prompt_name"], refused: [])
  static let decode = RetrievalFields(acting: ["model", "ids", "skip_special_tokens"], refused: [])
}
