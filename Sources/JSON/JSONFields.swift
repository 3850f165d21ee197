import Files

/// A field of a JSON object that is missing or is not what it must be.
package struct JSONFieldError: DiagnosedError, Equatable {
  /// One case per rule.
  package enum Reason: Equatable, Sendable {
    /// The document, or the value that should hold the fields, is not an object.
    case notAnObject
    /// The field must be there.
    case missing
    /// The field has the wrong type or lies outside its range. `found` is its JSON text.
    case unexpected(found: String, expected: String)
    /// The object has a field that its reader does not know.
    case unknown
    /// A rule of the reader's own, as the end of a sentence whose subject is the field.
    case refused(String)
    /// The value is well formed and asks for something that the reader does not do. `reason` is a clause of its own.
    case unsupported(reason: String)
  }
  package var reason: Reason
  /// The file or the body, for messages.
  package var document: String
  /// Path of the field inside the document, for example `rope_scaling.factor`; empty for the document itself.
  package var field: String

  package init(_ reason: Reason, document: String, field: String) {
    self.reason = reason
    self.document = document
    self.field = field
  }

  package var category: FailureCategory { .badInput }

  /// The rule, as the end of a sentence whose subject is the field.
  package var detail: String {
    switch reason {
    case .notAnObject: "is not a JSON object"
    case .missing: "is missing"
    case .unexpected(let found, let expected): "is \(found), expected \(expected)"
    case .unknown: "is not a known field"
    case .refused(let detail): detail
    case .unsupported(let reason): "is not supported: \(reason)"
    }
  }

  package var description: String { "\(document): \(field.isEmpty ? "" : "\(field) ")\(detail)" }
}

