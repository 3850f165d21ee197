/// What kind of failure an error is, and with it the exit code of the command that meets it.
///
/// The numbers are those of BSD's `sysexits.h`, which scripts already know how to read.
package enum FailureCategory: Sendable, Equatable {
  /// The command line makes no sense (`EX_USAGE`).
  case usage
  /// A file was read and its content is wrong (`EX_DATAERR`).
  case badInput
  /// A file that was named cannot be opened (`EX_NOINPUT`).
  case cannotOpenInput
  /// A defect of the toolchain itself (`EX_SOFTWARE`).
  case internalFault
  /// An output cannot be created or does not fit (`EX_CANTCREAT`).
  case cannotWrite
  /// The operating system failed a read or write under way (`EX_IOERR`).
  case inputOutput
  /// The person pressed Ctrl-C, or the process was told to stop.
  case interrupted

  package var exitCode: Int32 {
    switch self {
    case .usage: 64
    case .badInput: 65
    case .cannotOpenInput: 66
    case .internalFault: 70
    case .cannotWrite: 73
    case .inputOutput: 74
    case .interrupted: 130
    }
  }
}

/// An error that a command can print as it is: `description` says in one or two lines what is wrong, where
/// (file, tensor, byte), what was expected and found, and what to do.
package protocol DiagnosedError: Error, CustomStringConvertible {
  var category: FailureCategory { get }
}
