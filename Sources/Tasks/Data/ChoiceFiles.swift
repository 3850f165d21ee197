import Files
import Foundation
import JSON

// Readers of the files of multiple-choice tasks.
extension ChoiceTask {
  /// Reads the questions and, where the publisher has them, the examples.
  /// - Parameters:
  ///   - path: a folder, or a file where the task has only one; see ``layout``.
  ///   - split: nil for ``usualSplit``.
  ///   - subjects: nil for all.
  ///   - examples: a file of JSON Lines with the examples of HellaSwag, ARC or one's own questions, where it is not beside these.
  ///   - readsAllExamples: whether examples are drawn from the whole file of HellaSwag and ARC, not from its first hundred rows.
  /// - Throws: ``DataError`` and others that name the file, the line and the column.
  /// - Complexity: O(bytes).
  package func load(
    _ path: String, split: String? = nil, subjects: [String]? = nil, examples: String? = nil,
    readsAllExamples: Bool = false
  ) throws -> ChoiceData {
    let split = split ?? usualSplit
    guard let known = splits.first(where: { $0.lowercased() == split.lowercased() }) else {
      throw DataError(.unknownSplit(split, known: splits), path: name)
    }
    let path = path.withoutTrailingSlashes
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw DataError(.notFound(task: title, layout: layout, licence: licence), path: path)
    }
    var data: ChoiceData
    switch kind {
    case .ceval: data = try table(SubjectNames.ceval, path, isFolder.boolValue, known, subjects)
    case .cmmlu: data = try table(SubjectNames.cmmlu, path, isFolder.boolValue, known, subjects)
    case .mmlu: data = try table(SubjectNames.mmlu, path, isFolder.boolValue, known, subjects)
    case .hellaswag, .arc, .choices:
      data = try lines(path, isFolder.boolValue, known, examples, readsAllExamples: readsAllExamples)
      if let subjects {
        let names = data.subjects.map(\.name)
        let unknown = subjects.filter { subject in !names.contains { $0.hasSameBytes(as: subject) } }
        guard unknown.isEmpty else { throw DataError(.unknownSubjects(unknown, known: names), path: path) }
        data.subjects.removeAll { subject in !subjects.contains { $0.hasSameBytes(as: subject.name) } }
      }
    }
    guard data.subjects.contains(where: { !$0.items.isEmpty }) else { throw DataError(.noItems, path: path) }
    return data
  }

  // MARK: A file for each subject

  private func table(
    _ rows: [SubjectNames.Row], _ path: String, _ isFolder: Bool, _ split: String, _ subjects: [String]?
  ) throws -> ChoiceData {
    // All subjects in one file, as data sets of Hugging Face are exported.
    let single = isFolder ? "\(path)/\(split).jsonl" : path
    if single.hasSuffix(".jsonl"), FileManager.default.fileExists(atPath: single) {
      return try oneFile(rows, single, split, subjects)
    }
    guard isFolder else {
      throw DataError(.refused("is a file; expected \(layout)"), path: path)
    }
    // The folder that archives unpack into.
    let inner = ["ceval-exam", "data", "cmmlu", "cmmlu_v1_0_1"].map { "\(path)/\($0)" }
    let folder = ([path] + inner).first { FileManager.default.fileExists(atPath: "\($0)/\(split)") } ?? path
    if let subjects {
      let unknown = subjects.filter { name in !rows.contains { $0.name == name } }
      guard unknown.isEmpty else {
        throw DataError(.unknownSubjects(unknown, known: rows.map(\.name)), path: path)
      }
    }
    let wanted = rows.filter { subjects?.contains($0.name) ?? true }
    func file(_ subject: String, _ split: String) -> String? {
      let suffixed = ["\(split)/\(subject)_\(split)", "\(split)/\(subject)", "\(subject)/\(split)"]
      return suffixed.flatMap { ["\(folder)/\($0).csv", "\(folder)/\($0).jsonl"] }
        .first { FileManager.default.fileExists(atPath: $0) }
    }
    let missing = wanted.filter { file($0.name, split) == nil }
    guard missing.isEmpty else {
      let suffix = kind == .cmmlu ? "" : "_\(split)"
      throw DataError(
        .missingFiles(
          missing.map { "\(split)/\($0.name)\(suffix).csv" }, layout: layout, licence: licence,
          canNameSubjects: true), path: path)
    }
    var data = ChoiceData(subjects: [], files: [])
    for row in wanted {
      var subject = ChoiceSubject(name: row.name, title: row.title, group: row.group)
      if let path = file(row.name, split) {
        subject.items = try items(path, subject: row.name, &data.files)
      }
      if split != "dev", let path = file(row.name, "dev") {
        subject.examples = try items(path, subject: row.name, &data.files)
      }
      data.subjects.append(subject)
    }
    return data
  }

  /// Questions whose field `subject` says what they are about; examples come from `dev.jsonl` beside them.
  private func oneFile(_ rows: [SubjectNames.Row], _ path: String, _ split: String, _ subjects: [String]?)
    throws
    -> ChoiceData
  {
    var data = ChoiceData(subjects: [], files: [])
    let all = try read(path, &data.files, most: nil)
    let names = all.map(\.name)
    if let unknown = names.first(where: { name in !rows.contains { $0.name == name } }) {
      throw DataError(
        .refused("has the subject \(unknown.bytes.prefix(scalars: 80)), which \(title) does not have"),
        path: path)
    }
    if let missing = subjects?.filter({ !names.contains($0) }), !missing.isEmpty {
      throw DataError(.unknownSubjects(missing, known: names), path: path)
    }
    let dev = "\(PathParts(path).folder)/dev.jsonl"
    var examples: [ChoiceSubject] = []
    if split != "dev", FileManager.default.fileExists(atPath: dev) {
      examples = try read(dev, &data.files, most: nil)
    }
    for row in rows where subjects?.contains(row.name) ?? true {
      guard let found = all.first(where: { $0.name == row.name }) else { continue }
      data.subjects.append(
        ChoiceSubject(
          name: row.name, title: row.title, group: row.group,
          examples: examples.first { $0.name == row.name }?.items ?? [], items: found.items))
    }
    return data
  }

  private func items(_ path: String, subject: String, _ files: inout [DataFile]) throws -> [ChoiceItem] {
    var items: [ChoiceItem] = []
    if path.hasSuffix(".jsonl") {
      files.append(
        try JSONLines.forEach(file: path) { fields, line in
          items.append(try item(fields, line, path, subject: subject, number: items.count))
          return true
        })
    } else {
      let file = try MappedFile.text(path)
      try withExtendedLifetime(file) {
        items = try ChoiceTask.items(
          file.bytes, path: path, subject: subject, header: kind == .mmlu ? nil : kind == .ceval)
      }
      files.append(DataFile(file))
    }
    guard !items.isEmpty else { throw DataError(.noItems, path: path) }
    return items
  }

  /// The questions of comma-separated text.
  /// - Parameter header: true for C-Eval's names of columns, false for CMMLU's, nil for MMLU, which has none.
  package static func items(
    _ bytes: UnsafeRawBufferPointer, path: String, subject: String, header: Bool?
  ) throws -> [ChoiceItem] {
    var records = try DelimitedText.records(bytes, path: path)[...]
    var columns = ["question", "A", "B", "C", "D", "answer"]
    var expected = "6: question, A, B, C, D and answer"
    if let header {
      guard let first = records.popFirst() else { throw DataError(.noItems, path: path) }
      columns = first.fields.map { $0.bytes.trimmed }
      let names = header ? "id, question, A, B, C, D and answer" : "a number, Question, A, B, C, D and Answer"
      if !header {
        columns = columns.map { $0 == "Question" ? "question" : $0 == "Answer" ? "answer" : $0 }
      }
      for name in ["question", "A", "B", "C", "D"] where !columns.contains(name) {
        throw DataError(
          .missingColumn(expected: "the columns \(names) in the first line"), path: path, line: first.line,
          column: name)
      }
      guard columns.contains("answer") else {
        throw DataError(
          .noAnswers(
            expected: header
              ? "those of C-Eval's test split are not published; evaluate the split val"
              : "expected the column Answer"), path: path)
      }
      guard Set(columns.map(\.bytes)).count == columns.count else {
        throw DataError(.refused("names a column twice"), path: path, line: first.line)
      }
      expected = "\(columns.count), as the first line"
    }
    return try records.enumerated().map { number, record in
      guard record.fields.count == columns.count else {
        throw DataError(
          .fieldCount(found: record.fields.count, expected: expected), path: path, line: record.line)
      }
      var values = Dictionary(uniqueKeysWithValues: zip(columns, record.fields))
      func take(_ name: String) -> String { values.removeValue(forKey: name) ?? "" }
      let answer = take("answer")
      let choices = ["A", "B", "C", "D"].map(take)
      let question = take("question")
      guard let index = index(ofLetter: answer, below: 4) else {
        throw DataError(
          .badAnswer(found: answer, expected: "A, B, C or D"), path: path, line: record.line,
          column: "answer")
      }
      guard !question.bytes.isBlank else {
        throw DataError(.refused("is empty"), path: path, line: record.line, column: "question")
      }
      return ChoiceItem(
        id: "\(subject)/\(number)", subject: subject, question: question, choices: choices, answer: index,
        fields: values.filter { !$0.key.isEmpty })
    }
  }

  private static func index(ofLetter text: String, below count: Int) -> Int? {
    let bytes = Array(text.bytes.trimmed.utf8)
    guard bytes.count == 1, bytes[0] >= 65, Int(bytes[0]) - 65 < count else { return nil }
    return Int(bytes[0]) - 65
  }

  // MARK: A file for each split

  private var isOwn: Bool { if case .choices = kind { true } else { false } }

  /// Few-shot examples are read from the head of files of tens of thousands of rows.
  private static let mostExamples = 100

  private func lines(
    _ path: String, _ isFolder: Bool, _ split: String, _ examplesFile: String?, readsAllExamples: Bool
  ) throws -> ChoiceData {
    func names(_ split: String) -> [String] {
      switch kind {
      case .hellaswag:
        ["hellaswag_\(split).jsonl", "\(split).jsonl"] + (split == "val" ? ["validation.jsonl"] : [])
      case .arc(let isChallenge):
        ["ARC-\(isChallenge ? "Challenge" : "Easy")-\(split).jsonl", "\(split.lowercased()).jsonl"]
          + (split == "Dev" ? ["validation.jsonl"] : [])
      default: ["\(split).jsonl"]
      }
    }
    var folders = [path]
    if case .arc(let isChallenge) = kind {
      let name = isChallenge ? "ARC-Challenge" : "ARC-Easy"
      folders += ["\(path)/\(name)", "\(path)/ARC-V1-Feb2018-2/\(name)"]
    }
    func file(_ split: String) -> String? {
      folders.flatMap { folder in names(split).map { "\(folder)/\($0)" } }
        .first { FileManager.default.fileExists(atPath: $0) }
    }
    let itemsPath: String
    var examplesPath = examplesFile
    if isFolder {
      guard let found = file(split) else {
        throw DataError(.missingFiles([names(split)[0]], layout: layout, licence: licence), path: path)
      }
      itemsPath = found
      let exampleSplits =
        kind == .hellaswag ? ["train"] : splits.contains("Train") ? ["Train"] : ["dev", "train"]
      examplesPath = examplesPath ?? exampleSplits.filter { $0 != split }.lazy.compactMap(file).first
    } else {
      itemsPath = path
    }
    var data = ChoiceData(subjects: [], files: [])
    data.subjects = try read(itemsPath, &data.files, most: nil)
    if let examplesPath {
      // The generic task's examples belong to subjects, of which a file may have many.
      var most: Int? = ChoiceTask.mostExamples
      if readsAllExamples || isOwn { most = nil }
      let examples = try read(examplesPath, &data.files, most: most)
      for index in data.subjects.indices {
        let name = data.subjects[index].name
        let own = examples.first { $0.name.hasSameBytes(as: name) }
        data.subjects[index].examples = own?.items ?? (examples.count == 1 ? examples[0].items : [])
      }
    }
    return data
  }

  /// The questions of a file of JSON Lines by subject, in the order of first mention.
  private func read(_ path: String, _ files: inout [DataFile], most: Int?) throws -> [ChoiceSubject] {
    var subjects: [ChoiceSubject] = []
    var indices: [ByteText: Int] = [:]
    var seen: [ByteText: Int] = [:]
    var count = 0
    files.append(
      try JSONLines.forEach(file: path) { fields, line in
        let row = try item(fields, line, path, subject: nil, number: count)
        count += 1
        if let earlier = seen.updateValue(line, forKey: row.id.bytes) {
          throw DataError(.repeatedID(row.id, earlier: earlier), path: path, line: line)
        }
        let group = try fields.string("group")
        if indices[row.subject] == nil {
          indices[row.subject] = subjects.count
          subjects.append(
            ChoiceSubject(
              name: row.subject, title: row.subject.bytes.replacing("_", with: " "), group: group))
        }
        subjects[indices[row.subject]!].items.append(row)
        return most.map { count < $0 } ?? true
      })
    guard !subjects.isEmpty else { throw DataError(.noItems, path: path) }
    return subjects
  }

  /// The question of one line.
  package func item(_ fields: JSONFields, _ line: Int, _ path: String, subject: String?, number: Int) throws
    -> ChoiceItem
  {
    switch kind {
    case .hellaswag: return try hellaswag(fields, number)
    case .arc: return try arc(fields, number)
    case .ceval, .cmmlu, .mmlu, .choices: return try question(fields, subject: subject, number)
    }
  }

  private func hellaswag(_ fields: JSONFields, _ number: Int) throws -> ChoiceItem {
    let endings = try texts(fields, "endings")
    let label: Int?
    if let text = fields["label"]?.stringValue {
      label = Int(text)
    } else {
      label = try fields.integer("label")
    }
    guard let label, endings.indices.contains(label) else {
      throw fields.unexpected("label", expected: "the index of an ending, from 0 to \(endings.count - 1)")
    }
    let activity = try fields.requiredString("activity_label")
    let start = try fields.requiredString("ctx_a")
    let end = try fields.requiredString("ctx_b")
    return ChoiceItem(
      id: "hellaswag/\(number)", subject: name,
      question: HellaSwag.cleaned("\(activity): \(start) \(HellaSwag.capitalized(end))"),
      choices: endings.map(HellaSwag.cleaned), answer: label)
  }

  private func arc(_ fields: JSONFields, _ number: Int) throws -> ChoiceItem {
    let question: String
    var (labels, choices): ([String], [String]) = ([], [])
    if fields["question"]?.objectValue != nil, let object = try fields.object("question") {
      // As the Allen Institute has it.
      question = try object.requiredString("stem")
      for choice in try object.objects("choices") ?? [] {
        labels.append(try choice.requiredString("label"))
        choices.append(try choice.requiredString("text"))
      }
    } else {
      // As Hugging Face has it.
      question = try fields.requiredString("question")
      guard let object = try fields.object("choices") else { throw fields.error("choices", .missing) }
      labels = try object.strings("label", most: ChoiceTemplate.mostChoices)
      choices = try object.strings("text", most: ChoiceTemplate.mostChoices)
    }
    guard choices.count >= 2, choices.count == labels.count, choices.count <= ChoiceTemplate.mostChoices
    else {
      throw fields.refusal(
        "choices", "has \(choices.count) texts and \(labels.count) labels, expected 2 to 26 of each")
    }
    let key = try fields.requiredString("answerKey")
    guard let answer = labels.firstIndex(where: { $0.hasSameBytes(as: key) }) else {
      throw fields.unexpected("answerKey", expected: "one of \(labels.joined(separator: ", "))")
    }
    return ChoiceItem(
      id: try fields.string("id") ?? "\(name)/\(number)", subject: name, question: question, choices: choices,
      answer: answer)
  }

  private func question(_ fields: JSONFields, subject: String?, _ number: Int) throws -> ChoiceItem {
    let questionKey = fields.isPresent("Question") ? "Question" : "question"
    let question = try fields.requiredString(questionKey)
    let choices: [String]
    if fields.isPresent("choices") {
      choices = try texts(fields, "choices")
    } else if fields.isPresent("A") {
      choices = try ["A", "B", "C", "D"].map(fields.requiredString)
    } else {
      throw fields.error("choices", .missing)
    }
    let answerKey = fields.isPresent("Answer") ? "Answer" : "answer"
    guard let value = fields[answerKey] else { throw fields.error(answerKey, .missing) }
    let answer: Int?
    if let number = value.intValue {
      answer = number
    } else if let text = value.stringValue {
      // A text that is a choice, then a letter, then a number written as text.
      let matching = choices.indices.filter { choices[$0].hasSameBytes(as: text) }
      answer =
        matching.count == 1
        ? matching[0] : ChoiceTask.index(ofLetter: text, below: choices.count) ?? Int(text)
    } else {
      answer = nil
    }
    guard let answer, choices.indices.contains(answer) else {
      throw fields.unexpected(
        answerKey,
        expected:
          "an index from 0 to \(choices.count - 1), a letter from A to \(ChoiceTemplate.letter(choices.count - 1)) or one of the choices"
      )
    }
    let ownSubject = try fields.string("subject") ?? name
    let id: String
    if let number = fields["id"]?.intValue { id = "\(number)" } else { id = try fields.string("id") ?? "" }
    let subject = subject ?? ownSubject
    var further: [String: String] = [:]
    for (key, value) in fields.object.members where !ChoiceTask.knownKeys.contains(key) {
      if let text = value.stringValue { further[key] = text }
    }
    let usesID: Bool
    if case .choices = kind { usesID = !id.isEmpty } else { usesID = false }
    return ChoiceItem(
      id: usesID ? id : "\(subject)/\(number)", subject: subject, question: question, choices: choices,
      answer: answer, fields: further)
  }

  private static let knownKeys: Set = [
    "question", "Question", "choices", "answer", "Answer", "subject", "group", "id", "A", "B", "C", "D",
  ]

  private func texts(_ fields: JSONFields, _ key: String) throws -> [String] {
    guard let values = fields[key]?.arrayValue else {
      throw fields.isPresent(key)
        ? fields.unexpected(key, expected: "an array of strings") : fields.error(key, .missing)
    }
    let texts = values.compactMap(\.stringValue)
    guard texts.count == values.count, (2...ChoiceTemplate.mostChoices).contains(texts.count) else {
      throw fields.unexpected(key, expected: "an array of 2 to \(ChoiceTemplate.mostChoices) strings")
    }
    guard texts.allSatisfy({ !$0.isEmpty }) else { throw fields.refusal(key, "has an empty text") }
    return texts
  }
}

