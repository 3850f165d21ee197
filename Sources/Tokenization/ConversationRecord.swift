import Files
import JSON

/// One conversation of a data file, as chat templates take it, whatever the form it was written in.
///
/// Four forms are read: turns with `role` and `content` (OpenAI), turns with `from` and `value` (ShareGPT, 360Zhinao's fine-tuning
/// data), pairs of a question and an answer, and alpaca's `instruction`, `input` and `output`. `Formats/calibration.md` lists the names.
package struct ConversationRecord: Equatable, Sendable {
  /// Each with `role` and `content`: a string, null beside calls of tools, or a list of parts with text.
  package private(set) var messages: [JSONObject] = []
  /// Descriptions of functions, or nil.
  package private(set) var tools: JSONValue?
  /// Names of fields that say nothing here, for example `id` and `messages[].weight`.
  package private(set) var unusedFields: Set<ByteText> = []
  /// What the record calls a turn of the role `tool`, for example `observation`, by the turn's place.
  package private(set) var toolNames: [Int: String] = [:]
  /// What a turn says of itself: whether it is to be learned (`weight` of OpenAI, `train` of Axolotl, `loss` of ms-swift), by its place.
  package private(set) var marks: [Int: Bool] = [:]
  /// The names of the fields that say so; they are among ``unusedFields`` too, because most readers have no use for them.
  package private(set) var markFields: Set<ByteText> = []
  /// The name of such a field that holds neither true nor false, neither 1 nor 0.
  package private(set) var unreadableMark: ByteText?
  /// Turns of a prompt that has a completion of its own; 0: there is none.
  package private(set) var promptTurns = 0

  /// Why a record is no conversation that a template could write. Cases do not say where, so that they can be counted.
  package enum Problem: Error, Hashable, Sendable {
    case noTurns
    /// A turn without a role or without content.
    case incompleteTurn
    case unknownRole(ByteText)
    /// A part of a content that is not text, by its type.
    case partOfType(ByteText)
    /// A field that holds something else than it should.
    case badField(ByteText)
    /// A call of a tool that is not JSON with a name.
    case badCall
    /// Two answers, one of them preferred.
    case preference
  }

  /// - Returns: nil when the record is no conversation.
  package init?(_ record: JSONValue) throws(Problem) {
    if let turns = record.arrayValue {
      guard ConversationRecord.areTurns(turns) else { return nil }
      try add(turns: turns, field: "[]")
      return
    }
    guard let object = record.objectValue else { return nil }
    var fields = RecordFields(object)
    var isRead = try readTurns(&fields)
    if !isRead { isRead = try readAlpaca(&fields) }
    if !isRead { isRead = try readPair(&fields) }
    if !isRead {
      if fields.has("chosen") && fields.has("rejected") { throw .preference }
      return nil
    }
    if let system = try fields.text("system", "system_prompt"), !system.isEmpty {
      if messages.first?["role"] == "system" {
        // The turn wins, as in LLaMA-Factory.
        unusedFields.insert("system")
      } else {
        messages.insert(ConversationRecord.message("system", system), at: 0)
        toolNames = Dictionary(uniqueKeysWithValues: toolNames.map { ($0.key + 1, $0.value) })
        marks = Dictionary(uniqueKeysWithValues: marks.map { ($0.key + 1, $0.value) })
        if promptTurns > 0 { promptTurns += 1 }
      }
    }
    try readTools(&fields)
    guard messages.contains(where: { $0["role"] != "system" }) else { throw .noTurns }
    unusedFields.formUnion(fields.unused)
  }

  private static func message(_ role: String, _ content: String) -> JSONObject {
    JSONObject([("role", .string(role)), ("content", .string(content))])
  }

  // MARK: Turns

  /// Whether all of them have the shape of a turn, and there is one.
  package static func areTurns(_ values: [JSONValue]) -> Bool {
    !values.isEmpty
      && values.allSatisfy { value in
        let hasRole = value["role"]?.stringValue != nil || value["from"]?.stringValue != nil
        return hasRole && ["content", "value", "tool_calls", "function_call"].contains { value[$0] != nil }
      }
  }

  private mutating func readTurns(_ fields: inout RecordFields) throws(Problem) -> Bool {
    if let name = ["messages", "conversations", "conversation"].first(where: fields.has) {
      guard let turns = fields.take(name)?.arrayValue else { throw .badField(name.bytes) }
      guard !turns.isEmpty else { throw .noTurns }
      try add(turns: turns, field: "\(name)[]")
      return true
    }
    // A prompt and its completion, each a list of turns.
    guard let prompt = fields.value("prompt")?.arrayValue, ConversationRecord.areTurns(prompt) else {
      return false
    }
    if fields.has("chosen") { throw .preference }
    _ = fields.take("prompt")
    let completion = fields.take("completion")?.arrayValue ?? []
    try add(turns: prompt + completion, field: "prompt[]", promptCount: completion.isEmpty ? 0 : prompt.count)
    return true
  }

  private mutating func add(turns: [JSONValue], field: String, promptCount: Int = 0) throws(Problem) {
    var followsCall = false
    for (place, turn) in turns.enumerated() {
      if place == promptCount { promptTurns = messages.count }
      guard let object = turn.objectValue else { throw .incompleteTurn }
      var fields = RecordFields(object)
      guard let named = fields.take("from") ?? fields.take("role") else {
        try addExchange(&fields)
        followsCall = false
        continue
      }
      guard let name = named.stringValue else { throw .incompleteTurn }
      let role = try Role(name)
      let content = fields.take("value") ?? fields.take("content")
      if role == .call {
        try addCalls(ConversationRecord.calls(content ?? .null), joined: followsCall)
      } else {
        try add(role, content, &fields)
        if role == .tool { toolNames[messages.count - 1] = name }
        readMark(fields, field: field)
      }
      followsCall = role == .call
      for name in fields.unused { unusedFields.insert(ByteText("\(field).\(name)")) }
    }
  }

  private mutating func add(_ role: Role, _ content: JSONValue?, _ fields: inout RecordFields) throws(Problem)
  {
    var message = JSONObject([("role", .string(role.rawValue))])
    var calls = fields.take("tool_calls")?.arrayValue ?? []
    if let call = fields.take("function_call") { calls.append(["type": "function", "function": call]) }
    switch content {
    case .string(let text)?: message["content"] = .string(text)
    case .array(let parts)?: message["content"] = .array(try ConversationRecord.texts(parts))
    case nil where !calls.isEmpty: message["content"] = .null
    // Beside calls, templates tell null from an empty text.
    case nil where role == .assistant: message["content"] = ""
    default: throw .incompleteTurn
    }
    if !calls.isEmpty {
      var parsed: [JSONValue] = []
      for call in calls { parsed.append(try ConversationRecord.call(call)) }
      message["tool_calls"] = .array(parsed)
    }
    for name in ["name", "tool_call_id", "reasoning_content"] {
      if let value = fields.take(name) { message[name] = value }
    }
    messages.append(message)
  }

  private mutating func readMark(_ fields: RecordFields, field: String) {
    for name in ["weight", "train", "loss"] {
      guard let value = fields.value(name) else { continue }
      let label = ByteText("\(field).\(name)")
      if let mark = value.boolValue ?? value.intValue.flatMap({ [0: false, 1: true][$0] }) {
        marks[messages.count - 1] = mark
        markFields.insert(label)
      } else {
        unreadableMark = label
      }
    }
  }

  /// A turn of the user and one of the assistant in one object, under the names of the roles (ms-swift) or `input` and `output` (XTuner).
  private mutating func addExchange(_ fields: inout RecordFields) throws(Problem) {
    let system = try fields.text("system")
    guard let question = try fields.text("human", "user", "input"),
      let answer = try fields.text("assistant", "gpt", "bot", "chatgpt", "output")
    else { throw .incompleteTurn }
    if let system, !system.isEmpty { messages.append(ConversationRecord.message("system", system)) }
    messages += [
      ConversationRecord.message("user", question), ConversationRecord.message("assistant", answer),
    ]
  }

  /// Parts of a content, all of them text.
  private static func texts(_ parts: [JSONValue]) throws(Problem) -> [JSONValue] {
    var texts: [JSONValue] = []
    for part in parts {
      if let text = part.stringValue {
        texts.append(["type": "text", "text": .string(text)])
      } else if let text = part["text"]?.stringValue, (part["type"]?.stringValue ?? "text") == "text" {
        texts.append(["type": "text", "text": .string(text)])
      } else {
        throw .partOfType(ByteText(part["type"]?.stringValue ?? "unknown"))
      }
    }
    return texts
  }

  private enum Role: String {
    case system, user, assistant, tool
    /// Calls of tools as the content of a turn of their own.
    case call

    init(_ name: String) throws(Problem) {
      switch name.lowercased().bytes.replacing("-", with: "_") {
      case "system", "developer": self = .system
      case "user", "human", "prompter": self = .user
      case "assistant", "gpt", "bot", "chatgpt", "bard", "bing", "model": self = .assistant
      case "tool", "observation", "observations", "tool_response", "function_response", "function":
        self = .tool
      case "function_call", "tool_call": self = .call
      default: throw .unknownRole(name.bytes)
      }
    }
  }

  // MARK: Tools

  private mutating func readTools(_ fields: inout RecordFields) throws(Problem) {
    guard var value = fields.take("tools") ?? fields.take("functions") else { return }
    if let text = value.stringValue {
      if text.bytes.isBlank { return }
      guard let parsed = try? JSONValue.parse(text) else { throw .badField("tools") }
      value = parsed
    }
    guard let list = value.arrayValue, list.allSatisfy({ $0.objectValue != nil }) else {
      throw .badField("tools")
    }
    guard !list.isEmpty else { return }
    tools = .array(
      list.map { tool in
        tool["function"] == nil && tool["name"] != nil ? ["type": "function", "function": tool] : tool
      })
  }

  /// `{"name": …, "arguments": …}` or several of them, as JSON or as its text.
  private static func calls(_ content: JSONValue) throws(Problem) -> [JSONValue] {
    var value = content
    if let text = content.stringValue {
      guard let parsed = try? JSONValue.parse(text) else { throw .badCall }
      value = parsed
    }
    var calls: [JSONValue] = []
    for call in value.arrayValue ?? [value] {
      calls.append(try ConversationRecord.call(["type": "function", "function": call]))
    }
    guard !calls.isEmpty else { throw .badCall }
    return calls
  }

  /// OpenAI has a call's arguments as the text of a JSON object; templates want the object.
  private static func call(_ value: JSONValue) throws(Problem) -> JSONValue {
    guard var call = value.objectValue, var function = call["function"]?.objectValue,
      function["name"]?.stringValue != nil
    else { throw .badCall }
    if let text = function["arguments"]?.stringValue, let arguments = try? JSONValue.parse(text),
      arguments.objectValue != nil
    {
      function["arguments"] = arguments
    }
    call["function"] = .object(function)
    return .object(call)
  }

  private mutating func addCalls(_ calls: [JSONValue], joined: Bool) throws(Problem) {
    if joined, var last = messages.popLast() {
      last["tool_calls"] = .array((last["tool_calls"]?.arrayValue ?? []) + calls)
      messages.append(last)
    } else {
      messages.append(
        JSONObject([("role", "assistant"), ("content", .null), ("tool_calls", .array(calls))]))
    }
  }

  // MARK: Questions and answers

  private mutating func readAlpaca(_ fields: inout RecordFields) throws(Problem) -> Bool {
    guard fields.value("instruction")?.stringValue != nil else { return false }
    try readHistory(&fields)
    let instruction = try fields.text("instruction") ?? ""
    let input = try fields.text("input", "context") ?? ""
    let query = [instruction, input].filter { !$0.isEmpty }.joined(separator: "\n")
    guard !query.isEmpty else { throw .noTurns }
    messages.append(ConversationRecord.message("user", query))
    if let answer = try fields.text("output", "response") {
      messages.append(ConversationRecord.message("assistant", answer))
    }
    return true
  }

  /// A prompt with a completion is no conversation but a text.
  private mutating func readPair(_ fields: inout RecordFields) throws(Problem) -> Bool {
    let names = ["query", "question", "prompt"]
    guard let question = names.first(where: { fields.value($0)?.stringValue != nil }),
      let answer = ["response", "answer"].first(where: { fields.value($0)?.stringValue != nil })
    else { return false }
    try readHistory(&fields)
    messages.append(ConversationRecord.message("user", try fields.text(question) ?? ""))
    messages.append(ConversationRecord.message("assistant", try fields.text(answer) ?? ""))
    return true
  }

  /// Earlier questions, each with its answer.
  private mutating func readHistory(_ fields: inout RecordFields) throws(Problem) {
    guard let history = fields.take("history") else { return }
    guard let pairs = history.arrayValue else { throw .badField("history") }
    for pair in pairs {
      guard let texts = pair.arrayValue?.compactMap(\.stringValue), texts.count == 2 else {
        throw .badField("history")
      }
      messages.append(ConversationRecord.message("user", texts[0]))
      messages.append(ConversationRecord.message("assistant", texts[1]))
    }
  }

  // MARK: For templates

  /// With each list of parts as one text, for templates that take text only; joined as vLLM joins them.
  package var joiningParts: ConversationRecord {
    var result = self
    for i in result.messages.indices {
      if let parts = result.messages[i]["content"]?.arrayValue {
        result.messages[i]["content"] = .string(
          parts.compactMap { $0["text"]?.stringValue }.joined(separator: "\n"))
      }
    }
    return result
  }

  /// Whether a turn calls a tool.
  package var hasToolCalls: Bool { messages.contains { $0["tool_calls"] != nil } }

  /// Leaves the descriptions of tools out.
  package mutating func dropTools() { tools = nil }

  /// What a template is told.
  package var prompt: ChatPrompt {
    var prompt = ChatPrompt(messages, addingGenerationPrompt: false)
    if let tools { prompt.variables["tools"] = tools }
    return prompt
  }

  /// The turns as role and text; nil when there are tools, which these cannot say.
  package var plainTurns: [ChatMessage]? {
    guard tools == nil else { return nil }
    let turns = joiningParts.messages.compactMap { message -> ChatMessage? in
      guard message["tool_calls"] == nil, let role = message["role"]?.stringValue, role != "tool",
        let content = message["content"]?.stringValue
      else { return nil }
      return ChatMessage(role: role, content: content)
    }
    return turns.count == messages.count ? turns : nil
  }
}

