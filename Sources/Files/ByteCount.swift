import Foundation

/// Numbers of bytes for people, in decimal units, as disks and networks count.
package enum ByteCount {
  package static func text(_ count: Int) -> String {
    func number(_ unit: Double, _ digits: Int) -> String {
      String(format: "%.\(digits)f", Double(count) / unit)
    }
    switch count {
    case 1_000_000_000...: return number(1e9, 2) + " GB"
    case 1_000_000...: return number(1e6, 1) + " MB"
    case 1000...: return number(1e3, 1) + " kB"
    default: return "\(count) bytes"
    }
  }
}
