import Files
import Tokenization

/// A text with a needle in it, built as the 360Zhinao project's scripts build it (`360k/niah/*.py`).
package struct NeedleContext: Equatable, Sendable {
  /// Ids of the text with the needle.
  package var ids: [Int]
  /// Where the needle begins, an index into `ids`.
  package var insertedAt: Int
  /// Ids that the needle was moved back to follow a period.
  package var movedBack: Int
  package var needleTokens: Int
  /// Ids of the text before the needle was put in, cut to the length.
  package var haystackTokens: Int
  /// What `ids` decode to.
  package var text: String
}

/// Builds the prompts of one kind of needle with one tokenizer.
///
/// The vendor's code lets a tokenizer add a beginning-of-text id to haystack, needle and periods; here none is added.
package struct NeedleBuilder: Sendable {
  /// Ids of the length that are left for the answer.
  package static let answerTokens = 200

  package let kind: NeedleKind
  private let tokenizer: any Tokenizer
  /// Ids after which a needle may stand.
  package let periods: Set<Int>
  private let haystack: String
  private let haystackIDs: [Int]

  /// - Parameters:
  ///   - texts: English ones are joined round after round until there are `longest` ids; Chinese ones are joined until there
  ///     are more, and never repeated.
  ///   - longest: of the lengths of the grid, in ids.
  /// - Throws: ``TaskError`` when the texts are too short for the longest length.
  package init(kind: NeedleKind, texts: [String], longest: Int, tokenizer: any Tokenizer, path: String) throws
  {
    self.kind = kind
    self.tokenizer = tokenizer
    periods = Set(tokenizer.encode(kind.periods))
    guard texts.contains(where: { !$0.isEmpty }) else { throw TaskError(.noText, path: path) }
    let counts = texts.map { tokenizer.encode($0).count }
    var text = ""
    // The sum of the pieces is nearly the count of the whole, which is then counted only where it may be enough.
    var estimate = 0
    func reaches(_ count: Int) -> Bool {
      estimate + estimate / 64 + 64 >= count && tokenizer.encode(text).count >= count
    }
    if kind.isChinese {
      for (next, count) in zip(texts, counts) {
        text += next
        estimate += count
        if reaches(longest + 1) { break }
      }
      let count = tokenizer.encode(text).count
      guard count >= longest - NeedleBuilder.answerTokens else {
        throw TaskError(
          .textTooShort(tokens: count, needed: longest - NeedleBuilder.answerTokens), path: path)
      }
    } else {
      while !reaches(longest) {
        for next in texts { text += next }
        estimate += max(1, counts.reduce(0, +))
      }
    }
    haystack = text
    haystackIDs = tokenizer.encode(text)
  }

  /// The text of one cell.
  /// - Parameters:
  ///   - length: ids of text, needle and answer together.
  ///   - depth: where the needle is, in percent of the text: 0 is its start.
  /// - Throws: ``TaskError`` when the needle alone does not fit: the vendor's code makes the text longer then.
  package func context(length: Int, depth: Int, value: NeedleValue) throws -> NeedleContext {
    let needle = tokenizer.encode(kind.needle(value))
    let budget = length - NeedleBuilder.answerTokens
    guard needle.count < budget else {
      throw TaskError(.needleTooLong(needle: needle.count, length: length), path: kind.taskName)
    }
    // Cut to the length, decoded and encoded again: the count may change a little.
    let trimmed =
      haystackIDs.count > length
      ? try tokenizer.decode(Array(haystackIDs[..<length]), skippingSpecials: false) : haystack
    var ids = haystackIDs.count > length ? tokenizer.encode(trimmed) : haystackIDs
    let haystackTokens = ids.count
    if ids.count + needle.count > budget { ids.removeLast(ids.count - (budget - needle.count)) }
    var place = depth == 100 ? ids.count : Int(Double(ids.count) * (Double(depth) / 100))
    let start = place
    if depth != 100 {
      while place > 0, !periods.contains(ids[place - 1]), kind.longestMove.map({ start - place < $0 }) ?? true
      {
        place -= 1
      }
    }
    ids.insert(contentsOf: needle, at: place)
    return NeedleContext(
      ids: ids, insertedAt: place, movedBack: start - place, needleTokens: needle.count,
      haystackTokens: haystackTokens,
      text: try tokenizer.decode(ids, skippingSpecials: false))
  }

  /// What the person says: the text, the question and the instruction.
  package func prompt(_ context: NeedleContext, value: NeedleValue) -> String {
    context.text + "\n\n" + kind.question(value) + " " + kind.instruction
  }
}

/// The lengths and depths of a test.
package struct NeedleGrid: Equatable, Sendable {
  /// Ids of text, needle and answer together.
  package var lengths: [Int]
  /// Percent.
  package var depths: [Int]

  package init(lengths: [Int], depths: [Int]) {
    self.lengths = lengths
    self.depths = depths
  }

  /// The vendor's grid: equal steps from the shortest to the longest, rounded.
  package static func evenly(_ range: ClosedRange<Int>, count: Int) -> [Int] {
    guard count > 1 else { return [range.upperBound] }
    return (0..<count).map { index in
      let exact = Double(range.lowerBound) + Double(range.count - 1) * Double(index) / Double(count - 1)
      return Int(exact.rounded(.toNearestOrEven))
    }
  }
}
