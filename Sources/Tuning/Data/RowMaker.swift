import Calibration
import Files
import JSON
import Templates
import Tokenization
import Training

/// Makes rows of records.
struct RowMaker {
  let model: TuningModel
  let options: TuningDataOptions
  let part: TrainedPart
  /// What the template can write.
  let abilities: TemplateAbilities?
  private let zhinao: ZhinaoConversation?
  /// Fields of turns that no template in use here writes.
  private let unshownFields: [String]

  /// - Throws: ``TuningDataError`` for options that make no sense.
  init(_ model: TuningModel, _ options: TuningDataOptions) throws {
    self.model = model
    self.options = options
    guard options.maximumLength >= 2 else {
      throw TuningDataError(.maximumTooSmall(options.maximumLength), path: "")
    }
    guard options.validationFraction >= 0, options.validationFraction < 1 else {
      throw TuningDataError(.fractionOutOfRange(options.validationFraction), path: "")
    }
    let isZhinao = model.tokenizer is ZhinaoTokenizer
    let wantsZhinao = options.trainedPart == .zhinao || isZhinao
    zhinao =
      wantsZhinao
      ? model.template.flatMap {
        ZhinaoConversation(template: $0, tokenizer: model.tokenizer, contents: options.contents)
      } : nil
    if options.trainedPart == .zhinao && zhinao == nil { throw TuningDataError(.notZhinao, path: "") }
    part = options.trainedPart ?? (zhinao == nil ? .assistant : .zhinao)
    let own = zhinao == nil ? model.template : nil
    unshownFields = ["reasoning_content", "name", "tool_call_id"].filter { own?.canShow($0) != true }
    abilities =
      zhinao == nil
      ? model.template.map(TemplateAbilities.init) : TemplateAbilities(.chatML(defaultSystem: nil))
  }

  /// Names of the turns' fields that would be lost.
  func lostFields(_ record: TuningRecord) -> Set<ByteText> {
    guard case .conversation(let conversation) = record else { return [] }
    return Set(
      unshownFields.filter { name in conversation.messages.contains { $0[name]?.isNull == false } }
        .map { ByteText("messages[].\($0)") })
  }

  /// What a record gives.
  struct Made {
    /// Rows, none longer than the maximum; several of a long text only.
    var rows: [TrainingRow] = []
    var tokensCutOff = 0
    /// Whether every answer ends with a token that ends answers.
    var endsAnswers = true
    /// Whether the template opens answers with what it writes before them.
    var opensAnswersAlike = true
    /// Turns that are learned though they are no answers.
    var otherTurns = 0
  }

  /// - Throws: ``TuningDataProblem`` for a record that is left out; ``TuningDataError`` and ``ChatTemplateError`` for what concerns all of
  ///   them.
  func rows(of record: TuningRecord, path: String, place: String) throws -> Made {
    var made = Made()
    let whole: TrainingRow
    switch record {
    case .text(let text): return try chunks(of: text, path: path, place: place)
    case .row(let row): whole = row
    case .completion(let prompt, let completion): whole = row(prompt, completion)
    case .conversation(let conversation):
      guard let template = model.template else {
        throw TuningDataError(.noTemplate(place: place), path: path)
      }
      guard part == .all || !conversation.answers.isEmpty else { throw TuningDataProblem.noAnswer }
      if let zhinao {
        whole = try zhinao.row(of: conversation, part: part, packing: options.packing)
        if part == .zhinao && options.packing == .separate {
          made.otherTurns = ZhinaoConversation.otherTurns(conversation)
        }
      } else {
        let writer = TemplateConversation(
          template: template, tokenizer: model.tokenizer, contents: options.contents,
          stopTokens: model.stopTokens, clock: options.clock)
        do {
          let written = try writer.row(
            of: conversation, part: part, maximum: options.maximumLength, path: path, place: place)
          whole = written.row
          made.endsAnswers = written.endsAnswers
          made.opensAnswersAlike = written.opensAnswersAlike
        } catch let error as ChatTemplateError where error.concernsConversation {
          throw TuningDataProblem.record(.template(error.detail.bytes))
        }
      }
    }
    try check(whole.tokens, path: path, place: place)
    try check(whole.labels.lazy.compactMap { $0 }, path: path, place: place)
    guard whole.tokens.count >= 2 else { throw TuningDataProblem.record(.tooShort) }
    var row = whole
    let excess = whole.tokens.count - options.maximumLength
    if excess > 0 {
      if options.packing == .concat { throw TuningDataProblem.longerThanRow }
      row = TrainingRow(
        tokens: Array(row.tokens.dropLast(excess)), labels: Array(row.labels.dropLast(excess)))
      made.tokensCutOff = excess
    }
    guard row.countedLabels > 0 else { throw TuningDataProblem.nothingCounted }
    made.rows = [row]
    return made
  }

  private func row(_ prompt: String, _ completion: String) -> TrainingRow {
    let tokenizer = model.tokenizer
    let opening =
      tokenizer.affixes.prefix
      + tokenizer.encode(prompt, specials: options.contents, addingAffixes: false)
    var answer =
      prompt.isEmpty
      ? tokenizer.encode(completion, specials: options.contents, addingAffixes: false)
      : tokenizer.encodeContinuation(completion, specials: options.contents)
    end(&answer)
    let tokens = opening + answer
    let labels = opening.map { part == .all ? $0 : nil } + answer
    return TrainingRow(tokens: tokens, labels: labels)
  }

  /// A text in as many rows as it needs.
  private func chunks(of text: String, path: String, place: String) throws -> Made {
    let tokenizer = model.tokenizer
    var ids = tokenizer.encode(text, specials: options.contents, addingAffixes: true)
    guard !text.isEmpty else { throw TuningDataProblem.record(.tooShort) }
    end(&ids)
    try check(ids, path: path, place: place)
    var made = Made()
    for first in stride(from: 0, to: ids.count, by: options.maximumLength) {
      let part = Array(ids[first..<min(ids.count, first + options.maximumLength)])
      // A token without another one before it predicts nothing.
      if part.count < 2 {
        made.tokensCutOff += part.count
      } else {
        made.rows.append(TrainingRow(tokens: part, labels: part))
      }
    }
    guard !made.rows.isEmpty else { throw TuningDataProblem.record(.tooShort) }
    return made
  }

  /// Puts the token at the end that says that nothing follows.
  private func end(_ ids: inout [Int]) {
    if let end = model.endOfText, ids.last != end { ids.append(end) }
  }

  private func check(_ ids: some Sequence<Int>, path: String, place: String) throws {
    if let bad = ids.first(where: { $0 < 0 || $0 >= model.vocabularySize }) {
      throw TuningDataError(
        .idOutOfVocabulary(place: place, id: bad, vocabularySize: model.vocabularySize), path: path)
    }
  }

  /// Packs rows in their order: each gets as many as fit.
  func packed(_ rows: TuningRows, _ indices: some Sequence<Int>) -> TuningRows {
    guard options.packing == .concat else { return TuningRows(indices.lazy.map { rows[$0] }) }
    var packs = TuningRows()
    var pack = TrainingRow(tokens: [], labels: [])
    for index in indices {
      if !pack.tokens.isEmpty && pack.tokens.count + rows.length(index) > options.maximumLength {
        packs.append(pack)
        pack = TrainingRow(tokens: [], labels: [])
      }
      let row = rows[index]
      pack.tokens += row.tokens
      pack.labels += row.labels
    }
    if !pack.tokens.isEmpty { packs.append(pack) }
    return packs
  }
}
