/// What a template may use up. The defaults leave room for conversations of a million tokens, and keep a hostile
/// template below about two seconds and half a gigabyte.
package struct TemplateLimits: Equatable, Sendable {
  /// Bytes of a template's source.
  package var sourceBytes = 2 << 20
  /// Levels of nesting: of blocks and expressions in the source, of lists and dictionaries in values.
  package var nesting = 100
  /// Expressions and statements that may be under evaluation at once, calls of macros included.
  package var depth = 500
  /// Bytes of stack that compiling or rendering may use. Threads of servers have 512 KB.
  package var stackBytes = 256 << 10
  /// Steps of one rendering: one for each expression and statement, and one for each 32 bytes that are copied.
  package var steps = 20_000_000
  /// Bytes of one string.
  package var textBytes = 32 << 20
  /// Bytes of the rendered text.
  package var outputBytes = 32 << 20
  /// Items of one list, tuple or dictionary.
  package var listItems = 1_000_000
  /// Items of one `range`, the limit of Jinja2's sandbox.
  package var rangeItems = 100_000
  /// Bytes of all strings and lists made by one rendering.
  package var madeBytes = 512 << 20

  package init() {}
}

/// The distance between a place further up the stack and the caller of ``used()``.
struct StackGauge: Sendable {
  private let start: UInt

  init() { start = StackGauge.here() }

  /// Bytes of stack in use since this gauge was made on the same thread.
  @inline(__always) func used() -> Int {
    let here = StackGauge.here()
    return here > start ? Int(here - start) : Int(start - here)
  }

  @inline(__always) private static func here() -> UInt {
    var marker: UInt8 = 0
    return withUnsafeMutablePointer(to: &marker) { UInt(bitPattern: $0) }
  }
}
