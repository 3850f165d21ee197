import Foundation
import TestSupport
import Testing

/// Every tool with standard streams that cannot be written. A result that cannot be printed gives exit code 74 and a message where
/// one can still be printed; what is only a log is left out, and the work goes on. A signal would show as a code above 1000.
@Suite struct StandardStreamTests {
  enum Work: String, CaseIterable, CustomTestStringConvertible {
    case convert, quantize, verify, tokenize, chat, bench
    var testDescription: String { rawValue }

    var tool: String { self == .tokenize ? "zhinao-verify" : "zhinao-\(rawValue)" }

    /// - Parameter output: the file that the tool makes, if it makes one.
    func arguments(output: String) -> [String] {
      let model = CommandTests.gqa
      switch self {
      case .convert: return [model, "-o", output]
      case .quantize:
        return [
          model, "--calibration", Fixture.tinyZhinao + "/calibration.jsonl", "--sequence-length", "64",
          "--samples", "4",
          "--group-size", "32", "-o", output,
        ]
      case .verify: return ["integrity", model]
      case .tokenize: return ["tokenize", model]
      case .chat: return [model, "--prompt", "a", "--max-new-tokens", "4"]
      case .bench: return ["tokenize", model, Fixture.tinyZhinao + "/eval.en.txt", "--repetitions", "1"]
      }
    }

    var makesFile: Bool { self == .convert || self == .quantize }

    func launch(
      _ folder: TemporaryFolder, output: LaunchedTool.Stream = .kept, errors: LaunchedTool.Stream = .kept
    ) throws -> LaunchedTool {
      let tool = try LaunchedTool(
        tool, arguments(output: folder.file("m.zhinao")), input: self == .tokenize ? .pipe : .empty,
        output: output,
        errors: errors)
      if self == .tokenize {
        tool.write("{\"text\": \"hello\"}\n")
        tool.closeInput()
      }
      return tool
    }

    func expectFile(_ folder: TemporaryFolder) throws {
      guard makesFile else { return }
      #expect(try Tool.run("zhinao-verify", ["integrity", folder.file("m.zhinao")]).code == 0)
    }
  }
  private static let failures: [LaunchedTool.Stream] = [.full, .closed, .broken]

  @Test(arguments: Work.allCases, failures)
  func resultsThatCannotBePrinted(work: Work, stream: LaunchedTool.Stream) throws {
    let folder = try TemporaryFolder()
    let tool = try work.launch(folder, output: stream)
    #expect(tool.end() == 74)
    #expect(tool.text(of: STDERR_FILENO).contains("error: standard output "))
    try work.expectFile(folder)
  }

  @Test(arguments: Work.allCases, failures)
  func logsThatCannotBeWritten(work: Work, stream: LaunchedTool.Stream) throws {
    let folder = try TemporaryFolder()
    let tool = try work.launch(folder, errors: stream)
    #expect(tool.end() == 0)
    #expect(!tool.text(of: STDOUT_FILENO).isEmpty)
    try work.expectFile(folder)
  }

  @Test(arguments: Work.allCases, failures)
  func bothStreamsFail(work: Work, stream: LaunchedTool.Stream) throws {
    let folder = try TemporaryFolder()
    #expect(try work.launch(folder, output: stream, errors: stream).end() == 74)
    try work.expectFile(folder)
  }

  @Test(arguments: ["convert", "quantize", "verify", "chat", "serve", "bench"], failures)
  func helpAndErrorsThatCannotBePrinted(name: String, stream: LaunchedTool.Stream) throws {
    #expect(try LaunchedTool("zhinao-\(name)", ["--help"], output: stream).end() == 74)
    #expect(try LaunchedTool("zhinao-\(name)", ["--help"], errors: stream).end() == 0)
    #expect(try LaunchedTool("zhinao-\(name)", ["--no-such-option"], output: stream).end() == 64)
    #expect(try LaunchedTool("zhinao-\(name)", ["--no-such-option"], errors: stream).end() == 64)
  }

