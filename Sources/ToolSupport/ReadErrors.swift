import Files
import Foundation

/// A mapped file that loses its bytes while it is used (truncated by another program, a disk or network that fails) gives
/// SIGBUS at the next touch. Here that becomes an error message, exit code 74, and no half-written output.
enum ReadErrors {
  nonisolated(unsafe) private static var pipe: [Int32] = [-1, -1]
  nonisolated(unsafe) private static var source: (any DispatchSourceRead)?

  static func install() {
    guard Foundation.pipe(&pipe) == 0 else { return }
    // The handler may run in the middle of anything, so it only hands the address on and stops its thread.
    var action = sigaction()
    #if os(Linux)
      action.__sigaction_handler.sa_sigaction = { _, info, _ in
        ReadErrors.report(info?.pointee._sifields._sigfault.si_addr)
      }
    #else
      action.__sigaction_u.__sa_sigaction = { _, info, _ in ReadErrors.report(info?.pointee.si_addr) }
    #endif
    action.sa_flags = SA_SIGINFO
    sigaction(SIGBUS, &action, nil)
    let source = DispatchSource.makeReadSource(
      fileDescriptor: pipe[0], queue: DispatchQueue(label: "read errors"))
    source.setEventHandler { ReadErrors.explain() }
    source.resume()
    self.source = source
  }

  private static func report(_ address: UnsafeMutableRawPointer?) {
    var value = UInt(bitPattern: address)
    _ = write(pipe[1], &value, MemoryLayout<UInt>.size)
    while true { pause() }
  }

  private static func explain() {
    var address: UInt = 0
    guard read(pipe[0], &address, MemoryLayout<UInt>.size) == MemoryLayout<UInt>.size else { return }
    guard let (path, offset) = MappedFile.location(ofAddress: address) else {
      // Not a file's memory: a fault of this program, to be seen as one.
      signal(SIGBUS, SIG_DFL)
      kill(getpid(), SIGBUS)
      return
    }
    ProgressReporter.clearCurrentLine()
    PendingOutputs.discardAll()
    let kept = Interruption.farewell.withLock { $0 }.flatMap { $0() }
    let message =
      "error: \(path): cannot be read at byte \(offset): it became shorter, or its disk failed, while in use\n"
      + (kept.map { $0 + "\n" } ?? "")
    FileHandle.standardError.write(Data(message.utf8))
    _exit(FailureCategory.inputOutput.exitCode)
  }
}
