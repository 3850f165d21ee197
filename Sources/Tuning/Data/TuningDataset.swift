import Calibration
import Files
import JSON
import Models
import Tokenization
import Training

/// The rows of a tuning: what is learned from, and what the loss is validated on.
package struct TuningDataset: Sendable {
  package let rows: TuningRows
  package let validationRows: TuningRows
  package let report: TuningDataReport
  /// How often the rows of each range come in an epoch.
  let shares: [TuningShare]
  let groupsByLength: Bool
  let seed: UInt64

  /// Rows made elsewhere, each once in an epoch.
  package init(
    rows: TuningRows, validationRows: TuningRows = TuningRows(), groupsByLength: Bool = false, seed: UInt64
  ) {
    self.rows = rows
    self.validationRows = validationRows
    report = TuningDataReport()
    shares = [TuningShare(rows: 0..<rows.count, weight: 1)]
    self.groupsByLength = groupsByLength
    self.seed = seed
  }

  init(
    rows: TuningRows, validationRows: TuningRows, report: TuningDataReport, shares: [TuningShare],
    groupsByLength: Bool, seed: UInt64
  ) {
    self.rows = rows
    self.validationRows = validationRows
    self.report = report
    self.shares = shares
    self.groupsByLength = groupsByLength
    self.seed = seed
  }

  /// SHA-256 of everything that the order and the content of batches depend on: rows, labels, weights of files, seed.
  package var digest: String {
    var text = "\(rows.digest) \(validationRows.digest) \(groupsByLength) \(seed)"
    for share in shares { text += " \(share.rows.lowerBound)..<\(share.rows.upperBound)*\(share.weight)" }
    return Array(text.utf8).withUnsafeBytes { Checksum.sha256($0) }
  }
}

/// Rows of one file.
struct TuningShare: Equatable, Sendable {
  var rows: Range<Int>
  /// How often they come in an epoch; positive and finite.
  var weight: Double
}
