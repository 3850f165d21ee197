import Calibration
import Files
import Models
import Tokenization
import Training

/// How a model writes conversations and texts.
package struct TuningModel: Sendable {
  package var tokenizer: any Tokenizer
  /// For conversations; nil: the model has none.
  package var template: ChatTemplate?
  /// The token that ends texts and completions; nil: nothing is put there.
  package var endOfText: Int?
  /// Tokens that end an answer.
  package var stopTokens: Set<Int>
  /// Ids must be below it.
  package var vocabularySize: Int

  package init(
    tokenizer: any Tokenizer, template: ChatTemplate?, endOfText: Int?, stopTokens: Set<Int>,
    vocabularySize: Int
  ) {
    self.tokenizer = tokenizer
    self.template = template
    self.endOfText = endOfText
    // It stops generation because nothing but a turn of somebody else follows it, but it opens answers, too.
    self.stopTokens = stopTokens.filter { $0 != tokenizer.specialTokens["<|im_start|>"] }
    self.vocabularySize = vocabularySize
  }

  /// - Throws: when the model's tokenizer or its chat template cannot be read.
  package init(_ model: OpenedModel) throws {
    let tokenizer = try model.tokenizer()
    let template = try ChatTemplate.detected(tokenizer: tokenizer, files: model.files)
    let size = model.configuration.vocabularySize
    self.init(
      tokenizer: tokenizer, template: template,
      endOfText: model.configuration.eosTokenIDs.first { (0..<size).contains($0) },
      stopTokens: try model.stopTokens(tokenizer: tokenizer, template: template), vocabularySize: size)
  }
}

extension TuningDataset {
  /// Reads the files and makes their rows.
  /// - Parameter validationFiles: whose rows are not learned.
  /// - Throws: ``TuningDataError``; ``ChatTemplateError`` when the model's template is wrong; errors of files.
  package static func load(
    files: [TuningFile], validationFiles: [TuningFile] = [], model: TuningModel, options: TuningDataOptions
  ) throws -> TuningDataset {
    let maker = try RowMaker(model, options)
    if options.validationFraction > 0 && !validationFiles.isEmpty {
      throw TuningDataError(.twoValidations, path: "")
    }
    if let file = validationFiles.first(where: { $0.weight != nil }) {
      throw TuningDataError(.weightOfValidation, path: file.path)
    }
    var reader = TuningFileReader(maker)
    let sources = try files.map { try reader.read($0, isForValidation: false) }
    let validation = try validationFiles.map { try reader.read($0, isForValidation: true) }
    let kept = try validationChoice(
      sources.map(\.rows.count), options, path: files.map(\.path).joined(separator: ", "))

    var rows = TuningRows()
    var validationRows = TuningRows()
    var shares: [TuningShare] = []
    var report = TuningDataReport()
    var first = 0
    for (file, source) in zip(files, sources) {
      let places = source.rows.indices
      let learned = maker.packed(source.rows, places.lazy.filter { !kept[first + $0] })
      let held = maker.packed(source.rows, places.lazy.filter { kept[first + $0] })
      first += places.count
      shares.append(
        TuningShare(rows: rows.count..<rows.count + learned.count, weight: file.weight ?? 1))
      report.sources.append(source.report(learned: learned, held: held))
      rows.append(learned)
      validationRows.append(held)
    }
    for source in validation {
      let held = maker.packed(source.rows, source.rows.indices)
      report.sources.append(source.report(learned: TuningRows(), held: held))
      validationRows.append(held)
    }
    report.notes = reader.notes(rows, validationRows)
    let dataset = TuningDataset(
      rows: rows, validationRows: validationRows, report: report, shares: shares,
      groupsByLength: options.groupsByLength, seed: options.seed)
    for share in shares where share.weight * Double(share.rows.count) > Double(mostRows) {
      throw TuningDataError(.epochTooLong(weight: share.weight, most: mostRows), path: "")
    }
    return dataset
  }

  /// Rows of an epoch, of one file: more than any CPU trains on.
  static let mostRows = 100_000_000

  /// Which of the rows are kept for validation, a part of them and at least one.
  /// - Parameter counts: rows of each file.
  private static func validationChoice(_ counts: [Int], _ options: TuningDataOptions, path: String) throws
    -> [Bool]
  {
    let count = counts.reduce(0, +)
    var kept = [Bool](repeating: false, count: count)
    guard options.validationFraction > 0 else { return kept }
    guard count >= 2 else { throw TuningDataError(.validationTakesAll(rows: count), path: path) }
    let wanted = Int((options.validationFraction * Double(count)).rounded())
    var order = Array(0..<count)
    // No epoch has this stream.
    var generator = SeededGenerator(seed: options.seed, stream: .max)
    generator.shuffle(&order)
    for index in order.prefix(max(1, min(count - 1, wanted))) { kept[index] = true }
    return kept
  }
}

