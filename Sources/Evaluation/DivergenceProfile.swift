import Foundation
import JSON

/// Where in a text two models differ: by position, by kind of token, and the places where they differ most.
package struct DivergenceProfile: Equatable, Sendable {
  /// Tokens whose place in their window is in a range: how much of the text the models saw before them.
  package struct Position: Equatable, Sendable {
    /// Tokens of the window before the predicted one.
    package var context: ClosedRange<Int>
    package var sums: DivergenceSums
  }

  /// Consecutive scored tokens of the text. All slices have the same number of them, or one more.
  package struct Slice: Equatable, Sendable {
    /// Index of the first and the last of them in the text.
    package var tokens: ClosedRange<Int>
    package var sums: DivergenceSums
  }

  /// Tokens of one class.
  package struct Class: Equatable, Sendable {
    package var tokenClass: TokenClass
    package var sums: DivergenceSums
  }

  /// How much of the reference's `k` most likely tokens the candidate has among its own.
  package struct Overlap: Equatable, Sendable {
    package var k: Int
    /// Mean of |A ∩ B| / k over the scored tokens; of a vocabulary with fewer than k tokens, over all of it.
    package var mean: Double
  }

  package var overlaps: [Overlap]
  /// In rising order, those without a token left out.
  package var positions: [Position]
  /// In the order of the text, at most ``mostSlices``.
  package var slices: [Slice]
  /// Those that the text has, in the order of ``TokenClass``; nil without a tokenizer.
  package var classes: [Class]?
  /// The largest divergence first, equal ones in the order of the text.
  package var worst: [DivergentPosition]

  package static let overlapSizes = [1, 5, 10]
  package static let mostSlices = 64
  /// Shorter slices show the tokens more than the text.
  static let shortestSlice = 16
}

/// Sums over tokens of what two models predict.
package struct DivergenceSums: Equatable, Sendable {
  package private(set) var count = 0
  private var divergence = 0.0
  private var agreements = 0
  private var difference = 0.0
  private var reference = 0.0
  private var candidate = 0.0

  package init() {}

  /// KL(reference ‖ candidate) per token, in nats.
  package var meanKL: Double { divergence / Double(count) }
  /// Share of tokens where both put the same token first.
  package var top1Agreement: Double { Double(agreements) / Double(count) }
  /// Mean of |log p(reference) − log p(candidate)| of the text's own token, in nats.
  package var meanAbsoluteDifference: Double { difference / Double(count) }
  package var referencePerplexity: Double { exp(reference / Double(count)) }
  package var candidatePerplexity: Double { exp(candidate / Double(count)) }

  mutating func add(_ rows: RowComparison, _ row: Int) {
    count += 1
    divergence += rows.divergences[row]
    if rows.agrees(row) { agreements += 1 }
    let (a, b) = (rows.losses.reference[row], rows.losses.candidate[row])
    difference += abs(a - b)
    reference += a
    candidate += b
  }

  /// The sums over the tokens of both.
  package mutating func merge(_ other: DivergenceSums) {
    count += other.count
    divergence += other.divergence
    agreements += other.agreements
    difference += other.difference
    reference += other.reference
    candidate += other.candidate
  }
}

/// A token that two models predict very differently.
package struct DivergentPosition: Equatable, Sendable {
  package struct Token: Equatable, Sendable {
    package var id: Int
    /// With visible control characters; nil without a tokenizer, and for an id that no token has.
    package var text: String?
    package var probability: Double
  }

  /// The text's own token with the probability that each model gives it.
  package struct Target: Equatable, Sendable {
    package var id: Int
    /// As of ``Token``.
    package var text: String?
    package var reference: Double
    package var candidate: Double
  }

  /// Index in the text of the predicted token.
  package var index: Int
  /// The window it was predicted in, from 0 on, and how many tokens of that window stand before it.
  package var window: Int
  package var position: Int
  package var divergence: Double
  /// The last tokens of the window before it, at most ``contextLength``.
  package var contextIDs: [Int]
  /// Their text with visible control characters, perhaps shortened at its start; nil without a tokenizer.
  package var context: String?
  /// The text's own token.
  package var target: Target
  /// The three tokens that each model finds most likely.
  package var reference: [Token]
  package var candidate: [Token]

  static let contextLength = 12
  static let predictions = 3
}

