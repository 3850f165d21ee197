import Files
import JSON
import Templates
import Tokenization
import Training

/// Conversations as a chat template writes them, with the places of the answers.
///
/// An answer is what the template writes more when it is told of the answer than when it is asked to open one. What stands before
/// an answer is encoded for itself, as a chat does that asks for it; so is the answer, as what the model goes on with. Tokenizers that mark the
/// start of texts encode the whole, and an answer begins where its ids part from those of what stands before it.
struct TemplateConversation {
  let template: ChatTemplate
  let tokenizer: any Tokenizer
  let contents: SpecialTokens
  /// Tokens that end an answer; what the template writes after the last of them is no part of it.
  let stopTokens: Set<Int>
  let clock: TemplateClock

  struct Made {
    /// The whole conversation, uncut.
    var row: TrainingRow
    /// Whether every answer ends with a token that ends answers.
    var endsAnswers = true
    /// Whether the template opens answers, as a chat does that asks for one, with what it writes before them.
    var opensAnswersAlike = true
  }

  /// - Parameter maximum: answers that begin behind as many tokens are not looked for.
  /// - Throws: ``ChatTemplateError``; ``TuningDataError/Reason-swift.enum/noPrefixes(place:template:)``.
  func row(
    of conversation: ConversationRecord, part: TrainedPart, maximum: Int, path: String, place: String
  ) throws -> Made {
    let full = try template.rendering(of: prompt(conversation))
    if part == .all {
      let ids = template.encode(full.segments, tokenizer: tokenizer, contents: contents)
      return Made(row: TrainingRow(tokens: ids, labels: ids))
    }
    let text = Array(full.segments.map(\.text).joined().utf8)
    var cutter = SegmentCutter(full.segments)
    var borders: Set<Int> = []
    var length = 0
    for segment in full.segments {
      borders.insert(length)
      length += segment.text.utf8.count
    }
    var row = TrainingRow(tokens: [], labels: [])
    var made = Made(row: row)
    // Where a tokenizer marks the start of texts, an answer that is encoded for itself would begin with a mark that no model writes.
    let whole =
      tokenizer.marksTextStart
      ? template.encode(full.segments, tokenizer: tokenizer, contents: contents) : nil
    func add(upTo end: Int, counted: Bool) {
      let ids: [Int]
      if let whole {
        _ = cutter.take(upTo: end)
        let count = end == text.count ? whole.count : tokens(of: full.segments, upTo: end, in: whole)
        ids = Array(whole[row.tokens.count..<max(row.tokens.count, count)])
      } else {
        ids = template.encode(
          cutter.take(upTo: end), tokenizer: tokenizer, contents: contents, continuing: !row.tokens.isEmpty)
      }
      let last = counted ? ids.lastIndex { stopTokens.contains($0) } : nil
      if counted && last == nil && !ids.isEmpty { made.endsAnswers = false }
      row.labels += ids.enumerated().map { counted && $0.offset <= last ?? ids.count ? $0.element : nil }
      row.tokens += ids
    }
    let answers = learned(conversation, part)
    if let ranges = marked(full.generationRanges, conversation, part, answers) {
      for range in ranges {
        add(upTo: range.lowerBound, counted: false)
        add(upTo: range.upperBound, counted: true)
      }
    } else {
      for answer in answers where row.tokens.count < maximum {
        guard let (range, isAlike) = try range(of: answer, conversation, in: text, borders: borders),
          range.lowerBound >= cutter.position
        else {
          throw TuningDataError(
            .noPrefixes(place: place, template: template.label(of: prompt(conversation))), path: path)
        }
        if !isAlike { made.opensAnswersAlike = false }
        add(upTo: range.lowerBound, counted: false)
        if row.tokens.count < maximum { add(upTo: range.upperBound, counted: true) }
      }
    }
    add(upTo: text.count, counted: false)
    made.row = row
    return made
  }

  /// How many of the whole text's ids its start also begins with.
  private func tokens(of segments: [TemplateSegment], upTo end: Int, in whole: [Int]) -> Int {
    var cutter = SegmentCutter(segments)
    let ids = template.encode(cutter.take(upTo: end), tokenizer: tokenizer, contents: contents)
    return zip(ids, whole).prefix { $0 == $1 }.count
  }