  /// A file that is opened while standard error is closed must not become standard error.
  @Test func noFileTakesTheNumberOfAClosedStream() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("m.zhinao")
    for (input, output, errors) in [
      (LaunchedTool.Stream.closed, LaunchedTool.Stream.closed, LaunchedTool.Stream.closed),
      (.closed, .kept, .kept),
    ] {
      let tool = try LaunchedTool(
        "zhinao-convert", [CommandTests.gqa, "-o", path, "--overwrite"], input: input, output: output,
        errors: errors)
      #expect(tool.end() == (output == .closed ? 74 : 0))
      #expect(try Tool.run("zhinao-verify", ["integrity", path]).code == 0)
    }
    let chat = try LaunchedTool("zhinao-chat", [CommandTests.gqa], input: .closed)
    #expect(chat.end() == 64)
  }

  @Test func standardInputThatCannotBeRead() throws {
    for (tool, arguments) in [
      ("zhinao-chat", [CommandTests.gqa]), ("zhinao-verify", ["tokenize", CommandTests.gqa]),
    ] {
      let launched = try LaunchedTool(tool, arguments, input: .folder)
      #expect(launched.end() == 74)
      #expect(launched.text(of: STDERR_FILENO).contains("standard input cannot be read"))
    }
  }

  // MARK: A terminal that closes

  /// Conversion and quantization finish their file; then there is nobody to tell.
  @Test(arguments: Work.allCases)
  func theTerminalCloses(work: Work) throws {
    for _ in 0..<10 {
      let folder = try TemporaryFolder()
      let tool = try work.launch(folder, output: .terminal, errors: .terminal)
      // Once more when the tool was faster than this test.
      guard tool.stopWhenReady() else { continue }
      // Its system makes a stopped process go on when its terminal closes.
      tool.closeTerminal()
      #expect(tool.end() == 74)
      try work.expectFile(folder)
      return
    }
    Issue.record("the tool always ended before its terminal could be closed")
  }

  /// Results that go elsewhere are not lost with the terminal.
  @Test(arguments: Work.allCases)
  func theTerminalOfTheLogCloses(work: Work) throws {
    for _ in 0..<10 {
      let folder = try TemporaryFolder()
      let tool = try work.launch(folder, errors: .terminal)
      guard tool.stopWhenReady() else { continue }
      tool.closeTerminal()
      #expect(tool.end() == 0)
      #expect(!tool.text(of: STDOUT_FILENO).isEmpty)
      return
    }
    Issue.record("the tool always ended before its terminal could be closed")
  }

  @Test func theTerminalOfAConversationCloses() throws {
    let tool = try LaunchedTool(
      "zhinao-chat", [CommandTests.gqa, "--no-history"], input: .terminal, output: .terminal,
      errors: .terminal)
    // Bracketed paste is switched on at the prompt.
    #expect(tool.terminalShows("\u{1B}[?2004h"))
    tool.closeTerminal()
    #expect(tool.end() == 74)
  }

  // MARK: The server

  @Test(arguments: [LaunchedTool.Stream.full, .closed, .broken, .terminal])
  func theServerGoesOnWithoutItsLog(stream: LaunchedTool.Stream) throws {
    let port = try LoopbackPort.free()
    let tool = try LaunchedTool(
      "zhinao-serve", [CommandTests.gqa, "--port", "\(port)", "--log-requests", "--parallel", "1"],
      output: stream,
      errors: stream)
    #expect(LoopbackPort.answer(port: port, path: "/health", patience: 60).hasPrefix("HTTP/1.1 200"))
    tool.closeTerminal()
    for _ in 0..<3 {
      #expect(LoopbackPort.answer(port: port, path: "/health", patience: 10).hasPrefix("HTTP/1.1 200"))
    }
    kill(tool.process, SIGTERM)
    #expect(tool.end() == 0)
  }
}

/// A port of this machine.
enum LoopbackPort {
  private static func address(_ port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
  }

  private static func with<Result>(
    _ address: sockaddr_in, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
  ) -> Result {
    withUnsafePointer(to: address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
  }

  /// A port that nobody listened on a moment ago.
  static func free() throws -> UInt16 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(descriptor) }
    try #require(with(address(0)) { bind(descriptor, $0, $1) } == 0)
    var own = sockaddr_in()
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &own) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
    }
    try #require(status == 0)
    return UInt16(bigEndian: own.sin_port)
  }

  /// The answer to a GET request, asked again for `patience` seconds while nobody listens; empty when nobody ever does.
  static func answer(port: UInt16, path: String, patience: Int) -> String {
    for _ in 0..<patience * 20 {
      let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
      defer { close(descriptor) }
      guard with(address(port), { connect(descriptor, $0, $1) }) == 0 else {
        usleep(50_000)
        continue
      }
      let request = Array("GET \(path) HTTP/1.1\r\nHost: localhost:\(port)\r\nConnection: close\r\n\r\n".utf8)
      _ = write(descriptor, request, request.count)
      var all: [UInt8] = []
      var bytes = [UInt8](repeating: 0, count: 4096)
      while true {
        let count = read(descriptor, &bytes, bytes.count)
        if count <= 0 { break }
        all += bytes[..<count]
      }
      return String(decoding: all, as: UTF8.self)
    }
    return ""
  }
}
