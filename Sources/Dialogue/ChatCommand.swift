import Files

/// What a line typed at the prompt asks for.
package enum ChatCommand: Equatable, Sendable {
  /// Text for the model.
  case message(String)
  /// Nothing was typed.
  case nothing
  case clear
  case stream
  case edit
  case exit
  case help
  case stats
  case regenerate
  /// Nil: show it. Empty: back to the template's own.
  case system(String?)
  case save(String)
  case load(String)
  /// A command without what it needs.
  case incomplete(String)
  /// Starts with a slash, but is no command.
  case unknown(String)

  /// The words of the 360Zhinao demo stand alone; everything else starts with a slash. Two slashes: text that starts
  /// with one.
  ///
  /// A line is read by Unicode scalars: a combining mark behind a slash or a space does not hide it.
  package init(_ line: String) {
    let trimmed = line.bytes.trimmed
    switch trimmed {
    case "": self = .nothing
    case "clear": self = .clear
    case "stream": self = .stream
    case "vim": self = .edit
    case "exit": self = .exit
    case _ where trimmed.bytes.hasPrefix("//"): self = .message(String(Substring(trimmed.utf8.dropFirst())))
    case _ where trimmed.bytes.hasPrefix("/"): self = ChatCommand(slash: trimmed)
    default: self = .message(line)
    }
  }

  private init(slash line: String) {
    let name = String(line.unicodeScalars.prefix { !ByteText.isWhitespace($0) })
    let rest = line.bytes.dropping(prefix: name)?.bytes.trimmed ?? ""
    let argument = rest.isEmpty ? nil : rest
    switch name {
    case "/clear": self = .clear
    case "/stream": self = .stream
    case "/edit", "/vim": self = .edit
    case "/exit", "/quit": self = .exit
    case "/help", "/?": self = .help
    case "/stats": self = .stats
    case "/regenerate": self = .regenerate
    case "/system": self = .system(argument == "-" ? "" : argument)
    case "/save": self = argument.map { .save($0) } ?? .incomplete("/save")
    case "/load": self = argument.map { .load($0) } ?? .incomplete("/load")
    default: self = .unknown(name)
    }
  }
}
