import Files
import JSON
import Templates
import Tokenization
import Training

/// Conversations as a chat template writes them, with the places of the answers.
///
/// An answer is what the template writes more when it is told of the answer than when it is asked to open one. What stands before
/// an answer is encoded for itself, as a chat does that asks for it; so is the answer, as what the model goes on with.
struct TemplateConversation {
  let template: ChatTemplate
  let tokenizer: any Tokenizer
  let contents: SpecialTokens
  /// Tokens that end an answer; what the template writes after the last of them is no part of it.
  let stopTokens: Set<Int>
  let clock: TemplateClock

  /// - Parameter maximum: answers that begin behind as many tokens are not looked for.
  /// - Returns: the whole conversation, uncut, and whether every answer ends with a token that ends answers.
  /// - Throws: ``ChatTemplateError``; ``TuningDataError/Reason-swift.enum/noPrefixes(place:template:)``.
  func row(
    of conversation: ConversationRecord, part: TrainedPart, maximum: Int, path: String, place: String
  ) throws -> (row: TrainingRow, endsAnswers: Bool) {
    let full = try template.rendering(of: prompt(conversation))
    if part == .all {
      let ids = template.encode(full.segments, tokenizer: tokenizer, contents: contents)
      return (TrainingRow(tokens: ids, labels: ids), true)
    }
    let text = Array(full.segments.map(\.text).joined().utf8)
    var cutter = SegmentCutter(full.segments)
    var row = TrainingRow(tokens: [], labels: [])
    var endsAnswers = true
    func add(upTo end: Int, counted: Bool) {
      let ids = template.encode(
        cutter.take(upTo: end), tokenizer: tokenizer, contents: contents, continuing: !row.tokens.isEmpty)
      let last = counted ? ids.lastIndex { stopTokens.contains($0) } : nil
      if counted && last == nil && !ids.isEmpty { endsAnswers = false }
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
        guard let range = try range(of: answer, conversation, in: text), range.lowerBound >= cutter.position
        else {
          throw TuningDataError(
            .noPrefixes(place: place, template: template.label(of: prompt(conversation))), path: path)
        }
        add(upTo: range.lowerBound, counted: false)
        if row.tokens.count < maximum { add(upTo: range.upperBound, counted: true) }
      }
    }
    add(upTo: text.count, counted: false)
    return (row, endsAnswers)
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

  /// Bytes of an answer in the text of the whole conversation; nil when the template writes less of the conversation otherwise.
  private func range(
    of answer: Int, _ conversation: ConversationRecord, in text: [UInt8]
  ) throws -> Range<Int>? {
    func length(_ count: Int, opening: Bool) throws -> Int? {
      let part = try template.segments(of: prompt(conversation, count: count, opening: opening))
      var length = 0
      for segment in part {
        guard text[min(length, text.count)...].starts(with: segment.text.utf8) else { return nil }
        length += segment.text.utf8.count
      }
      return length
    }
    // Where the template opens an answer otherwise than it writes one, what opens it is part of it.
    var start = try length(answer, opening: true)
    if start == nil { start = try length(answer, opening: false) }
    let isLast = answer == conversation.messages.count - 1
    let end = isLast ? text.count : try length(answer + 1, opening: false)
    guard let start, let end, start <= end else { return nil }
    return start..<end
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