/// How lm-eval cleans the texts of HellaSwag (`tasks/hellaswag/utils.py`).
enum HellaSwag {
  /// Without white space at both ends, ` [title]` as `. `, without what stands in brackets on one line, and pairs of spaces as one.
  static func cleaned(_ text: String) -> String {
    let text = text.bytes.trimmed.bytes.replacing(" [title]", with: ". ")
    var result = String.UnicodeScalarView()
    let scalars = Array(text.unicodeScalars)
    // Where the next ] after each place is, unless a line feed comes first.
    var closing = [Int?](repeating: nil, count: scalars.count + 1)
    for index in scalars.indices.reversed() {
      closing[index] = scalars[index] == "]" ? index : scalars[index] == "\n" ? nil : closing[index + 1]
    }
    var index = 0
    while index < scalars.count {
      if scalars[index] == "[", let close = closing[index] {
        index = close + 1
      } else {
        result.append(scalars[index])
        index += 1
      }
    }
    return String(result).bytes.replacing("  ", with: " ")
  }

  /// Python's `str.capitalize`: the first code point as a title, the others in lower case.
  static func capitalized(_ text: String) -> String {
    guard let first = text.unicodeScalars.first else { return "" }
    let rest = String(String.UnicodeScalarView(text.unicodeScalars.dropFirst()))
    return first.properties.titlecaseMapping + rest.lowercased()
  }
}
