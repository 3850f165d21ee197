/// What a person did at the keyboard.
package enum Key: Equatable, Sendable {
  /// Characters typed.
  case text(String)
  /// Text between the marks of a bracketed paste, line ends and all.
  case paste(String)
  case enter
  case backspace
  case delete
  case left
  case right
  case up
  case down
  case home
  case end
  /// With Ctrl or Alt.
  case wordLeft
  case wordRight
  /// Alt or Shift with Enter: a line end within the text.
  case newline
  /// Ctrl and a letter, in lower case, or one of `@[\]^_`.
  case control(Character)
  /// Alt and an ASCII character.
  case alt(Character)
  /// Alt and Backspace.
  case altBackspace
}
