import Files
import Terminal

extension Report {
  /// Text for a terminal: tables padded to their columns, figures as their tables.
  package var text: String {
    let phrases = ReportPhrases.of(language)
    var parts = [subtitle.isEmpty ? title : "\(title)\n\(subtitle)"]
    parts += summary.map(terminalText)
    for section in sections {
      parts.append(TextReport.heading(section.heading))
      parts += section.blocks.map(terminalText)
    }
    if !reproduction.isEmpty {
      parts.append(TextReport.heading(phrases.reproduction))
      if !reproductionNote.isEmpty { parts.append(reproductionNote) }
      parts.append(TextReport.fields(reproduction))
    }
    return parts.joined(separator: "\n\n") + "\n"
  }

  private func terminalText(_ block: ReportBlock) -> String {
    let phrases = ReportPhrases.of(language)
    switch block {
    case .heading(let title): return title
    case .paragraph(let text), .code(let text): return text
    case .keyFigures(let figures):
      return TextReport.aligned(figures.map { [$0.label, $0.value, $0.detail] }, numbers: [1])
    case .table(let table): return TextReport.table(table, phrases)
    case .figure(let figure):
      return
        ([figure.title, TextReport.table(figure.table(language), phrases)]
        + (figure.note.isEmpty ? [] : [figure.note]))
        .joined(separator: "\n")
    case .fields(let fields): return TextReport.fields(fields)
    case .callout(let kind, let text):
      return (kind == .warning ? phrases.warning : phrases.note) + phrases.colon + text
    case .items(let items):
      return items.map { item in
        ([item.title + (item.mark.isEmpty ? "" : " (\(item.mark))")]
          + item.fields.map { "  \($0.name)\(phrases.colon)" + $0.value.visibleLine })
          .joined(separator: "\n")
      }.joined(separator: "\n")
    }
  }
}

private enum TextReport {
  static func heading(_ title: String) -> String {
    title + "\n" + String(repeating: "─", count: max(3, TextWidth.of(title)))
  }

  static func fields(_ fields: [ReportField]) -> String {
    aligned(fields.map { [$0.name, $0.value.visibleLine] }, numbers: [])
  }

  static func table(_ table: ReportTable, _ phrases: ReportPhrases) -> String {
    var parts = table.caption.isEmpty ? [] : [table.caption]
    if table.rows.isEmpty {
      parts.append(phrases.empty)
    } else {
      let numbers = table.columns.indices.filter { table.columns[$0].alignment == .trailing }
      parts.append(
        aligned(
          ([table.columns.map(\.title)] + table.rows).map { $0.map(\.visibleLine) }, numbers: Set(numbers)))
    }
    if !table.note.isEmpty { parts.append(table.note) }
    return parts.joined(separator: "\n")
  }

  /// Columns padded to their widest cell, those of `numbers` on their left.
  static func aligned(_ rows: [[String]], numbers: Set<Int>) -> String {
    var widths: [Int] = []
    for row in rows {
      for (column, cell) in row.enumerated() {
        if column == widths.count { widths.append(0) }
        widths[column] = max(widths[column], TextWidth.of(cell))
      }
    }
    return rows.map { row in
      var line = ""
      for (column, cell) in row.enumerated() {
        let fill = String(repeating: " ", count: widths[column] - TextWidth.of(cell))
        if column > 0 { line += "  " }
        line += numbers.contains(column) ? fill + cell : cell + fill
      }
      while line.utf8.last == UInt8(ascii: " ") { line.removeLast() }
      return line
    }.joined(separator: "\n")
  }
}
