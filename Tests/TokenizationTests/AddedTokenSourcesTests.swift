import Files
import JSON
import TestSupport
import Testing
import Tokenization

/// What files beside `tokenizer.json` say about added tokens. Ids and flags are those that transformers 5.24 gives.
@Suite struct AddedTokenSourcesTests {
  private let json: JSONObject
  private let first: JSONObject
  private let count: Int

  init() throws {
    json = try JSONValue.parse(file: Fixture.path("tokenizers/qwen2.json")).objectValue ?? JSONObject()
    first = try #require(json["added_tokens"]?.arrayValue?.first?.objectValue)
    count = try BytePairTokenizer(.object(json), path: "t").tokenCount
  }
  private var name: String { first["content"]?.stringValue ?? "" }
  private var id: Int { first["id"]?.intValue ?? -1 }

  private func load(decoder: JSONValue? = nil, added: JSONValue? = nil) throws -> any Tokenizer {
    var contents: [ByteText: [UInt8]] = [:]
    contents["tokenizer.json"] = Array(JSONValue.object(json).serialized().utf8)
    contents["tokenizer_config.json"] = decoder.map {
      Array(JSONValue.object(JSONObject([("added_tokens_decoder", $0)])).serialized().utf8)
    }
    contents["added_tokens.json"] = added.map { Array($0.serialized().utf8) }
    return try TokenizerLoader.load(EmbeddedFiles(location: "m", contents: contents))
  }

  /// The token as `added_tokens_decoder` has it.
  private func entry(_ content: String, special: Bool = true) -> JSONValue {
    var object = first
    object["id"] = nil
    object["content"] = .string(content)
    object["special"] = .bool(special)
    return .object(object)
  }

  private func decoder(_ entries: [(Int, JSONValue)]) -> JSONValue {
    .object(JSONObject(entries.map { ("\($0.0)", $0.1) }))
  }

  @Test func filesThatAgreeSayNothing() throws {
    #expect(try load().discrepancies.isEmpty)
    #expect(try load(decoder: decoder([(id, entry(name))])).discrepancies.isEmpty)
    #expect(try load(added: .object(JSONObject([(name, .init(id))]))).discrepancies.isEmpty)
  }

  @Test func flagsAreThoseOfTheConfiguration() throws {
    #expect(try load().specialTokens[name] == id)
    let tokenizer = try load(decoder: decoder([(id, entry(name, special: false))]))
    #expect(tokenizer.specialTokens[name] == nil && tokenizer.encode(name) == [id])
    #expect(tokenizer.discrepancies.map(\.fact) == [.addedTokens])
    #expect(tokenizer.discrepancies[0].description.contains("special: false"))
  }

  @Test func idsAreThoseOfTheTokenizer() throws {
    for tokenizer in [
      try load(decoder: decoder([(id + 50, entry(name))])),
      try load(added: .object(JSONObject([(name, .init(id + 50))]))),
    ] {
      #expect(tokenizer.specialTokens[name] == id && tokenizer.tokenCount == count)
      #expect(tokenizer.discrepancies.count == 1)
    }
  }

  /// A token that only the configuration has gets the next id, even if the configuration gives it one that is taken.
  @Test(arguments: [false, true]) func otherTokensFollow(takesAnId: Bool) throws {
    let claimed = takesAnId ? id : 5000
    for tokenizer in [
      try load(decoder: decoder([(claimed, entry("<other>"))])),
      try load(added: .object(JSONObject([("<other>", .init(claimed))]))),
    ] {
      #expect(tokenizer.encode("<other>") == [count] && tokenizer.tokenCount == count + 1)
      #expect(try tokenizer.decode([id]) == name)
      #expect(tokenizer.discrepancies.count == 1)
      #expect(tokenizer.discrepancies[0].description.contains("it gets the id \(count)"))
    }
  }
}
