import Files

/// What a command prints.
package enum Output {
  /// A result, on standard output.
  package static func print(_ text: String) throws(StandardStreamError) {
    try StandardStream.output.write(text + "\n")
  }

  /// A part of a result, without a line end.
  package static func stream(_ text: String) throws(StandardStreamError) {
    try StandardStream.output.write(text)
  }

  /// A remark for the person, on standard error. The work goes on when it cannot be written.
  package static func note(_ text: String) {
    ProgressReporter.clearCurrentLine()
    StandardStream.error.writeIfPossible(text + "\n")
  }

  /// A note that `--quiet` leaves out.
  package static func remark(_ text: String) {
    if !ProgressReporter.isSilent { note(text) }
  }

  package static func warn(_ text: String) { note("warning: \(text)") }
}