/// Reads files of training data and remembers what a person should know of them.
private struct TuningFileReader {
  private let maker: RowMaker
  private var otherTurns = 0
  private var unendedAnswers = 0
  private var strangeOpenings = 0
  private var hasConversations = false

  init(_ maker: RowMaker) { self.maker = maker }

  struct Source {
    /// Of conversations and texts, before they are packed.
    var rows = TuningRows()
    var report: TuningDataReport.Source

    func report(learned: TuningRows, held: TuningRows) -> TuningDataReport.Source {
      var report = report
      report.rows = learned.count
      report.validationRows = held.count
      report.tokens = learned.tokenCount + held.tokenCount
      report.countedLabels = learned.countedLabelCount + held.countedLabelCount
      report.longest = max(learned.longest, held.longest)
      return report
    }
  }

  mutating func read(_ file: TuningFile, isForValidation: Bool) throws -> Source {
    let path = file.path
    let content: CalibrationContent
    do { content = try CalibrationContent(ofFile: path, format: maker.options.format) } catch let error
      as CalibrationError
    {
      throw TuningDataError(.content(error.reason), path: path)
    }
    var source = Source(
      report: TuningDataReport.Source(
        path: path, weight: file.weight, isForValidation: isForValidation, format: .text, kind: "text",
        records: 0))
    switch content {
    case .text(let text):
      guard !text.isEmpty else { throw TuningDataError(.empty, path: path) }
      do { try add(.text(text), to: &source, place: "the text") } catch let problem as TuningDataProblem {
        throw TuningDataError(.noRows(place: "the text", problem), path: path)
      }
    case .records(let values, let format):
      guard !values.isEmpty else { throw TuningDataError(.empty, path: path) }
      source.report.format = format
      var kinds: Set<String> = []
      for (place, value) in values {
        var unused: Set<ByteText> = []
        do {
          let record = try TuningRecord(value, abilities: maker.abilities, unused: &unused)
          unused.formUnion(maker.lostFields(record))
          try add(record, to: &source, place: place)
          kinds.insert(record.kind)
        } catch let problem as TuningDataProblem { source.report.leftOut.add(problem, place: place) }
        for name in unused { source.report.unusedFields[name, default: 0] += 1 }
      }
      source.report.kind = kinds.sorted().joined(separator: "+")
      // Where nothing is left, a count would hide the reason.
      if source.rows.isEmpty, let first = source.report.leftOut.reasons.first {
        throw TuningDataError(.noRows(place: first.place, first.problem), path: path)
      }
    }
    return source
  }

  private mutating func add(_ record: TuningRecord, to source: inout Source, place: String) throws {
    let made = try maker.rows(of: record, path: source.report.path, place: place)
    for row in made.rows { source.rows.append(row) }
    source.report.records += 1
    if made.tokensCutOff > 0 {
      source.report.cutRows += 1
      source.report.tokensCutOff += made.tokensCutOff
    }
    otherTurns += made.otherTurns
    if !made.endsAnswers { unendedAnswers += 1 }
    if !made.opensAnswersAlike { strangeOpenings += 1 }
    if case .conversation = record { hasConversations = true }
  }

  func notes(_ rows: TuningRows, _ validationRows: TuningRows) -> [String] {
    var notes: [String] = []
    if hasConversations, let template = maker.model.template {
      if let note = template.note { notes.append(note) }
      if template.names("strftime_now") {
        let clock = maker.options.clock
        notes.append(
          "the chat template writes a date, which is always \(clock.year)-\(clock.month)-\(clock.day) in training"
        )
      }
    }
    if otherTurns > 0 {
      notes.append(
        "turns that are neither the user's nor the assistant's are learned as answers, \(otherTurns) of them, as "
          + "360Zhinao's finetune.py does where rows are separate; --train-on assistant leaves them out")
    }
    if unendedAnswers > 0 {
      notes.append(
        "\(unendedAnswers) conversations have answers that the chat template ends with no token of its own, so that the "
          + "model does not learn where to stop")
    }
    if strangeOpenings > 0 {
      notes.append(
        "the chat template opens the answers of \(strangeOpenings) conversations otherwise than it writes them, for example "
          + "with a thought, so that a chat opens its answers with what was not learned")
    }
    let same = TuningFileReader.sharedRows(rows, validationRows)
    if same > 0 {
      notes.append(
        "\(same) of \(validationRows.count) rows for validation are also learned; the loss on them says nothing of new text"
      )
    }
    return notes
  }

  private static func sharedRows(_ rows: TuningRows, _ validationRows: TuningRows) -> Int {
    var held: [[Int]: Int] = [:]
    for row in validationRows { held[row.tokens, default: 0] += 1 }
    guard !held.isEmpty else { return 0 }
    return rows.reduce(0) { $0 + (held.removeValue(forKey: $1.tokens) ?? 0) }
  }
}