/// Collects a ``DivergenceProfile`` as the rows come, in the order of the text.
struct ProfileBuilder {
  private let ids: [Int]
  private var texts: TokenTexts?
  private let scored: Int
  private let mostWorst: Int
  private let longest: Int

  private var done = 0
  private var overlaps: [Double]
  private var positions: [DivergenceSums]
  private var slices: [DivergenceProfile.Slice] = []
  private var classes: [TokenClass: DivergenceSums] = [:]
  private var worst: [DivergentPosition] = []
  private(set) var agreements = 0

  init(ids: [Int], windows: [WindowProtocol.Window], texts: TokenTexts?, worst: Int) {
    self.ids = ids
    self.texts = texts
    scored = windows.reduce(0) { $0 + $1.scoredCount }
    longest = windows.reduce(0) { max($0, $1.range.count) }
    mostWorst = worst
    overlaps = DivergenceProfile.overlapSizes.map { _ in 0 }
    positions = []
  }

  /// - Parameters:
  ///   - firstToken: index in the text of the first row's target.
  ///   - number: of the window.
  mutating func add(_ rows: RowComparison, firstToken: Int, window: WindowProtocol.Window, number: Int) {
    for row in 0..<rows.rows {
      let token = firstToken + row
      if rows.agrees(row) { agreements += 1 }
      for (index, size) in DivergenceProfile.overlapSizes.enumerated() {
        let k = min(size, rows.found)
        overlaps[index] += Double(rows.common(row, k)) / Double(k)
      }
      let position = token - window.range.lowerBound
      let bucket = ProfileBuilder.bucket(of: position)
      while positions.count <= bucket { positions.append(DivergenceSums()) }
      positions[bucket].add(rows, row)
      addToSlice(rows, row, token: token)
      let (target, previous) = (ids[token], ids[token - 1])
      if let tokenClass = texts?.tokenClass(of: target, after: previous) {
        classes[tokenClass, default: DivergenceSums()].add(rows, row)
      }
      keepIfWorst(rows, row, token: token, window: window, number: number)
      done += 1
    }
  }

  func finished() -> DivergenceProfile {
    DivergenceProfile(
      overlaps: zip(DivergenceProfile.overlapSizes, overlaps).map { .init(k: $0, mean: $1 / Double(done)) },
      positions: positions.enumerated().compactMap { bucket, sums in
        let range = ProfileBuilder.positions(of: bucket)
        return sums.count == 0
          ? nil : .init(context: range.lowerBound...min(range.upperBound, longest - 1), sums: sums)
      },
      slices: slices,
      classes: texts.map { _ in
        TokenClass.allCases.compactMap { name in classes[name].map { .init(tokenClass: name, sums: $0) } }
      },
      worst: worst)
  }

  // MARK: Positions in the window: 1 to 15, then 16 to 63 and on by powers of four

  static func bucket(of position: Int) -> Int {
    position < 16 ? 0 : (Int.bitWidth - position.leadingZeroBitCount - 3) / 2
  }

  static func positions(of bucket: Int) -> ClosedRange<Int> {
    bucket == 0 ? 1...15 : 4 << (2 * bucket)...(16 << (2 * bucket)) - 1
  }

  // MARK: Slices of the text

  private mutating func addToSlice(_ rows: RowComparison, _ row: Int, token: Int) {
    let count = min(DivergenceProfile.mostSlices, max(1, scored / DivergenceProfile.shortestSlice))
    // The slice that begins with this token, if one does.
    if slices.count < count && done >= scored * slices.count / count {
      slices.append(.init(tokens: token...token, sums: DivergenceSums()))
    }
    let last = slices.count - 1
    slices[last].tokens = slices[last].tokens.lowerBound...token
    slices[last].sums.add(rows, row)
  }

