import Evaluation
import ToolSupport

/// A ``DivergenceProfile`` for people.
extension DivergenceProfile {
  /// Rows of the summary. That of k = 1 is the top-1 agreement.
  var overlapRows: [[String]] {
    overlaps.filter { $0.k > 1 }.map {
      ["top-\($0.k) overlap", Format.number($0.mean * 100, digits: 2) + " %"]
    }
  }

  var tables: [String] {
    var tables = [
      table("context, in tokens", positions.map { (range($0.context), $0.sums) }),
      table("tokens of the text", coarseSlices.map { (range($0.tokens), $0.sums) }),
    ]
    if let classes { tables.append(table("kind of token", classes.map { ($0.tokenClass.name, $0.sums) })) }
    if !worst.isEmpty {
      tables.append(
        "the largest divergences\n"
          + worst.enumerated().map { $1.text(number: $0 + 1) }.joined(separator: "\n"))
    }
    return tables
  }

  /// At most eight, each of several slices of the JSON output.
  private var coarseSlices: [Slice] {
    let size = (slices.count + 7) / 8
    return stride(from: 0, to: slices.count, by: size).map { start in
      slices[start..<min(start + size, slices.count)].dropFirst().reduce(into: slices[start]) { all, slice in
        all.tokens = all.tokens.lowerBound...slice.tokens.upperBound
        all.sums.merge(slice.sums)
      }
    }
  }

  private func range(_ range: ClosedRange<Int>) -> String { "\(range.lowerBound)–\(range.upperBound)" }

  private func table(_ title: String, _ rows: [(name: String, sums: DivergenceSums)]) -> String {
    Format.table(
      [[title, "tokens", "mean KL", "top-1", "|Δ log p|", "perplexity: reference", "candidate"]]
        + rows.map { name, sums in
          [
            name, "\(sums.count)", Format.number(sums.meanKL, digits: 5),
            Format.number(sums.top1Agreement * 100, digits: 1) + " %",
            Format.number(sums.meanAbsoluteDifference, digits: 4),
            Format.number(sums.referencePerplexity, digits: 3),
            Format.number(sums.candidatePerplexity, digits: 3),
          ]
        })
  }
}

extension TokenClass {
  fileprivate var name: String {
    switch self {
    case .latinWordStart: "Latin, start of a word"
    case .latinContinuation: "Latin, rest of a word"
    case .ideographs: "CJK ideographs"
    case .digits: "digits"
    case .punctuation: "punctuation, symbols"
    case .whitespace: "white space"
    case .special: "special tokens"
    case .partialCharacter: "part of a character"
    case .other: "other"
    }
  }
}

extension DivergentPosition {
  fileprivate func text(number: Int) -> String {
    let place =
      "KL \(Format.number(divergence, digits: 4)) at token \(index) (window \(window), position \(position))"
    let told = DivergentPosition.name(target.text, target.id)
    return """
      \(number). \(place)
         text       \(context.map { $0 + " ▸ " } ?? "")\(told)
         reference  \(DivergentPosition.list(reference)); the text's \(DivergentPosition.percent(target.reference))
         candidate  \(DivergentPosition.list(candidate)); the text's \(DivergentPosition.percent(target.candidate))
      """
  }

  private static func list(_ tokens: [Token]) -> String {
    tokens.map { "\(name($0.text, $0.id)) \(percent($0.probability))" }.joined(separator: ", ")
  }

  private static func name(_ text: String?, _ id: Int) -> String { text.map { "‘\($0)’" } ?? "id \(id)" }

  private static func percent(_ probability: Double) -> String {
    let percent = probability * 100
    return percent > 0 && percent < 0.01 ? "< 0.01 %" : Format.number(percent, digits: 2) + " %"
  }
}
