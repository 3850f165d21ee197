import Files
import JSON
import Tokenization

/// One record of a calibration file (`Formats/calibration.md`).
package enum CalibrationRecord {
  case text(String)
  case conversation(ConversationRecord)
  case ids([Int])
  /// Two texts that an encoder reads together.
  case pair(String, String)

  var kind: String {
    switch self {
    case .text: "text"
    case .conversation: "conversation"
    case .ids: "ids"
    case .pair: "pair"
    }
  }

  /// - Parameters:
  ///   - pairs: whether two texts beside each other are a pair, as encoders read them.
  ///   - unused: gets the names of fields that say nothing here.
  package init(_ value: JSONValue, pairs: Bool = false, unused: inout Set<ByteText>)
    throws(CalibrationProblem)
  {
    if pairs, let object = value.objectValue, let (record, used) = CalibrationRecord.pair(object) {
      self = record
      unused = Set(object.members.filter { !$0.value.isNull }.map(\.key.bytes)).subtracting(
        used.map(\.bytes))
      return
    }
    if let text = value.stringValue {
      self = .text(text)
      return
    }
    let conversation: ConversationRecord?
    do throws(ConversationRecord.Problem) { conversation = try ConversationRecord(value) } catch {
      throw .conversation(error)
    }
    if let conversation {
      unused = conversation.unusedFields
      self = .conversation(conversation)
      return
    }
    guard let object = value.objectValue else { throw .noRecord }
    if object["role"]?.stringValue != nil || object["from"]?.stringValue != nil { throw .singleTurn }
    let used: [String]
    (self, used) = try CalibrationRecord.plain(object)
    unused = Set(object.members.filter { !$0.value.isNull }.map(\.key.bytes)).subtracting(used.map(\.bytes))
  }

  /// The record as a template with these abilities can write it: without what would be lost or break it.
  package func written(
    _ abilities: TemplateAbilities?, unused: inout Set<ByteText>
  ) throws(CalibrationProblem) -> CalibrationRecord {
    guard case .conversation(var conversation) = self, let abilities else { return self }
    if conversation.hasToolCalls && !abilities.writesToolCalls { throw .callsNotWritten }
    if conversation.tools != nil && !abilities.writesTools {
      conversation.dropTools()
      unused.insert("tools")
    }
    return .conversation(abilities.takesParts ? conversation : conversation.joiningParts)
  }

  /// A record without turns, and the fields that it is made of.
  private static func plain(_ object: JSONObject) throws(CalibrationProblem) -> (CalibrationRecord, [String])
  {
    if let text = object["text"]?.stringValue { return (.text(text), ["text"]) }
    if let ids = object["input_ids"]?.arrayValue {
      // What always stands beside ids says nothing more.
      return (
        .ids(try CalibrationRecord.ids(ids)), ["input_ids", "attention_mask", "labels", "token_type_ids"]
      )
    }
    if let prompt = object["prompt"]?.stringValue, let completion = object["completion"]?.stringValue {
      return (.text(prompt + completion), ["prompt", "completion"])
    }
    if let text = object["content"]?.stringValue { return (.text(text), ["content"]) }
    throw .noKnownField(object.keys.prefix(8).map(\.bytes))
  }

  /// A query and a passage, or two texts; or a text alone that is one of them.
  private static func pair(_ object: JSONObject) -> (CalibrationRecord, [String])? {
    for (first, second) in [("query", "passage"), ("text", "pair")] {
      guard let a = object[first]?.stringValue else { continue }
      guard let b = object[second]?.stringValue else {
        // A query with answers is a conversation.
        return object.members.count == 1 ? (.text(a), [first]) : nil
      }
      return (.pair(a, b), [first, second])
    }
    return nil
  }

  private static func ids(_ array: [JSONValue]) throws(CalibrationProblem) -> [Int] {
    // A batch of one is how Python tools often write a sample.
    let flat = array.count == 1 ? array[0].arrayValue ?? array : array
    let ids = flat.compactMap(\.intValue)
    guard ids.count == flat.count else { throw .badID }
    return ids
  }

  /// Whether an object names a field that makes a record.
  static func hasKnownField(_ value: JSONValue, besidesContent: Bool = false) -> Bool {
    let names = [
      "text", "input_ids", "messages", "conversations", "conversation", "instruction", "prompt", "query",
      "question",
    ]
    return names.contains { value[$0] != nil } || (!besidesContent && value["content"] != nil)
  }
}

/// Why a record is left out. Cases do not say where, so that they can be counted.
package enum CalibrationProblem: Error, Hashable, Sendable {
  /// Neither an object nor a string.
  case noRecord
  /// None of the fields that make a record; the fields that there are.
  case noKnownField([ByteText])
  /// An element of `input_ids` is not a whole number.
  case badID
  /// A turn where a conversation should be.
  case singleTurn
  case conversation(ConversationRecord.Problem)
  /// The chat template would leave its calls of tools out without a word.
  case callsNotWritten
  /// The chat template refuses it, in the template's words.
  case template(ByteText)
  /// Fewer than two tokens have nothing to predict.
  case tooShort
}

extension CalibrationProblem: CustomStringConvertible {
  /// A clause of its own.
  package var description: String {
    switch self {
    case .noRecord: "it is neither an object nor a string"
    case .noKnownField(let names):
      "it has none of messages, conversations, instruction, prompt with completion or response, query, question, text, "
        + "input_ids, content; it has "
        + (names.isEmpty ? "no field" : names.map(\.text).joined(separator: ", "))
    case .badID: "input_ids holds something that is not a whole number"
    case .singleTurn: "it is one turn; write the turns of a conversation as one record under messages"
    case .conversation(let problem): problem.description
    case .callsNotWritten: "it has calls of tools, which the chat template does not write"
    case .template(let words): "the chat template refuses it: \(words)"
    case .tooShort: "it has fewer than two tokens"
    }
  }
}
