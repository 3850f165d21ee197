import Foundation

/// A calibration file and its weight in a mixture.
package struct CalibrationFile: Equatable, Sendable {
  package var path: String
  /// The file's part of the windows, relative to the weights of the other files; positive and finite. Nil: none was given, which
  /// counts as 1 if another file has a weight.
  package var weight: Double?

  package init(_ path: String, weight: Double? = nil) {
    self.path = path
    self.weight = weight
  }

  /// A weight that is no positive number.
  package struct InvalidWeight: Error, Equatable, CustomStringConvertible {
    package var text: String

    package var description: String {
      "the weight \(text) is not a positive number; write FILE or FILE:WEIGHT, for example data.jsonl:3"
    }
  }

  /// Reads `FILE` or `FILE:WEIGHT`. A file or folder that exists under the whole name is that file.
  /// - Throws: ``InvalidWeight`` if what follows the last colon is a number that is no weight, or follows the name of a file that exists.
  package init(argument: String) throws(InvalidWeight) {
    let manager = FileManager.default
    guard !manager.fileExists(atPath: argument), let colon = argument.utf8.lastIndex(of: UInt8(ascii: ":"))
    else {
      self.init(argument)
      return
    }
    let path = String(argument[..<colon])
    let text = String(argument[argument.utf8.index(after: colon)...])
    let weight = Double(text)
    if let weight, weight > 0, weight.isFinite, !path.isEmpty {
      self.init(path, weight: weight)
    } else if weight != nil || manager.fileExists(atPath: path) {
      throw InvalidWeight(text: text)
    } else {
      // A name with a colon; whoever reads it says that it does not exist.
      self.init(argument)
    }
  }
}

/// How many windows each file of a mixture gives.
enum CalibrationShares {
  /// The method of the largest remainder (Hamilton): the numbers add up to `count`, and each differs from its exact share by less
  /// than 1. Of equal remainders, the first counts.
  /// - Parameter weights: positive and finite, at least one.
  static func shares(of count: Int, weights: [Double]) -> [Int] {
    // More windows than any text has; the products below then keep their fractions.
    let count = min(count, 1 << 40)
    // Relative to the largest, so that no sum overflows.
    let largest = weights.max() ?? 1
    let relative = weights.map { $0 / largest }
    let sum = relative.reduce(0, +)
    let exact = relative.map { Double(count) * ($0 / sum) }
    var shares = exact.map { Int($0.rounded(.down)) }
    let order = exact.indices.sorted { a, b in
      let (x, y) = (exact[a] - exact[a].rounded(.down), exact[b] - exact[b].rounded(.down))
      return x == y ? a < b : x > y
    }
    for index in order.prefix(max(0, count - shares.reduce(0, +))) { shares[index] += 1 }
    return shares
  }

  /// As ``shares(of:weights:)``, but no file gives more than it has: it then gives all, and what it lacks is shared among the others.
  static func shares(of count: Int, weights: [Double], available: [Int]) -> [Int] {
    var given = [Int](repeating: 0, count: weights.count)
    var open = Array(weights.indices)
    var left = min(count, available.reduce(0, +))
    while !open.isEmpty {
      let wanted = shares(of: left, weights: open.map { weights[$0] })
      let short = zip(open, wanted).filter { available[$0] < $1 }.map(\.0)
      if short.isEmpty {
        for (index, share) in zip(open, wanted) { given[index] = share }
        break
      }
      for index in short {
        given[index] = available[index]
        left -= available[index]
      }
      open.removeAll { short.contains($0) }
    }
    return given
  }
}
