/// The exact decimal digits of floats, which formatting and rounding go by.
struct DecimalDigits {
  /// Digits from 0 to 9, without leading zeros; empty for 0.
  private var digits: [UInt8]
  /// The number of digits before the decimal point, which may be negative.
  private var pointPosition: Int

  /// The magnitude of a finite number `m · 2ᵉ`: the digits of `m · 2ᵉ`, or of `m · 5⁻ᵉ` with the point moved by `e`.
  init(_ value: Double) {
    let exponent = value.exponentBitPattern == 0 ? -1074 : Int(value.exponentBitPattern) - 1075
    let mantissa =
      value.exponentBitPattern == 0
      ? value.significandBitPattern : value.significandBitPattern | 1 << 52
    var number = WideInteger(mantissa)
    number.multiply(by: exponent < 0 ? 5 : 2, times: abs(exponent))
    digits = number.decimalDigits
    pointPosition = digits.count + min(exponent, 0)
  }

  /// Rounds to so many digits after the point, halves to even; a negative number rounds digits before the point.
  /// - Returns: The digits before the point (at least "0") and exactly `places` after it.
  func fixed(_ places: Int) -> (whole: String, fraction: String) {
    let rounded = rounded(toDigits: pointPosition + places)
    var whole = ""
    for index in 0..<max(0, rounded.pointPosition) { whole.append(rounded.character(index)) }
    var fraction = ""
    for index in 0..<max(0, places) { fraction.append(rounded.character(rounded.pointPosition + index)) }
    return (whole.isEmpty ? "0" : whole, fraction)
  }

  /// Rounds to so many digits in all, halves to even.
  /// - Returns: Exactly `count` digits, and the power of ten of the first one.
  func scientific(_ count: Int) -> (digits: String, exponent: Int) {
    let rounded = rounded(toDigits: count)
    var result = ""
    for index in 0..<count { result.append(rounded.character(index)) }
    return (result, rounded.digits.isEmpty ? 0 : rounded.pointPosition - 1)
  }

  private func character(_ index: Int) -> Character {
    digits.indices.contains(index) ? Character(Unicode.Scalar(Byte.zero + digits[index])) : "0"
  }

  private func rounded(toDigits count: Int) -> DecimalDigits {
    if count >= digits.count { return self }
    var result = self
    if count < 0 {
      result.digits = []
      return result
    }
    let half = digits[count]
    let isAbove = half > 5 || half == 5 && digits[(count + 1)...].contains { $0 != 0 }
    let isOdd = count > 0 && digits[count - 1] % 2 == 1
    result.digits = Array(digits[..<count])
    if isAbove || half == 5 && isOdd { result.increment() }
    return result
  }

  private mutating func increment() {
    var index = digits.count - 1
    while index >= 0, digits[index] == 9 {
      digits[index] = 0
      index -= 1
    }
    if index >= 0 {
      digits[index] += 1
    } else {
      digits.insert(1, at: 0)
      pointPosition += 1
    }
  }
}

/// A natural number of any size, in limbs of nine decimal digits, the lowest first.
private struct WideInteger {
  private var limbs: [UInt64]
  private static let base: UInt64 = 1_000_000_000

  init(_ value: UInt64) {
    limbs = [value % Self.base, value / Self.base]
    if limbs[1] >= Self.base { limbs = [limbs[0], limbs[1] % Self.base, limbs[1] / Self.base] }
  }

  /// - Parameter factor: 2 or 5, twelve of which fit beside a limb in 64 bits.
  mutating func multiply(by factor: UInt64, times: Int) {
    let twelfth = (0..<12).reduce(1) { power, _ in power * factor }
    for _ in 0..<(times / 12) { multiply(by: twelfth) }
    for _ in 0..<(times % 12) { multiply(by: factor) }
  }

  private mutating func multiply(by factor: UInt64) {
    var carry: UInt64 = 0
    for index in limbs.indices {
      let product = limbs[index] * factor + carry
      limbs[index] = product % Self.base
      carry = product / Self.base
    }
    if carry > 0 { limbs.append(carry) }
  }

  var decimalDigits: [UInt8] {
    var digits: [UInt8] = []
    for limb in limbs.reversed() {
      let text = String(limb)
      digits += Array(repeating: 0, count: 9 - text.utf8.count) + text.utf8.map { $0 - Byte.zero }
    }
    return Array(digits.drop { $0 == 0 })
  }
}

extension Double {
  /// `format(value, ".nf")` without a sign.
  func fixedDescription(_ places: Int) -> String {
    let (whole, fraction) = DecimalDigits(self).fixed(places)
    return places == 0 ? whole : whole + "." + fraction
  }

  /// `round(value, places)`, halves to even, for places from -400 to 400.
  func rounded(places: Int) -> Double {
    guard isFinite else { return self }
    if places >= 0 { return Double(description(sign) + fixedDescription(places)) ?? self }
    return Double(description(sign) + DecimalDigits(self).fixed(places).whole) ?? self
  }

  private func description(_ sign: FloatingPointSign) -> String { sign == .minus ? "-" : "" }
}
