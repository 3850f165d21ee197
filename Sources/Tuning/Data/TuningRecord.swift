import Calibration
import Files
import JSON
import Tokenization
import Training

/// One record of training data.
enum TuningRecord {
  case conversation(ConversationRecord)
  /// Every token is learned.
  case text(String)
  /// Only the completion is learned.
  case completion(prompt: String, completion: String)
  /// Ids with or without labels, as `--print-rows` writes them and as `datasets` keeps them.
  case row(TrainingRow)

  var kind: String {
    switch self {
    case .conversation: "conversation"
    case .text: "text"
    case .completion: "completion"
    case .row: "ids"
    }
  }

  /// - Parameter unused: gets the names of fields that say nothing here.
  /// - Throws: ``TuningDataProblem``.
  init(_ value: JSONValue, abilities: TemplateAbilities?, unused: inout Set<ByteText>)
    throws(TuningDataProblem)
  {
    let record: CalibrationRecord
    do throws(CalibrationProblem) {
      record = try CalibrationRecord(value, unused: &unused).written(abilities, unused: &unused)
    } catch { throw .record(error) }
    switch record {
    case .conversation(let conversation):
      if let field = conversation.unreadableMark { throw .record(.conversation(.badField(field))) }
      unused.subtract(conversation.markFields)
      self = .conversation(conversation)
    case .ids(let ids):
      unused.remove("labels")
      self = .row(try TuningRecord.row(ids, labels: value["labels"]))
    case .text(let text):
      if value["text"] == nil, let prompt = value["prompt"]?.stringValue,
        let completion = value["completion"]?.stringValue
      {
        self = .completion(prompt: prompt, completion: completion)
      } else {
        self = .text(text)
      }
    case .pair(let first, let second): self = .text(first + second)
    }
  }

  /// - Parameter labels: as many as ids; -100 or null: the place does not count. Nil: all count.
  private static func row(_ ids: [Int], labels: JSONValue?) throws(TuningDataProblem) -> TrainingRow {
    guard let labels, !labels.isNull else { return TrainingRow(tokens: ids, labels: ids) }
    guard var list = labels.arrayValue else { throw .badLabels }
    if list.count == 1, ids.count != 1, let inner = list[0].arrayValue { list = inner }
    guard list.count == ids.count else { throw .badLabels }
    var read: [Int?] = []
    read.reserveCapacity(list.count)
    for label in list {
      if label.isNull {
        read.append(nil)
      } else if let id = label.intValue {
        guard id >= 0 || id == -100 else { throw .badLabels }
        read.append(id < 0 ? nil : id)
      } else {
        throw .badLabels
      }
    }
    return TrainingRow(tokens: ids, labels: read)
  }
}