/// Typed access to the members of a JSON object. Every reader of configurations, requests and data files uses it, so that a
/// wrong field is always named by its path, its value and what was expected. A member that is null counts as absent.
package struct JSONFields: Sendable {
  package let object: JSONObject
  /// The file or the body, for messages.
  package let document: String
  /// What stands before names in messages, for example `messages[0].`.
  package let prefix: String

  package init(_ object: JSONObject, document: String, prefix: String = "") {
    self.object = object
    self.document = document
    self.prefix = prefix
  }

  /// - Throws: ``JSONFieldError/Reason/notAnObject``.
  package init(_ value: JSONValue, document: String, prefix: String = "") throws(JSONFieldError) {
    guard let object = value.objectValue else {
      var name = prefix[...]
      if name.utf8.last == UInt8(ascii: ".") { name = name.dropLast() }
      throw JSONFieldError(.notAnObject, document: document, field: String(name))
    }
    self.init(object, document: document, prefix: prefix)
  }

  /// The value, unless it is absent or null.
  package subscript(key: String) -> JSONValue? {
    guard let value = object[key], !value.isNull else { return nil }
    return value
  }

  package func isPresent(_ key: String) -> Bool { self[key] != nil }

  // MARK: Errors

  package func error(_ key: String, _ reason: JSONFieldError.Reason) -> JSONFieldError {
    JSONFieldError(reason, document: document, field: prefix + key)
  }

  /// A rule of the caller's own: `detail` ends a sentence whose subject is the field.
  package func refusal(_ key: String, _ detail: String) -> JSONFieldError { error(key, .refused(detail)) }

  package func unexpected(_ key: String, expected: String) -> JSONFieldError {
    error(key, .unexpected(found: JSONFields.excerpt(object[key] ?? .null), expected: expected))
  }

  package func unsupported(_ key: String, because reason: String) -> JSONFieldError {
    error(key, .unsupported(reason: reason))
  }

  /// Refuses, by name, a member whose value asks for something that the reader does not do.
  package func refuseUnsupported(
    _ key: String, because reason: String, unless isHarmless: (JSONValue) -> Bool = { _ in false }
  ) throws(JSONFieldError) {
    if let value = self[key], !isHarmless(value) { throw unsupported(key, because: reason) }
  }

  /// The text of a value, cut where it would fill a screen.
  private static func excerpt(_ value: JSONValue) -> String {
    let text = value.serialized()
    guard text.unicodeScalars.count > 120 else { return text }
    return String(String.UnicodeScalarView(text.unicodeScalars.prefix(120))) + "…"
  }

  private func required<Value>(_ key: String, _ value: Value?) throws(JSONFieldError) -> Value {
    guard let value else { throw error(key, .missing) }
    return value
  }

  // MARK: Values

  package func bool(_ key: String) throws(JSONFieldError) -> Bool? {
    guard let value = self[key] else { return nil }
    guard let flag = value.boolValue else { throw unexpected(key, expected: "true or false") }
    return flag
  }

  package func string(_ key: String) throws(JSONFieldError) -> String? {
    guard let value = self[key] else { return nil }
    guard let text = value.stringValue else { throw unexpected(key, expected: "a string") }
    return text
  }

  /// A whole number in `range`; `4096.0`, which Python tools write, counts as one.
  package func integer(_ key: String, in range: ClosedRange<Int> = .min ... .max) throws(JSONFieldError)
    -> Int?
  {
    guard let value = self[key] else { return nil }
    guard let number = value.intValue, range.contains(number) else {
      throw unexpected(key, expected: JSONFields.description(of: range))
    }
    return number
  }

  /// A finite number in `range`.
  package func number(
    _ key: String, in range: ClosedRange<Double> = -Double.infinity ... .infinity
  ) throws(JSONFieldError) -> Double? {
    guard let value = self[key] else { return nil }
    guard let number = value.doubleValue, number.isFinite, range.contains(number) else {
      let bounded = range.lowerBound.isFinite || range.upperBound.isFinite
      throw unexpected(
        key, expected: bounded ? "a number from \(range.lowerBound) to \(range.upperBound)" : "a number")
    }
    return number
  }

  /// As ``string(_:)``, for a member that must be there.
  package func requiredString(_ key: String) throws(JSONFieldError) -> String {
    try required(key, string(key))
  }

  /// As ``integer(_:in:)``, for a member that must be there.
  package func requiredInteger(_ key: String, in range: ClosedRange<Int> = .min ... .max)
    throws(JSONFieldError)
    -> Int
  {
    try required(key, integer(key, in: range))
  }

  /// As ``number(_:in:)``, for a member that must be there.
  package func requiredNumber(
    _ key: String, in range: ClosedRange<Double> = -Double.infinity ... .infinity
  ) throws(JSONFieldError) -> Double {
    try required(key, number(key, in: range))
  }

  /// The fields of a member that is an object.
  package func object(_ key: String) throws(JSONFieldError) -> JSONFields? {
    guard let value = self[key] else { return nil }
    return try JSONFields(value, document: document, prefix: "\(prefix)\(key).")
  }

  /// The fields of each element of a member that is an array of objects; nil when absent.
  package func objects(_ key: String) throws(JSONFieldError) -> [JSONFields]? {
    guard let value = self[key] else { return nil }
    guard let array = value.arrayValue else { throw unexpected(key, expected: "an array of objects") }
    var objects: [JSONFields] = []
    for (index, element) in array.enumerated() {
      objects.append(try JSONFields(element, document: document, prefix: "\(prefix)\(key)[\(index)]."))
    }
    return objects
  }

  /// One string or an array of at most `most` of them; empty when absent.
  package func strings(_ key: String, most: Int) throws(JSONFieldError) -> [String] {
    guard let value = self[key] else { return [] }
    if let text = value.stringValue { return [text] }
    guard let array = value.arrayValue, array.count <= most else {
      throw unexpected(key, expected: "a string or an array of at most \(most) strings")
    }
    let texts = array.compactMap(\.stringValue)
    guard texts.count == array.count else { throw unexpected(key, expected: "an array of strings") }
    return texts
  }

  /// An array of at most `most` whole numbers in `range`; nil when absent.
  package func integers(_ key: String, in range: ClosedRange<Int>, most: Int) throws(JSONFieldError) -> [Int]?
  {
    guard let value = self[key] else { return nil }
    guard let array = value.arrayValue, array.count <= most else {
      throw unexpected(key, expected: "an array of at most \(most) whole numbers")
    }
    let numbers = array.compactMap(\.intValue).filter(range.contains)
    guard numbers.count == array.count else {
      throw unexpected(
        key, expected: "an array in which each element is \(JSONFields.description(of: range))")
    }
    return numbers
  }

  /// Refuses members that are not among `known`.
  package func refuseUnknown(besides known: Set<String>) throws(JSONFieldError) {
    if let key = object.keys.first(where: { !known.contains($0) }) { throw error(key, .unknown) }
  }

  private static func description(of range: ClosedRange<Int>) -> String {
    switch (range.lowerBound, range.upperBound) {
    case (.min, .max): "a whole number"
    case (let least, .max): "a whole number from \(least) on"
    case (let least, let most): "a whole number from \(least) to \(most)"
    }
  }
}
