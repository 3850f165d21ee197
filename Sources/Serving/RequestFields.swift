import JSON

/// Fields of a request's JSON object, checked one by one. A field that is null is absent.
package struct RequestFields {
  let object: JSONObject
  /// What stands before the names in messages, for example `messages[0].`.
  var prefix = ""

  /// - Throws: ``APIError`` when the body is not a JSON object.
  package init(body: [UInt8]) throws {
    let value: JSONValue
    do { value = try JSONValue.parse(body, maximumDepth: 32) } catch {
      throw APIError(.badRequest, "the body is \(error.description)")
    }
    guard let object = value.objectValue else { throw APIError(.badRequest, "the body is not a JSON object") }
    self.object = object
  }

  init(_ object: JSONObject, prefix: String = "") {
    self.object = object
    self.prefix = prefix
  }

  /// The value, unless it is absent or null.
  subscript(key: String) -> JSONValue? {
    guard let value = object[key], !value.isNull else { return nil }
    return value
  }

  func bad(_ key: String, _ expected: String) -> APIError {
    .invalid(prefix + key, "expected \(expected)")
  }

  func flag(_ key: String) throws -> Bool? {
    guard let value = self[key] else { return nil }
    guard let flag = value.boolValue else { throw bad(key, "true or false") }
    return flag
  }

  func whole(_ key: String, in range: ClosedRange<Int>) throws -> Int? {
    guard let value = self[key] else { return nil }
    guard let number = value.intValue, range.contains(number) else {
      throw bad(
        key,
        range.upperBound == Int.max
          ? "a whole number from \(range.lowerBound) on"
          : "a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  func number(_ key: String, in range: ClosedRange<Double>) throws -> Double? {
    guard let value = self[key] else { return nil }
    guard let number = value.doubleValue, range.contains(number) else {
      throw bad(key, "a number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }

  func text(_ key: String) throws -> String? {
    guard let value = self[key] else { return nil }
    guard let text = value.stringValue else { throw bad(key, "a string") }
    return text
  }

  /// One string or an array of at most `most` of them.
  func texts(_ key: String, most: Int) throws -> [String] {
    guard let value = self[key] else { return [] }
    if let text = value.stringValue { return [text] }
    guard let array = value.arrayValue, array.count <= most else {
      throw bad(key, "a string or an array of at most \(most) strings")
    }
    return try array.map {
      guard let text = $0.stringValue else { throw bad(key, "an array of strings") }
      return text
    }
  }

  func wholes(_ key: String, in range: Range<Int>, most: Int) throws -> [Int] {
    guard let value = self[key] else { return [] }
    guard let array = value.arrayValue, array.count <= most else {
      throw bad(key, "an array of at most \(most) whole numbers")
    }
    return try array.map { try id($0, key, in: range) }
  }

  func id(_ value: JSONValue, _ key: String, in range: Range<Int>) throws -> Int {
    guard let number = value.intValue, range.contains(number) else {
      throw bad(key, "token ids from 0 to \(range.upperBound - 1)")
    }
    return number
  }

  /// Refuses, by name, a field whose value asks for something this server does not do.
  func refuse(_ key: String, because reason: String, unless isHarmless: (JSONValue) -> Bool = { _ in false })
    throws
  {
    if let value = self[key], !isHarmless(value) { throw APIError.unsupported(prefix + key, reason) }
  }
}
