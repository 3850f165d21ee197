import Foundation

/// A text as its UTF-8 bytes: for comparing, searching and cutting text that comes from outside.
///
/// Swift's `String` works on what a reader sees as one character. There `"\r\n"` holds no `"\n"`, `"/"` followed by a combining
/// mark holds no `"/"`, and two spellings of é are equal, as values and as keys of dictionaries. File names, tensor names, JSON
/// keys, tokens and protocols are sequences of bytes, where all of that is wrong.
@usableFromInline
package struct ByteText: Hashable, Comparable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
  // Tables of tens of thousands of tokens have it as their key: what such a table does is compiled where it is used.
  @usableFromInline package let text: String

  @inlinable package init(_ text: String) { self.text = text }
  @inlinable package init(stringLiteral text: String) { self.text = text }

  @usableFromInline package var description: String { text }

  // MARK: Comparing

  @inlinable package static func == (a: ByteText, b: ByteText) -> Bool { a.text.hasSameBytes(as: b.text) }

  /// The order of bytes, which is also that of code points.
  @usableFromInline package static func < (a: ByteText, b: ByteText) -> Bool {
    a.text.utf8.lexicographicallyPrecedes(b.text.utf8)
  }

  @inlinable package func hash(into hasher: inout Hasher) {
    let isContiguous: Void? = text.utf8.withContiguousStorageIfAvailable {
      hasher.combine(bytes: UnsafeRawBufferPointer($0))
    }
    if isContiguous == nil { for byte in text.utf8 { hasher.combine(byte) } }
    // No byte of UTF-8: where one key ends and the next begins.
    hasher.combine(0xFF as UInt8)
  }

  package func hasPrefix(_ prefix: String) -> Bool { text.utf8.starts(with: prefix.utf8) }

  package func hasSuffix(_ suffix: String) -> Bool {
    text.utf8.count >= suffix.utf8.count && text.utf8.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
  }

  // MARK: Searching

  package func contains(_ part: String) -> Bool { range(of: part) != nil }

  /// The first place at or after `start` where `part` stands; nil when there is none, or when `part` is empty.
  package func range(of part: String, from start: String.Index? = nil) -> Range<String.Index>? {
    let (bytes, wanted) = (text.utf8, part.utf8)
    guard let first = wanted.first else { return nil }
    var rest = bytes[(start ?? bytes.startIndex)...]
    while let found = rest.firstIndex(of: first) {
      let here = bytes[found...]
      if here.starts(with: wanted) { return found..<bytes.index(found, offsetBy: wanted.count) }
      rest = here.dropFirst()
    }
    return nil
  }

  // MARK: Cutting

  /// What follows `prefix`; nil when the text does not begin with it.
  package func dropping(prefix: String) -> String? {
    hasPrefix(prefix) ? String(Substring(text.utf8.dropFirst(prefix.utf8.count))) : nil
  }

  /// What precedes `suffix`; nil when the text does not end with it.
  package func dropping(suffix: String) -> String? {
    hasSuffix(suffix) ? String(Substring(text.utf8.dropLast(suffix.utf8.count))) : nil
  }

  /// The pieces between ASCII separators, empty ones included.
  package func split(separator: Unicode.Scalar) -> [String] {
    precondition(separator.isASCII)
    return text.utf8.split(separator: UInt8(separator.value), omittingEmptySubsequences: false).map {
      String(Substring($0))
    }
  }

  /// What precedes the first of `ends`, ASCII characters; the whole text when it has none of them.
  package func prefix(before ends: Unicode.Scalar...) -> String {
    String(Substring(text.utf8.prefix { byte in !ends.contains { $0.value == UInt32(byte) } }))
  }

  /// At most the first `count` code points, for messages: a character that a reader sees may have any number of them.
  package func prefix(scalars count: Int) -> String {
    String(Substring(text.unicodeScalars.prefix(count)))
  }

  /// Every `part` replaced, from left to right, as Python's `str.replace` does.
  /// - Parameter part: not empty.
  package func replacing(_ part: String, with content: String) -> String {
    precondition(!part.isEmpty)
    var result = ""
    var done = text.startIndex
    while let found = range(of: part, from: done) {
      result += text[done..<found.lowerBound]
      result += content
      done = found.upperBound
    }
    return done == text.startIndex ? text : result + text[done...]
  }

  /// Without white space at both ends, as Python's `str.strip` does: code points, not what a reader sees as characters, since a
  /// space may carry a combining mark that belongs to the text.
  package var trimmed: String {
    let scalars = text.unicodeScalars
    guard let first = scalars.firstIndex(where: { !ByteText.isWhitespace($0) }),
      let last = scalars.lastIndex(where: { !ByteText.isWhitespace($0) })
    else { return "" }
    return String(scalars[first...last])
  }

  /// Whether all of it is white space.
  package var isBlank: Bool { text.unicodeScalars.allSatisfy(ByteText.isWhitespace) }

  /// Python's `str.isspace`: Unicode's White_Space and the four information separators.
  package static func isWhitespace(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value)
  }
}

extension String {
  /// The text as its bytes.
  package var bytes: ByteText { ByteText(self) }

  /// Whether both are the same sequence of bytes. `==` also takes canonically equivalent texts for equal.
  @inlinable package func hasSameBytes(as other: String) -> Bool {
    guard utf8.count == other.utf8.count else { return false }
    let isSame = utf8.withContiguousStorageIfAvailable { a in
      other.utf8.withContiguousStorageIfAvailable { b in
        a.isEmpty || memcmp(a.baseAddress!, b.baseAddress!, a.count) == 0
      }
    }
    return (isSame ?? nil) ?? utf8.elementsEqual(other.utf8)
  }
}

extension Substring {
  /// The text as its bytes.
  package var bytes: ByteText { ByteText(String(self)) }
}

extension String {
  /// A path without the slashes at its end; the root stays.
  package var withoutTrailingSlashes: String {
    var path = utf8[...]
    while path.count > 1 && path.last == UInt8(ascii: "/") { path = path.dropLast() }
    return String(Substring(path))
  }
}

extension Dictionary where Key == ByteText {
  @inlinable package subscript(key: String) -> Value? {
    get { self[ByteText(key)] }
    set { self[ByteText(key)] = newValue }
  }

  @inlinable package subscript(key: String, default usual: @autoclosure () -> Value) -> Value {
    get { self[ByteText(key), default: usual()] }
    set { self[ByteText(key)] = newValue }
  }
}

extension Set where Element == ByteText {
  @inlinable package func contains(_ text: String) -> Bool { contains(ByteText(text)) }
}
