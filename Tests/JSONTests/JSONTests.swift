import JSON
import Testing

@Suite struct JSONTests {
  @Test func textsSurviveARoundTrip() throws {
    for text in [#"{"b":1,"a":[1.5,-2e10,true,null,"x\n\"引"],"c":{}}"#, "[]", "0", #""\\""#] {
      #expect(try JSONValue.parse(text).serialized() == text)
    }
    #expect(try JSONValue.parse(#""\ud83d\ude00\u0041""#).stringValue == "😀A")
  }

  @Test(arguments: [
    "", "{", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "01", "1.", "+1", "\"\\x\"", "\"a", "tru", "[1] 2",
    "{\"a\":1,\"a\":2}",
    "\"\u{1}\"", "nan", "1e",
  ])
  func whatIsNotJSONIsRefused(text: String) {
    #expect(throws: JSONError.self) { try JSONValue.parse(text) }
  }

  /// Keys are bytes, as in Python and Rust: é has two spellings, and K is not the sign of kelvin.
  @Test func keysAndTextsAreComparedByBytes() throws {
    let text = #"{"\u00e9":1,"e\u0301":2,"K":3,"\u212a":4}"#
    let object = try #require(try JSONValue.parse(text).objectValue)
    #expect(object.keys.count == 4)
    #expect(object["\u{E9}"]?.intValue == 1 && object["e\u{301}"]?.intValue == 2)
    #expect(object["K"]?.intValue == 3 && object["\u{212A}"]?.intValue == 4)
    #expect(JSONValue.string("\u{E9}") != JSONValue.string("e\u{301}"))
    #expect(try JSONValue.parse(#"{"\u00e9":1}"#) != JSONValue.parse(#"{"e\u0301":1}"#))
    for mark in ["\u{301}", "\u{FE0F}", "\u{200D}", "\r\n"] {
      let value = JSONValue.object(JSONObject([("a\(mark)", .string("\"\(mark)\\\(mark)\n\(mark)"))]))
      #expect(try JSONValue.parse(value.serialized()) == value)
    }
  }

  @Test func nestingHasALimit() {
    let deep = String(repeating: "[", count: 100_000)
    #expect(throws: JSONError.self) { try JSONValue.parse(deep) }
  }

  @Test func wholeNumbersAreWhole() throws {
    #expect(try JSONValue.parse("12").intValue == 12)
    #expect(try JSONValue.parse("12.5").intValue == nil)
    #expect(try JSONValue.parse("99999999999999999999").intValue == nil)
  }

  /// Python's writer makes these words: they are kept, and whoever needs the number refuses it by name.
  @Test func wordsThatPythonWritesAreNumbers() throws {
    let text = #"{"a":NaN,"b":Infinity,"c":-Infinity,"d":1}"#
    let value = try JSONValue.parse(text)
    #expect(value.serialized() == text)
    let fields = try JSONFields(value, document: "config.json")
    #expect(try fields.integer("d") == 1)
    for key in ["a", "b", "c"] {
      let error = #expect(throws: JSONFieldError.self) { try fields.number(key) }
      #expect(error?.field == key)
    }
    #expect(throws: JSONError.self) { try JSONValue.parse("[Infinite]") }
    #expect(throws: JSONError.self) { try JSONValue.parse("-N") }
  }
}

@Suite struct JSONFieldsTests {
  private static func fields(_ text: String, prefix: String = "") throws -> JSONFields {
    try JSONFields(JSONValue.parse(text), document: "a.json", prefix: prefix)
  }

  @Test func absentAndNullAreTheSame() throws {
    let fields = try Self.fields(#"{"a": null}"#)
    #expect(try fields.integer("a") == nil)
    #expect(try fields.string("b") == nil)
    #expect(!fields.isPresent("a"))
  }

  @Test func valuesAreTyped() throws {
    let fields = try Self.fields(
      #"{"n": 4096.0, "x": 1e-5, "f": true, "s": "é", "o": {"i": 7}, "l": [1, 2], "t": "one"}"#)
    #expect(try fields.integer("n") == 4096)
    #expect(try fields.number("x") == 1e-5)
    #expect(try fields.bool("f") == true)
    #expect(try fields.string("s") == "é")
    #expect(try fields.object("o")?.requiredInteger("i") == 7)
    #expect(try fields.integers("l", in: 0...9, most: 2) == [1, 2])
    #expect(try fields.strings("t", most: 1) == ["one"])
  }

  @Test func errorsNameDocumentPathValueAndExpectation() throws {
    let fields = try #require(try Self.fields(#"{"o": {"i": 70000, "s": 1}}"#).object("o"))
    let range = #expect(throws: JSONFieldError.self) { try fields.integer("i", in: 1...100) }
    #expect(range?.description == "a.json: o.i is 70000, expected a whole number from 1 to 100")
    let type = #expect(throws: JSONFieldError.self) { try fields.string("s") }
    #expect(type?.field == "o.s")
    let missing = #expect(throws: JSONFieldError.self) { try fields.requiredNumber("x") }
    #expect(missing?.reason == .missing)
    let unknown = #expect(throws: JSONFieldError.self) { try fields.refuseUnknown(besides: ["i"]) }
    #expect(unknown?.description == "a.json: o.s is not a known field")
    let array = #expect(throws: JSONFieldError.self) { try JSONFields(.array([]), document: "a.json") }
    #expect(array?.description == "a.json: is not a JSON object")
  }
}
