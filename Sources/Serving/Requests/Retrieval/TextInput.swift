import JSON
import Tokenization

/// A text of a request, or its token ids.
enum TextInput: Equatable, Sendable {
  case text(String)
  /// Used as they are: no special tokens are added.
  case ids([Int])

  /// A string, an array of strings, an array of token ids, which is one text, or an array of such arrays.
  /// - Throws: ``APIError`` with the code `empty_input` for an empty array, string or list of ids.
  static func decode(_ fields: JSONFields, _ key: String, most: Int) throws -> [TextInput] {
    guard let value = fields[key] else { throw fields.error(key, .missing) }
    let inputs: [TextInput]
    if let text = value.stringValue {
      inputs = [.text(text)]
    } else if let array = value.arrayValue {
      if case .number? = array.first {
        inputs = [.ids(try ids(array, fields, key))]
      } else {
        inputs = try elements(array, fields, key, most: most)
      }
    } else {
      throw fields.unexpected(key, expected: "a string, an array of strings, or token ids")
    }
    guard !inputs.isEmpty, !inputs.contains(where: \.isEmpty) else { throw empty(key) }
    return inputs
  }

  private static func elements(_ array: [JSONValue], _ fields: JSONFields, _ key: String, most: Int) throws
    -> [TextInput]
  {
    guard array.count <= most else {
      throw fields.refusal(key, "has \(array.count) elements; at most \(most) are taken in one request")
    }
    return try array.map { element in
      if let text = element.stringValue { return .text(text) }
      guard let values = element.arrayValue else {
        throw fields.unexpected(key, expected: "an array of strings, or arrays of token ids")
      }
      return .ids(try ids(values, fields, key))
    }
  }

  private static func ids(_ values: [JSONValue], _ fields: JSONFields, _ key: String) throws -> [Int] {
    let ids = values.compactMap(\.intValue)
    guard ids.count == values.count, ids.allSatisfy({ $0 >= 0 }) else {
      throw fields.unexpected(key, expected: "token ids from 0 on")
    }
    return ids
  }

  private var isEmpty: Bool {
    switch self {
    case .text(let text): text.utf8.isEmpty
    case .ids(let ids): ids.isEmpty
    }
  }

  static func empty(_ key: String) -> APIError {
    APIError(.badRequest, "\(key) is empty, or one of its elements is", parameter: key, code: "empty_input")
  }
}
