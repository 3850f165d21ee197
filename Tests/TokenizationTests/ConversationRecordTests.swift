import Files
import JSON
import Testing
import Tokenization

@Suite struct ConversationRecordTests {
  private static func record(_ json: String) throws -> ConversationRecord? {
    try ConversationRecord(JSONValue.parse(json))
  }

  /// `role: content` of each message, parts joined.
  private static func lines(_ json: String) throws -> [String]? {
    try record(json)?.joiningParts.messages.map {
      "\($0["role"]?.stringValue ?? "?"): \($0["content"]?.stringValue ?? "null")"
    }
  }

  private static let exchange = ["user: 2+2?", "assistant: 4"]
  private static let withSystem = ["system: Be brief."] + exchange

  @Test(
    arguments: [
      (
        #"{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}"#,
        exchange
      ),
      (#"{"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]}"#, exchange),
      (#"{"conversation": [{"from": "Human", "value": "2+2?"}, {"from": "model", "value": "4"}]}"#, exchange),
      (
        #"{"conversations": [{"role": "prompter", "content": "2+2?"}, {"role": "bing", "content": "4"}]}"#,
        exchange
      ),
      (#"[{"from": "user", "value": "2+2?"}, {"from": "bard", "value": "4"}]"#, exchange),
      (
        #"{"system": "Be brief.", "conversations": [{"from": "human", "value": "2+2?"}, {"from": "chatgpt", "value": "4"}]}"#,
        withSystem
      ),
      (
        #"{"system_prompt": "Be brief.", "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}"#,
        withSystem
      ),
      (
        #"{"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4", "weight": 1}]}"#,
        withSystem
      ),
      (#"{"instruction": "2+2?", "input": "", "output": "4"}"#, exchange),
      (#"{"instruction": "2+2?", "output": "4", "system": null}"#, exchange),
      (#"{"instruction": "2+2?", "input": null, "output": "4", "system": "Be brief."}"#, withSystem),
      (#"{"instruction": "Add.", "input": "2+2", "output": "4"}"#, ["user: Add.\n2+2", "assistant: 4"]),
      (#"{"instruction": "", "input": "2+2?", "output": "4", "text": "Below: 2+2?"}"#, exchange),
      (#"{"instruction": "Add.", "context": "2+2", "response": "4"}"#, ["user: Add.\n2+2", "assistant: 4"]),
      (#"{"instruction": "2+2?"}"#, ["user: 2+2?"]),
      (
        #"{"instruction": "2+2?", "output": "4", "history": [["1+1?", "2"]]}"#,
        ["user: 1+1?", "assistant: 2"] + exchange
      ),
      (#"{"query": "2+2?", "response": "4", "history": [], "system": "Be brief."}"#, withSystem),
      (#"{"question": "2+2?", "answer": "4"}"#, exchange),
      (#"{"prompt": "2+2?", "response": "4"}"#, exchange),
      (#"{"conversation": [{"human": "2+2?", "assistant": "4"}]}"#, exchange),
      (#"{"conversation": [{"system": "Be brief.", "input": "2+2?", "output": "4"}]}"#, withSystem),
      (
        #"{"prompt": [{"role": "user", "content": "2+2?"}], "completion": [{"role": "assistant", "content": "4"}]}"#,
        exchange
      ),
      (
        #"{"messages": [{"role": "user", "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "+2?"}]}, {"role": "assistant", "content": null}]}"#,
        ["user: 2\n+2?", "assistant: "]
      ),
    ])
  func everyFormIsAConversation(json: String, expected: [String]) throws {
    #expect(try Self.lines(json) == expected)
  }

  @Test(arguments: [
    #"{"text": "x"}"#, #"{"prompt": "a", "completion": "b"}"#, #"{"input_ids": [1]}"#, "3", "[]", "[1]", "{}",
    #"{"instruction": 3}"#, #"{"prompt": "a"}"#,
  ])
  func whatIsNoConversationIsNil(json: String) throws {
    #expect(try Self.record(json) == nil)
  }

  @Test func aSystemTurnWinsOverTheField() throws {
    let record = try #require(
      try Self.record(
        #"{"system": "Other", "id": 3, "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi", "weight": 0}]}"#
      ))
    #expect(record.plainTurns?.first?.content == "Be brief.")
    #expect(record.unusedFields == ["system", "id", "messages[].weight"])
  }

  @Test(
    arguments: [
      (#"{"messages": []}"#, .noTurns), (#"{"conversations": [{"from": "system", "value": "x"}]}"#, .noTurns),
      (#"{"instruction": "", "input": "", "output": "4"}"#, .noTurns),
      (#"{"messages": [{"role": "user"}]}"#, .incompleteTurn), (#"{"messages": [3]}"#, .incompleteTurn),
      (#"{"messages": [{"role": 1, "content": "x"}]}"#, .incompleteTurn),
      (#"{"messages": [{"role": "user", "content": null}]}"#, .incompleteTurn),
      (#"{"messages": [{"role": "narrator", "content": "x"}]}"#, .unknownRole("narrator")),
      (#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#, .partOfType("image_url")),
      (#"{"messages": "x"}"#, .badField("messages")),
      (#"{"instruction": "x", "output": 3}"#, .badField("output")),
      (#"{"instruction": "x", "history": [["a"]]}"#, .badField("history")),
      (#"{"system": 3, "messages": [{"role": "user", "content": "x"}]}"#, .badField("system")),
      (#"{"tools": "{", "messages": [{"role": "user", "content": "x"}]}"#, .badField("tools")),
      (#"{"conversations": [{"from": "function_call", "value": "call me"}]}"#, .badCall),
      (#"{"prompt": "x", "chosen": "a", "rejected": "b"}"#, .preference),
      (#"{"chosen": [{"role": "user", "content": "x"}], "rejected": []}"#, .preference),
    ] as [(String, ConversationRecord.Problem)])
  func problemsAreNamed(json: String, problem: ConversationRecord.Problem) {
    #expect(throws: problem) { try Self.record(json) }
  }

  /// OpenAI's calls, its older ones, and those of ShareGPT are the same messages.
  @Test func callsOfToolsAreOfOneForm() throws {
    let forms = [
      #"{"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "rain", "arguments": "{\"at\": 3}"}}]}, {"role": "tool", "content": "no"}]}"#,
      #"{"messages": [{"role": "user", "content": "Rain?"}, {"role": "assistant", "function_call": {"name": "rain", "arguments": "{\"at\": 3}"}}, {"role": "function", "content": "no"}]}"#,
      #"{"conversations": [{"from": "human", "value": "Rain?"}, {"from": "function_call", "value": "{\"name\": \"rain\", \"arguments\": {\"at\": 3}}"}, {"from": "observation", "value": "no"}]}"#,
    ]
    let records = try forms.map { try #require(try Self.record($0)) }
    #expect(records[0].messages == records[1].messages && records[0].messages == records[2].messages)
    #expect(records[0].messages[1]["content"] == .null && records[0].messages[2]["role"] == "tool")
    #expect(
      records[0].messages[1]["tool_calls"]
        == [["type": "function", "function": ["name": "rain", "arguments": ["at": 3]]]])
    #expect(records[0].plainTurns == nil)
    let tool: JSONValue = [["type": "function", "function": ["name": "rain"]]]
    for tools in [
      #"[{"name": "rain"}]"#, #""[{\"name\": \"rain\"}]""#,
      #"[{"type": "function", "function": {"name": "rain"}}]"#,
    ] {
      let record = try Self.record(#"{"tools": \#(tools), "messages": [{"role": "user", "content": "x"}]}"#)
      #expect(record?.tools == tool && record?.prompt.variables["tools"] == tool)
    }
  }
}
