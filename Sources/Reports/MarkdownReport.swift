extension Report {
  /// Markdown as GitHub and Hugging Face read it, for a model card: figures are their descriptions and tables.
  package var markdown: String {
    var writer = MarkdownWriter(language: language)
    writer.heading(1, title)
    if !subtitle.isEmpty { writer.paragraph(subtitle) }
    if !summary.isEmpty {
      writer.heading(2, writer.phrases.summary)
      writer.blocks(summary)
    }
    for section in sections {
      writer.heading(2, section.heading)
      writer.blocks(section.blocks)
    }
    if !reproduction.isEmpty {
      writer.heading(2, writer.phrases.reproduction)
      if !reproductionNote.isEmpty { writer.paragraph(reproductionNote) }
      writer.fields(reproduction)
    }
    if !generator.isEmpty { writer.paragraph("\(writer.phrases.madeBy) \(generator)") }
    return writer.text
  }
}

private struct MarkdownWriter {
  let language: ReportLanguage
  let phrases: ReportPhrases
  var text = ""

  init(language: ReportLanguage) {
    self.language = language
    phrases = ReportPhrases.of(language)
  }

  /// Characters that Markdown or the HTML in it give a meaning to; those that begin headings, lists and rules only where lines begin.
  private static func escaped(_ text: String, startsLines: Bool) -> String {
    var result = String.UnicodeScalarView()
    var isAtStart = startsLines
    for scalar in text.visible.unicodeScalars {
      let isMeant =
        switch scalar {
        case "\\", "`", "*", "_", "[", "]", "<", ">", "|", "&", "~", "$": true
        case "#", "+", "-", "=": isAtStart
        default: false
        }
      if isMeant { result.append("\\") }
      result.append(scalar)
      isAtStart = startsLines && (scalar == "\n" || isAtStart && (scalar == " " || scalar == "\t"))
    }
    return String(result)
  }

  /// Escaped text of any number of lines; single line ends stay line ends.
  private static func lines(_ text: String) -> String {
    escaped(text, startsLines: true).bytes.split(separator: "\n").map { line in
      // A number and a point would begin a list, four spaces a block of code.
      let line = line.bytes.trimmed
      let digits = line.utf8.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
      guard !digits.isEmpty, let next = line.utf8.dropFirst(digits.count).first,
        next == UInt8(ascii: ".") || next == UInt8(ascii: ")")
      else { return line }
      return String(Substring(digits)) + "\\" + String(Substring(line.utf8.dropFirst(digits.count)))
    }.joined(separator: "  \n")
  }

  private static func cell(_ text: String) -> String {
    escaped(text.bytes.trimmed, startsLines: false).bytes.split(separator: "\n").map(\.bytes.trimmed).joined(
      separator: "<br>")
  }

  /// A fence longer than any run of backticks inside.
  private static func fence(_ text: String) -> String {
    var (longest, run) = (2, 0)
    for byte in text.utf8 {
      run = byte == UInt8(ascii: "`") ? run + 1 : 0
      longest = max(longest, run)
    }
    return String(repeating: "`", count: longest + 1)
  }

  mutating func block(_ markdown: String) {
    if !text.isEmpty { text += "\n" }
    text += markdown + "\n"
  }

  mutating func heading(_ level: Int, _ title: String) {
    block(
      String(repeating: "#", count: level) + " "
        + MarkdownWriter.escaped(title.visibleLine, startsLines: false))
  }

  mutating func paragraph(_ content: String) { block(MarkdownWriter.lines(content)) }

  mutating func code(_ content: String) {
    let content = content.visible
    let fence = MarkdownWriter.fence(content)
    block("\(fence)text\n\(content)\n\(fence)")
  }

  mutating func fields(_ fields: [ReportField]) {
    block(
      fields.map { "- **\(MarkdownWriter.cell($0.name))**\(phrases.colon)\(MarkdownWriter.cell($0.value))" }
        .joined(separator: "\n"))
  }

  mutating func table(_ table: ReportTable) {
    if !table.caption.isEmpty { block("*\(MarkdownWriter.cell(table.caption))*") }
    guard !table.rows.isEmpty, !table.columns.isEmpty else { return paragraph(phrases.empty) }
    func row(_ cells: [String]) -> String {
      "| "
        + table.columns.indices.map { $0 < cells.count ? MarkdownWriter.cell(cells[$0]) : "" }
        .joined(separator: " | ") + " |"
    }
    let rule = table.columns.map { $0.alignment == .leading ? "---" : "---:" }.joined(separator: " | ")
    block(
      ([row(table.columns.map(\.title)), "| \(rule) |"] + table.rows.map(row)).joined(separator: "\n"))
    if !table.note.isEmpty { paragraph(table.note) }
  }

  mutating func blocks(_ blocks: [ReportBlock]) {
    for block in blocks { add(block) }
  }

  private mutating func add(_ content: ReportBlock) {
    switch content {
    case .heading(let title): heading(3, title)
    case .paragraph(let content): paragraph(content)
    case .keyFigures(let figures):
      fields(
        figures.map { ReportField($0.label, $0.detail.isEmpty ? $0.value : "\($0.value) (\($0.detail))") })
    case .table(let content): table(content)
    case .figure(let figure):
      heading(3, figure.title)
      paragraph(figure.alternative)
      table(figure.table(language))
      if !figure.note.isEmpty { paragraph(figure.note) }
    case .fields(let content): fields(content)
    case .code(let content): code(content)
    case .callout(let kind, let content):
      let word = kind == .warning ? phrases.warning : phrases.note
      block(
        "> **\(word)**\(phrases.colon)"
          + MarkdownWriter.lines(content).bytes.replacing("\n", with: "\n> "))
    case .items(let items):
      for item in items {
        let mark = item.mark.isEmpty ? "" : " (\(item.mark))"
        block("**\(MarkdownWriter.cell(item.title + mark))**")
        for field in item.fields {
          block(MarkdownWriter.cell(field.name) + phrases.colon.bytes.trimmed)
          code(field.value)
        }
      }
    }
  }
}