  // MARK: The worst positions

  private mutating func keepIfWorst(
    _ rows: RowComparison, _ row: Int, token: Int, window: WindowProtocol.Window, number: Int
  ) {
    let divergence = rows.divergences[row]
    if worst.count == mostWorst {
      guard let last = worst.last, divergence > last.divergence else { return }
      worst.removeLast()
    }
    var (low, high) = (0, worst.count)
    while low < high {
      let middle = (low + high) / 2
      if worst[middle].divergence >= divergence { low = middle + 1 } else { high = middle }
    }
    let context = ids[max(window.range.lowerBound, token - DivergentPosition.contextLength)..<token]
    let places = 0..<min(DivergentPosition.predictions, rows.found)
    let found = DivergentPosition(
      index: token, window: number, position: token - window.range.lowerBound, divergence: divergence,
      contextIDs: Array(context), context: texts?.text(of: context),
      target: .init(
        id: ids[token], text: texts?.text(of: ids[token]), reference: exp(-rows.losses.reference[row]),
        candidate: exp(-rows.losses.candidate[row])),
      reference: places.map { named(rows.top.reference.token(row, $0)) },
      candidate: places.map { named(rows.top.candidate.token(row, $0)) })
    worst.insert(found, at: low)
  }

  private func named(_ token: (id: Int, probability: Double)) -> DivergentPosition.Token {
    .init(id: token.id, text: texts?.text(of: token.id), probability: token.probability)
  }
}

// MARK: JSON

extension DivergenceProfile {
  /// Members of the JSON output of a comparison.
  var json: [(String, JSONValue)] {
    [
      ("top_k_overlap", .object(JSONObject(overlaps.map { ("\($0.k)", .init($0.mean)) }))),
      (
        "by_position",
        .array(
          positions.map { row in
            row.sums.json(after: [
              ("from", .init(row.context.lowerBound)), ("to", .init(row.context.upperBound)),
            ])
          })
      ),
      (
        "along_text",
        .array(
          slices.map { row in
            row.sums.json(after: [
              ("first_token", .init(row.tokens.lowerBound)), ("last_token", .init(row.tokens.upperBound)),
            ])
          })
      ),
      (
        "by_token_class",
        classes.map { rows in
          .array(rows.map { $0.sums.json(after: [("class", .string($0.tokenClass.rawValue))]) })
        } ?? .null
      ),
      ("worst_positions", .array(worst.map(\.json))),
    ]
  }
}

extension DivergenceSums {
  fileprivate func json(after names: [(String, JSONValue)]) -> JSONValue {
    .object(
      JSONObject(
        names + [
          ("tokens", .init(count)), ("mean_kl", .init(meanKL)), ("top1_agreement", .init(top1Agreement)),
          ("mean_absolute_log_probability_difference", .init(meanAbsoluteDifference)),
          ("reference_perplexity", .init(referencePerplexity)),
          ("candidate_perplexity", .init(candidatePerplexity)),
        ]))
  }
}

extension DivergentPosition {
  fileprivate var json: JSONValue {
    [
      "token_index": .init(index), "window_index": .init(window), "position": .init(position),
      "kl": .init(divergence), "context_ids": .array(contextIDs.map { .init($0) }),
      "context": context.map { .string($0) } ?? .null,
      "target": [
        "id": .init(target.id), "text": target.text.map { .string($0) } ?? .null,
        "reference_probability": .init(target.reference),
        "candidate_probability": .init(target.candidate),
      ],
      "reference_top": .array(reference.map(\.json)), "candidate_top": .array(candidate.map(\.json)),
    ]
  }
}

extension DivergentPosition.Token {
  fileprivate var json: JSONValue {
    ["id": .init(id), "text": text.map { .string($0) } ?? .null, "probability": .init(probability)]
  }
}
