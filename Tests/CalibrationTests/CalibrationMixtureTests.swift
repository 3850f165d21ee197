import Files
import Foundation
import TestSupport
import Testing
import Tokenization

@testable import Calibration

/// Weights of calibration files.
@Suite struct CalibrationMixtureTests {
  /// Writes files of `counts` windows, each `[file, number]`, and loads them with the weights.
  private static func load(_ counts: [Int], weights: [Double?], samples: Int, seed: UInt64 = 0) throws
    -> CalibrationSet
  {
    let folder = try TemporaryFolder()
    let files = try counts.indices.map { file in
      let lines = (0..<counts[file]).map { "{\"input_ids\": [\(file), \($0)]}\n" }
      try AtomicFile.write(lines.joined(), to: folder.file("\(file).jsonl"))
      return CalibrationFile(folder.file("\(file).jsonl"), weight: weights[file])
    }
    return try CalibrationSet.load(
      files: files, tokenizer: #require(CalibrationTests.tokenizer), template: nil, vocabularySize: 3072,
      options: CalibrationOptions(samples: samples, seed: seed))
  }

  private static func counts(_ set: CalibrationSet) -> [Int] { set.report.sources.map(\.windowsUsed) }

  @Test func windowsAreInProportionToTheWeights() throws {
    let set = try Self.load([100, 100], weights: [3, 1], samples: 32)
    #expect(Self.counts(set) == [24, 8])
    #expect(set.windows.map { $0[0] } == Array(repeating: 0, count: 24) + Array(repeating: 1, count: 8))
    // Within a file, the order of the file; none twice.
    for part in [set.windows.prefix(24), set.windows.suffix(8)] {
      #expect(zip(part, part.dropFirst()).allSatisfy { $0[1] < $1[1] })
    }
    #expect(
      set.report.sources.map(\.weight) == [3, 1] && set.report.sources.map(\.windowsWanted) == [24, 8])
    let json = set.report.json.arrayValue?.first
    #expect(json?["weight"]?.doubleValue == 3 && json?["windows_wanted"]?.intValue == 24)
    let again = try Self.load([100, 100], weights: [3, 1], samples: 32)
    let other = try Self.load([100, 100], weights: [3, 1], samples: 32, seed: 1)
    #expect(again.digest == set.digest && other.digest != set.digest && Self.counts(other) == [24, 8])
  }

  @Test func aFileWithoutAWeightCountsAsOne() throws {
    #expect(Self.counts(try Self.load([50, 50], weights: [nil, 4], samples: 10)) == [2, 8])
    #expect(Self.counts(try Self.load([50, 50], weights: [1e300, 1e300], samples: 10)) == [5, 5])
    #expect(Self.counts(try Self.load([50, 50], weights: [1e-300, 1e300], samples: 10)) == [0, 10])
  }

  @Test func aFileWithTooFewWindowsGivesAll() throws {
    let set = try Self.load([100, 5, 100], weights: [1, 2, 1], samples: 40)
    #expect(Self.counts(set) == [18, 5, 17] && set.report.sources.map(\.windowsWanted) == [10, 20, 10])
    // All windows when there are no more.
    #expect(Self.counts(try Self.load([3, 4], weights: [3, 1], samples: 128)) == [3, 4])
  }

  /// What runs did before there were weights.
  @Test func withoutWeightsAllWindowsAreChosenFromTogether() throws {
    let set = try Self.load([6, 6], weights: [nil, nil], samples: 4, seed: 3)
    let generated = {
      var generator = SeededGenerator(seed: 3)
      var order = Array(0..<12)
      for i in 0..<4 { order.swapAt(i, i + Int(generator.next(below: UInt64(12 - i)))) }
      return order.prefix(4).sorted().map { [$0 / 6, $0 % 6] }
    }()
    #expect(set.windows == generated && set.report.sources.allSatisfy { $0.weight == nil })
    #expect(set.report.json.arrayValue?.allSatisfy { $0["weight"] == nil } == true)
    // A weight on the only file changes nothing.
    #expect(
      try Self.load([9], weights: [2], samples: 4).digest == Self.load([9], weights: [nil], samples: 4).digest
    )
  }

  @Test func sharesAreThoseOfTheLargestRemainder() {
    #expect(CalibrationShares.shares(of: 128, weights: [3, 1]) == [96, 32])
    #expect(CalibrationShares.shares(of: 10, weights: [1, 1, 1]) == [4, 3, 3])
    #expect(CalibrationShares.shares(of: 3, weights: [0.1, 0.2]) == [1, 2])
    #expect(CalibrationShares.shares(of: 1, weights: [1, 2]) == [0, 1])
    #expect(CalibrationShares.shares(of: 0, weights: [1, 2]) == [0, 0])
    #expect(CalibrationShares.shares(of: .max, weights: [1, 1], available: [3, 4]) == [3, 4])
    #expect(CalibrationShares.shares(of: .max, weights: [1, 3]).allSatisfy { $0 > 0 })
    for count in 0..<200 {
      let weights = [0.3, 7, 1.25, 1.0 / 3]
      let shares = CalibrationShares.shares(of: count, weights: weights)
      #expect(shares.reduce(0, +) == count)
      for (share, weight) in zip(shares, weights) {
        #expect(abs(Double(share) - Double(count) * weight / weights.reduce(0, +)) < 1)
      }
      let limited = CalibrationShares.shares(of: count, weights: weights, available: [9, 9, 9, 9])
      #expect(limited.reduce(0, +) == min(count, 36) && limited.allSatisfy { $0 <= 9 })
    }
  }

  @Test func argumentsAreReadAsFilesWithWeights() throws {
    let folder = try TemporaryFolder()
    let file = folder.file("a.txt")
    try AtomicFile.write("text", to: file)
    try AtomicFile.write("text", to: file + ":3")
    #expect(try CalibrationFile(argument: file) == CalibrationFile(file))
    #expect(try CalibrationFile(argument: file + ":2") == CalibrationFile(file, weight: 2))
    #expect(try CalibrationFile(argument: file + ":0.5") == CalibrationFile(file, weight: 0.5))
    // A file of this name exists.
    #expect(try CalibrationFile(argument: file + ":3") == CalibrationFile(file + ":3"))
    #expect(try CalibrationFile(argument: file + ":3:2") == CalibrationFile(file + ":3", weight: 2))
    // No weight, so that the file's absence is what is said.
    #expect(try CalibrationFile(argument: "a:b.txt") == CalibrationFile("a:b.txt"))
    for text in ["0", "-1", "nan", "inf", "1e999", "", "x"] {
      #expect(throws: CalibrationFile.InvalidWeight(text: text)) {
        _ = try CalibrationFile(argument: "\(file):\(text)")
      }
    }
    #expect(throws: CalibrationFile.InvalidWeight.self) { _ = try CalibrationFile(argument: "absent.txt:0") }
  }
}