extension ConversationRecord.Problem: CustomStringConvertible {
  /// A clause of its own.
  package var description: String {
    switch self {
    case .noTurns: "it has no turns"
    case .incompleteTurn: "a turn has no from/value or role/content"
    case .unknownRole(let role): "the role \"\(role)\" is unknown"
    case .partOfType(let type): "a content has a part of type \"\(type)\"; only text is read"
    case .badField(let name): "\(name) has an unexpected form"
    case .badCall: "a call of a tool is not JSON with a name"
    case .preference:
      "chosen and rejected are pairs for preference training; write the chosen one as messages"
    }
  }
}

/// The fields of an object, and which of them nobody has asked for yet. A field that is null counts as absent.
private struct RecordFields {
  private let object: JSONObject
  private var taken: Set<ByteText> = []

  init(_ object: JSONObject) { self.object = object }

  func value(_ name: String) -> JSONValue? {
    guard let value = object[name], !value.isNull else { return nil }
    return value
  }
  func has(_ name: String) -> Bool { value(name) != nil }

  mutating func take(_ name: String) -> JSONValue? {
    if object[name] != nil { taken.insert(name.bytes) }
    return value(name)
  }

  /// The string of the first of the fields that is there, or nil when there is none.
  mutating func text(_ names: String...) throws(ConversationRecord.Problem) -> String? {
    for name in names {
      guard let value = take(name) else { continue }
      guard let text = value.stringValue else { throw .badField(name.bytes) }
      return text
    }
    return nil
  }

  var unused: Set<ByteText> {
    Set(object.members.filter { !$0.value.isNull }.map(\.key.bytes)).subtracting(taken)
  }
}
