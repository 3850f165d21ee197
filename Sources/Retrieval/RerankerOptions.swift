import Files
import JSON
import Models
import Tensors
import Tokenization

/// How a decoder scores pairs, as far as somebody has said it: in `reranker.json` beside the model's configuration, or on the
/// command line, which wins. What is nil was not said.
package struct RerankerOptions: Equatable, Sendable {
  /// What makes a score of a decoder's state.
  package enum Kind: String, CaseIterable, Sendable {
    /// One row of weights, as in 360Zhinao-1.8B-Reranking.
    case head
    /// The logits of two tokens after a prompt.
    case yesNo = "yes-no"
  }

  /// The token whose state the head reads.
  package enum Position: Equatable, Sendable {
    /// The newline after `assistant`.
    case beforePlaceholder
    /// The last token of the placeholder `0`.
    case placeholder
    /// The newline that ends the row.
    case lastNonPad
    /// Counted from the end when negative (−1 is the last token), otherwise from the start, of the row after it was cut.
    case offset(Int)

    package init?(_ text: String) {
      switch text {
      case "before-placeholder": self = .beforePlaceholder
      case "placeholder": self = .placeholder
      case "last-non-pad": self = .lastNonPad
      default:
        guard let offset = Int(text), abs(offset) < 1 << 30 else { return nil }
        self = .offset(offset)
      }
    }

    package var text: String {
      switch self {
      case .beforePlaceholder: "before-placeholder"
      case .placeholder: "placeholder"
      case .lastNonPad: "last-non-pad"
      case .offset(let offset): "\(offset)"
      }
    }
  }

  /// Prompts that are built in.
  package enum Template: String, CaseIterable, Sendable {
    case qwen3Reranker = "qwen3-reranker"
    /// FlagEmbedding's for decoders, as bge-reranker-v2-gemma uses it.
    case flagLLM = "flag-llm"
  }

  /// What becomes of the logits of yes and no.
  package enum Score: String, CaseIterable, Sendable {
    /// The softmax over the two; the raw score is their difference.
    case softmax
    /// The logit of yes alone.
    case logit
  }

  package var kind: Kind?

  // MARK: Head
  package var position: Position?
  package var finalNorm: Bool?
  package var weightName: String?
  package var biasName: String?
  package var system: String?
  /// Tokens that stay free in the limit of each message: 64 in the vendor's code.
  package var answerLength: Int?

  // MARK: Yes and no
  package var template: Template?
  package var prefix: String?
  package var body: String?
  package var suffix: String?
  package var yes: String?
  package var no: String?
  package var score: Score?
  package var instruction: String?

  // MARK: Both
  /// Longest pair, in ids.
  package var maximumLength: Int?
  /// Whether names of special tokens in queries and passages become those tokens.
  package var specials = SpecialTokens.recognized
  package var arithmetic = Int4Arithmetic.exact

  package init() {}

  /// Name of the file that holds these settings in a model's folder or packed file.
  package static let fileName = "reranker.json"

  /// What the file says.
  /// - Throws: ``JSONFieldError`` for fields that it does not know or that have the wrong type.
  package init(_ json: JSONValue, document: String) throws {
    let fields = try JSONFields(json, document: document)
    try fields.refuseUnknown(besides: [
      "type", "position", "final_norm", "weight", "bias", "system", "answer_len", "max_len", "template",
      "prefix",
      "body", "suffix", "yes", "no", "score", "instruction",
    ])
    kind = try RerankerOptions.choice(fields, "type")
    if let value = fields["position"] {
      let text = value.stringValue ?? value.intValue.map(String.init) ?? ""
      guard let stated = Position(text) else {
        throw fields.unexpected(
          "position", expected: "before-placeholder, placeholder, last-non-pad or a whole number")
      }
      position = stated
    }
    finalNorm = try fields.bool("final_norm")
    weightName = try fields.string("weight")
    biasName = try fields.string("bias")
    system = try fields.string("system")
    answerLength = try fields.integer("answer_len", in: 0...1 << 24)
    maximumLength = try fields.integer("max_len", in: 1...1 << 24)
    template = try RerankerOptions.choice(fields, "template")
    prefix = try fields.string("prefix")
    body = try fields.string("body")
    suffix = try fields.string("suffix")
    yes = try fields.string("yes")
    no = try fields.string("no")
    score = try RerankerOptions.choice(fields, "score")
    instruction = try fields.string("instruction")
  }

  private static func choice<Value: RawRepresentable & CaseIterable>(_ fields: JSONFields, _ key: String)
    throws
    -> Value? where Value.RawValue == String
  {
    guard let text = try fields.string(key) else { return nil }
    guard let value = Value(rawValue: text) else {
      throw fields.unexpected(key, expected: Value.allCases.map(\.rawValue).joined(separator: " or "))
    }
    return value
  }

  /// These settings, and those of the model's own file where these say nothing.
  package func completed(for model: OpenedModel) throws -> RerankerOptions {
    guard let json = try model.files.json(named: RerankerOptions.fileName) else { return self }
    let file = try RerankerOptions(json, document: model.files.label(of: RerankerOptions.fileName))
    var result = self
    result.kind = kind ?? file.kind
    result.position = position ?? file.position
    result.finalNorm = finalNorm ?? file.finalNorm
    result.weightName = weightName ?? file.weightName
    result.biasName = biasName ?? file.biasName
    result.system = system ?? file.system
    result.answerLength = answerLength ?? file.answerLength
    result.template = template ?? file.template
    result.prefix = prefix ?? file.prefix
    result.body = body ?? file.body
    result.suffix = suffix ?? file.suffix
    result.yes = yes ?? file.yes
    result.no = no ?? file.no
    result.score = score ?? file.score
    result.instruction = instruction ?? file.instruction
    result.maximumLength = maximumLength ?? file.maximumLength
    return result
  }

  /// A setting that means nothing for a cross-encoder; nil when there is none.
  var decoderSetting: String? {
    describesYesNo || kind == .yesNo ? "a prompt for yes and no" : headSetting
  }

  /// The first setting that only a head has; nil: there is none.
  var headSetting: String? {
    let settings: [(String, Bool)] = [
      ("position", position != nil), ("final_norm", finalNorm != nil), ("weight", weightName != nil),
      ("bias", biasName != nil), ("system", system != nil), ("answer_len", answerLength != nil),
    ]
    return settings.first(where: \.1)?.0
  }

  /// Whether something is said that only a prompt with yes and no has.
  var describesYesNo: Bool {
    template != nil || prefix != nil || body != nil || suffix != nil || yes != nil || no != nil
      || score != nil || instruction != nil
  }
}
