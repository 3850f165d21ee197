import Files
import Terminal

/// What a command prints. Of several ranks, only rank 0 prints.
package enum Output {
  /// A result, on standard output.
  package static func print(_ text: String) throws(StandardStreamError) {
    if RankSession.isSilent { return }
    try StandardStream.output.write(printable(text, on: .output) + "\n")
  }

  /// A part of a result, without a line end.
  package static func stream(_ text: String) throws(StandardStreamError) {
    try StandardStream.output.write(text)
  }

  /// A remark for the person, on standard error. The work goes on when it cannot be written.
  package static func note(_ text: String) {
    if RankSession.isSilent { return }
    ProgressReporter.clearCurrentLine()
    StandardStream.error.writeIfPossible(printable(text, on: .error) + "\n")
  }

  /// Names and texts of files that strangers made must not give commands to a terminal.
  private static func printable(_ text: String, on stream: StandardStream) -> String {
    stream.isTerminal ? PrintableText.sanitized(text) : text
  }

  /// A note that `--quiet` leaves out.
  package static func remark(_ text: String) {
    if !ProgressReporter.isSilent { note(text) }
  }

  package static func warn(_ text: String) { note("warning: \(text)") }

  /// Says where the files of a model disagree, and what was chosen.
  package static func warn(_ discrepancies: [Discrepancy]) {
    for discrepancy in discrepancies { warn(discrepancy.description) }
  }
}
