import CSignals
import Files
import Foundation

/// Progress on standard error: a bar with rate and remaining time on a terminal, a plain line now and then elsewhere.
package final class ProgressReporter {
  nonisolated(unsafe) package static var isSilent = false
  nonisolated(unsafe) private static var lineIsOpen = false {
    didSet { zn_signals_set_progress_line(lineIsOpen) }
  }

  private let label: String
  private let unit: String
  private let start = Date()
  private var lastShown = Date.distantPast
  private var share: Double?
  private var detail: String?
  private let isTerminal = StandardStream.error.isTerminal

  /// - Parameter unit: what is counted, in the plural: `windows`, `layers`; `bytes` is shown as MB.
  package init(_ label: String, unit: String) {
    self.label = label
    self.unit = unit
  }

  /// - Parameters:
  ///   - share: how much of the work of this process is done, from which the time left follows; nil: as much as `done` is of `total`.
  ///     Units that were done before, or that differ, make the two unequal.
  ///   - detail: what else is shown, before the time left.
  package func update(_ done: Int, of total: Int, share: Double? = nil, detail: String? = nil) {
    self.share = share
    self.detail = detail
    guard !ProgressReporter.isSilent, total > 0 else { return }
    let now = Date()
    if isTerminal {
      guard done >= total || now.timeIntervalSince(lastShown) > 0.1 else { return }
      lastShown = now
      let width = 24
      let filled = min(width, done * width / total)
      let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
      ProgressReporter.write("\r\u{1B}[K\(label) \(bar) \(status(done, total, now))")
      ProgressReporter.lineIsOpen = true
      if done >= total { ProgressReporter.clearCurrentLine() }
    } else {
      // Every five seconds at most, and nothing at all for what is done sooner.
      guard now.timeIntervalSince(max(lastShown, start)) > 5 || (done >= total && lastShown > start) else {
        return
      }
      lastShown = now
      ProgressReporter.write("\(label): \(status(done, total, now))\n")
    }
  }

  private func status(_ done: Int, _ total: Int, _ now: Date) -> String {
    let seconds = max(1e-6, now.timeIntervalSince(start))
    if let share { return status(done, total, share, seconds) }
    let rate = Double(done) / seconds
    let left = rate > 0 ? Double(total - done) / rate : 0
    let eta = done >= total ? "in \(Format.duration(seconds))" : "ETA \(Format.duration(left))"
    if unit == "bytes" {
      return "\(Format.bytes(done)) of \(Format.bytes(total)), \(Format.bytes(Int(rate)))/s, \(eta)"
    }
    return "\(done)/\(total) \(unit), \(Format.number(rate, digits: rate < 10 ? 2 : 0))/s, \(eta)"
  }

  private func status(_ done: Int, _ total: Int, _ share: Double, _ seconds: Double) -> String {
    let eta: String
    if done >= total {
      eta = "in \(Format.duration(seconds))"
    } else {
      eta = share > 0 ? "ETA \(Format.duration(seconds / share * max(0, 1 - share)))" : "ETA unknown"
    }
    return "\(done)/\(total) \(unit), \(detail.map { $0 + ", " } ?? "")\(eta)"
  }

  /// Removes a bar that is being shown, before something else is printed or the process ends.
  package static func clearCurrentLine() {
    guard lineIsOpen else { return }
    lineIsOpen = false
    write("\r\u{1B}[K")
  }

  private static func write(_ text: String) { StandardStream.error.writeIfPossible(text) }
}
