import Files

/// A JSON document as it was written: member order and number spelling are kept, so that a configuration can be
/// read, extended and written back without touching what it does not concern.
package enum JSONValue: Sendable {
  case null
  case bool(Bool)
  /// The number's own text, for example `1e-05`.
  case number(String)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)
}

/// Members of a JSON object in the order of the document. Keys are unique; as in every other reader of JSON, they are compared byte by
/// byte.
package struct JSONObject: Equatable, Sendable {
  package private(set) var members: [(key: String, value: JSONValue)] = []
  private var indexOfKey: [ByteText: Int] = [:]

  package init() {}
  package init(_ members: [(String, JSONValue)]) {
    for (key, value) in members { self[key] = value }
  }

  package var keys: [String] { members.map(\.key) }
  package var isEmpty: Bool { members.isEmpty }

  /// The value of `key`. Setting a new key appends it; setting nil removes it.
  package subscript(key: String) -> JSONValue? {
    get { indexOfKey[key].map { members[$0].value } }
    set {
      switch (indexOfKey[key], newValue) {
      case (let index?, let value?): members[index].value = value
      case (let index?, nil):
        members.remove(at: index)
        indexOfKey = [:]
        for (position, member) in members.enumerated() { indexOfKey[member.key] = position }
      case (nil, let value?):
        indexOfKey[key] = members.count
        members.append((key, value))
      case (nil, nil): break
      }
    }
  }

  package static func == (a: JSONObject, b: JSONObject) -> Bool {
    a.members.count == b.members.count
      && zip(a.members, b.members).allSatisfy { $0.key.hasSameBytes(as: $1.key) && $0.value == $1.value }
  }
}

extension JSONValue: Equatable {
  /// Whether both are the same document, member order and spelling of numbers included.
  package static func == (a: JSONValue, b: JSONValue) -> Bool {
    switch (a, b) {
    case (.null, .null): true
    case (.bool(let a), .bool(let b)): a == b
    case (.number(let a), .number(let b)): a == b
    case (.string(let a), .string(let b)): a.hasSameBytes(as: b)
    case (.array(let a), .array(let b)): a == b
    case (.object(let a), .object(let b)): a == b
    default: false
    }
  }
}

// MARK: - Reading values

extension JSONValue {
  package var isNull: Bool { self == .null }
  package var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var stringValue: String? { if case .string(let value) = self { value } else { nil } }
  package var arrayValue: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  package var objectValue: JSONObject? { if case .object(let value) = self { value } else { nil } }
  package var doubleValue: Double? { if case .number(let text) = self { Double(text) } else { nil } }

  /// The number as an integer; also accepts `4096.0`, which Python tools write. Nil when it has a fraction or does
  /// not fit.
  package var intValue: Int? {
    guard case .number(let text) = self else { return nil }
    if let value = Int(text) { return value }
    guard let value = Double(text), value.rounded() == value, abs(value) < 0x1p53 else { return nil }
    return Int(value)
  }

  package subscript(key: String) -> JSONValue? { objectValue?[key] }
}

// MARK: - Literals

extension JSONValue: ExpressibleByNilLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByFloatLiteral, ExpressibleByStringLiteral, ExpressibleByArrayLiteral,
  ExpressibleByDictionaryLiteral
{
  package init(nilLiteral: ()) { self = .null }
  package init(booleanLiteral value: Bool) { self = .bool(value) }
  package init(integerLiteral value: Int) { self = .number(String(value)) }
  package init(floatLiteral value: Double) { self = .init(value) }
  package init(stringLiteral value: String) { self = .string(value) }
  package init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  package init(dictionaryLiteral elements: (String, JSONValue)...) { self = .object(JSONObject(elements)) }

  package init(_ value: Int) { self = .number(String(value)) }
  /// JSON has no NaN and no infinity: they become null.
  package init(_ value: Double) { self = value.isFinite ? .number("\(value)") : .null }
}
