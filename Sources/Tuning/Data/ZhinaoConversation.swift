import Files
import JSON
import Templates
import Tokenization
import Training

/// Conversations as 360Zhinao's `finetune.py` writes them: `<|im_start|>role\ncontent<|im_end|>\n`, where the role, the newline and the
/// content are encoded each for itself, so that a newline of the frame never merges with the content.
struct ZhinaoConversation {
  private let tokenizer: any Tokenizer
  private let contents: SpecialTokens
  private let start: Int
  private let end: Int
  private let newline: [Int]
  /// Of conversations that begin with another turn; nil: there is none.
  private let defaultSystem: String?

  static let usualSystem = "You are a helpful assistant."

  /// - Returns: nil when the template writes conversations otherwise, or the tokenizer lacks the tokens of ChatML.
  init?(template: ChatTemplate, tokenizer: any Tokenizer, contents: SpecialTokens) {
    guard let start = tokenizer.specialTokens["<|im_start|>"],
      let end = tokenizer.specialTokens["<|im_end|>"], !tokenizer.marksTextStart
    else { return nil }
    switch template {
    case .chatML(let system): defaultSystem = system
    case .llama3: return nil
    case .own:
      let defaults = [ZhinaoConversation.usualSystem, nil]
      guard
        let system = defaults.first(where: {
          ZhinaoConversation.writesAlike(template, .chatML(defaultSystem: $0))
        })
      else { return nil }
      defaultSystem = system
    }
    self.tokenizer = tokenizer
    self.contents = contents
    self.start = start
    self.end = end
    newline = tokenizer.encode("\n")
  }

  /// Whether both write probes of conversations in the same way.
  private static func writesAlike(_ a: ChatTemplate, _ b: ChatTemplate) -> Bool {
    let turns = [("user", " x"), ("assistant", "y\n"), ("user", "z"), ("assistant", "\nw")]
    return [turns, [("system", "s ")] + turns].allSatisfy { turns in
      let prompt = ChatPrompt(
        turns.map { ChatMessage(role: $0.0, content: $0.1) }, addingGenerationPrompt: false)
      guard let first = try? a.segments(of: prompt), let second = try? b.segments(of: prompt) else {
        return false
      }
      return first.map(\.text).joined().hasSameBytes(as: second.map(\.text).joined())
    }
  }

  /// How many turns are neither the user's nor the assistant's, nor the system's at the start.
  static func otherTurns(_ conversation: ConversationRecord) -> Int {
    conversation.messages.enumerated().filter { place, message in
      let role = message["role"]?.stringValue ?? ""
      return !role.hasSameBytes(as: "user") && !role.hasSameBytes(as: "assistant")
        && !(place == 0 && role.hasSameBytes(as: "system"))
    }.count
  }

  /// The whole conversation, uncut.
  ///
  /// With ``TrainedPart/zhinao`` the labels are those of the vendor's script: of every turn `<|im_start|>`, `<|im_end|>` and the newline
  /// count, of an answer the content too. Where rows are separate, every turn but the user's counts as an answer, and where they are
  /// packed, only the assistant's.
  func row(
    of conversation: ConversationRecord, part: TrainedPart, packing: TuningPacking
  ) throws(TuningDataProblem) -> TrainingRow {
    var row = TrainingRow(tokens: [], labels: [])
    let turns = try turns(of: conversation)
    let hasSystem = turns.first?.role.hasSameBytes(as: "system") == true
    if let defaultSystem, !hasSystem {
      add("system", defaultSystem, labels: part == .zhinao ? .frame : part == .all ? .all : .none, to: &row)
    }
    let last = turns.lastIndex { $0.isAnswer }
    for (place, turn) in turns.enumerated() {
      let labels: Labels
      switch part {
      case .all: labels = .all
      case .assistant: labels = turn.isAnswer && turn.isLearned ? .answer : .none
      case .last: labels = place == last && turn.isLearned ? .answer : .none
      case .zhinao:
        let isOther = !turn.role.hasSameBytes(as: "user") && !(place == 0 && hasSystem)
        let isAnswer = turn.isAnswer || (packing == .separate && isOther)
        labels = !isAnswer ? .frame : turn.isLearned ? .turn : .none
      }
      add(turn.role, turn.content, labels: labels, to: &row)
    }
    return row
  }

  private struct Turn {
    var role: String
    var content: String
    var isAnswer: Bool
    var isLearned: Bool
  }

  private func turns(of conversation: ConversationRecord) throws(TuningDataProblem) -> [Turn] {
    var turns: [Turn] = []
    for (place, message) in conversation.joiningParts.messages.enumerated() {
      let calls = message["tool_calls"]?.arrayValue ?? []
      if !calls.isEmpty { throw .record(.callsNotWritten) }
      let role = message["role"]?.stringValue ?? ""
      let isAnswer = role.hasSameBytes(as: "assistant")
      turns.append(
        Turn(
          role: conversation.toolNames[place] ?? role, content: message["content"]?.stringValue ?? "",
          isAnswer: isAnswer, isLearned: conversation.learns(place)))
    }
    return turns
  }

  private enum Labels {
    case none
    /// `<|im_start|>`, `<|im_end|>` and what follows it.
    case frame
    /// Also the content.
    case turn
    /// The content and `<|im_end|>`.
    case answer
    case all
  }

  private func add(_ role: String, _ content: String, labels: Labels, to row: inout TrainingRow) {
    func add(_ ids: [Int], counted: Bool) {
      row.tokens += ids
      row.labels += ids.map { counted ? $0 : nil }
    }
    let isFrame = labels == .frame || labels == .turn || labels == .all
    let isContent = labels == .turn || labels == .answer || labels == .all
    add([start], counted: isFrame)
    add(tokenizer.encode(role, specials: contents, addingAffixes: false) + newline, counted: labels == .all)
    add(tokenizer.encode(content, specials: contents, addingAffixes: false), counted: isContent)
    add([end], counted: labels != .none)
    add(newline, counted: isFrame)
  }
}

extension ConversationRecord {
  /// Whether an answer counts, as far as the record says.
  func learns(_ place: Int) -> Bool { marks[place] ?? (place >= promptTurns) }
}
