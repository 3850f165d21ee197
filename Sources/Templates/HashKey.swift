/// A key of a dictionary, or an item of a set: equal as in Python, where `1`, `1.0` and `True` are one key.
///
/// The value must be hashable (``Interpreter/requireHashable(_:)``).
struct HashKey: Hashable {
  let value: Value

  static func == (left: HashKey, right: HashKey) -> Bool {
    switch (left.value, right.value) {
    case (.text(let left), .text(let right)): return left.bytes == right.bytes
    case (.none, .none), (.undefined, .undefined): return true
    case (.large(let left), .large(let right)): return left == right
    case (.tuple(let left), .tuple(let right)):
      return left.values.count == right.values.count
        && zip(left.values, right.values).allSatisfy { HashKey(value: $0) == HashKey(value: $1) }
    default: break
    }
    if let left = left.value.number, let right = right.value.number { return left == right }
    if let left = left.value.identity, let right = right.value.identity { return left == right }
    return false
  }

  func hash(into hasher: inout Hasher) {
    switch value {
    case .text(let text): hasher.combine(text.bytes)
    case .none: hasher.combine(0)
    case .large(let digits): hasher.combine(digits)
    case .tuple(let items): for item in items.values { HashKey(value: item).hash(into: &hasher) }
    default:
      if let number = value.number {
        hasher.combine(number)
      } else if let identity = value.identity {
        hasher.combine(identity)
      }
    }
  }
}

/// A number as an order sees it: integers exactly, and floats that are integers as integers.
enum Number: Hashable {
  case int(Int)
  case float(Double)

  init(_ value: Double) {
    // Below 2⁶³ every float that is an integer converts exactly.
    if let exact = Int(exactly: value) { self = .int(exact) } else { self = .float(value) }
  }

  /// Whether this number is below another one; false if one of them is not a number.
  func isLess(than other: Number) -> Bool {
    switch (self, other) {
    case (.int(let left), .int(let right)): left < right
    case (.float(let left), .float(let right)): left < right
    // A float that is no integer of 64 bits never equals the integer, and rounding down keeps the order.
    case (.int(let left), .float(let right)):
      right >= 0x1p63 || (right > -0x1p63 && left <= Int(right.rounded(.down)))
    case (.float(let left), .int(let right)):
      left < -0x1p63 || (left < 0x1p63 && Int(left.rounded(.down)) < right)
    }
  }
}

extension Value {
  /// The number of an integer, a boolean or a float.
  var number: Number? {
    switch self {
    case .int(let value): .int(value)
    case .bool(let value): .int(value ? 1 : 0)
    case .float(let value): Number(value)
    default: nil
    }
  }

  /// What tells one object from another.
  var identity: ObjectIdentifier? {
    switch self {
    case .list(let items), .tuple(let items): ObjectIdentifier(items)
    case .dict(let dict): ObjectIdentifier(dict)
    case .range(let range): ObjectIdentifier(range)
    case .view(let view): ObjectIdentifier(view)
    case .iteration(let iteration): ObjectIdentifier(iteration)
    case .namespace(let namespace): ObjectIdentifier(namespace)
    case .loop(let loop): ObjectIdentifier(loop)
    case .cycler(let cycler): ObjectIdentifier(cycler)
    case .function(let function): ObjectIdentifier(function)
    default: nil
    }
  }
}