  /// Places of the answers that count.
  private func learned(_ conversation: ConversationRecord, _ part: TrainedPart) -> [Int] {
    let answers = conversation.answers
    return (part == .last ? answers.suffix(1) : answers).filter(conversation.learns)
  }

  /// The template's own marks of the answers, if it has them and it is known which answer each is of.
  private func marked(
    _ ranges: [Range<Int>], _ conversation: ConversationRecord, _ part: TrainedPart, _ learned: [Int]
  ) -> [Range<Int>]? {
    guard !ranges.isEmpty else { return nil }
    let answers = conversation.answers
    if ranges.count == answers.count {
      return zip(answers, ranges).filter { learned.contains($0.0) }.map(\.1)
    }
    return learned.count == answers.count ? ranges : nil
  }

  /// Bytes of an answer in the text of the whole conversation, and whether the template opens an answer as it writes one; nil when it
  /// writes less of the conversation otherwise.
  ///
  /// A template that opens an answer otherwise, for example with a thought, may part from the text where the answer's own words begin.
  /// - Parameter borders: where parts of the text begin that are the template's or the conversation's.
  private func range(
    of answer: Int, _ conversation: ConversationRecord, in text: [UInt8], borders: Set<Int>
  ) throws -> (range: Range<Int>, isOpenedAlike: Bool)? {
    let opened = try common(conversation, count: answer, opening: true, text)
    var start = opened.bytes
    if !opened.isWhole {
      let before = try common(conversation, count: answer, opening: false, text)
      guard before.isWhole else { return nil }
      // Otherwise what opens the answer is part of it.
      if start < before.bytes || !borders.contains(start) { start = before.bytes }
    }
    guard answer < conversation.messages.count - 1 else { return (start..<text.count, opened.isWhole) }
    let end = try common(conversation, count: answer + 1, opening: false, text)
    return end.isWhole && start <= end.bytes ? (start..<end.bytes, opened.isWhole) : nil
  }

  /// How many bytes at its start the text has in common with what the template writes of the first turns, and whether that is all of it.
  private func common(
    _ conversation: ConversationRecord, count: Int, opening: Bool, _ text: [UInt8]
  ) throws -> (bytes: Int, isWhole: Bool) {
    var length = 0
    for segment in try template.segments(of: prompt(conversation, count: count, opening: opening)) {
      for byte in segment.text.utf8 {
        guard length < text.count, text[length] == byte else { return (length, false) }
        length += 1
      }
    }
    return (length, true)
  }

  private func prompt(_ conversation: ConversationRecord, count: Int? = nil, opening: Bool = false)
    -> ChatPrompt
  {
    var prompt = ChatPrompt(
      Array(conversation.messages.prefix(count ?? conversation.messages.count)),
      addingGenerationPrompt: opening)
    if let tools = conversation.tools { prompt.variables["tools"] = tools }
    prompt.clock = clock
    return prompt
  }
}

extension ConversationRecord {
  /// Places of the assistant's turns.
  var answers: [Int] {
    messages.indices.filter { messages[$0]["role"]?.stringValue?.hasSameBytes(as: "assistant") == true }
  }
}

/// Takes segments of a text apart from left to right.
private struct SegmentCutter {
  private let segments: [TemplateSegment]
  private var segment = 0
  /// Bytes of the current segment that are taken.
  private var taken = 0
  /// Bytes of the text that are taken.
  private(set) var position = 0

  init(_ segments: [TemplateSegment]) { self.segments = segments }

  /// What lies before a byte of the text and was not taken; ends of characters only.
  mutating func take(upTo end: Int) -> [TemplateSegment] {
    var result: [TemplateSegment] = []
    while position < end, segment < segments.count {
      let bytes = segments[segment].text.utf8
      let count = min(bytes.count - taken, end - position)
      let part = bytes.dropFirst(taken).prefix(count)
      result.append(
        TemplateSegment(
          text: String(decoding: part, as: UTF8.self), isFromTemplate: segments[segment].isFromTemplate))
      position += count
      taken += count
      if taken == bytes.count { (segment, taken) = (segment + 1, 0) }
    }
    return result
  }
}
