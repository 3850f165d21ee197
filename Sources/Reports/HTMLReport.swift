extension Report {
  /// One HTML file that loads nothing and runs nothing: styles and figures stand in it, for light and dark screens, narrow ones and
  /// paper.
  package var html: String {
    var page = HTMLPage(report: self)
    return page.make()
  }
}

private struct HTMLPage {
  let report: Report
  let phrases: ReportPhrases
  private var out = Markup()
  private var figures = 0

  /// A policy that lets a page do nothing but style itself, should anything in it ever escape its quotes.
  static let policy =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

  init(report: Report) {
    self.report = report
    phrases = ReportPhrases.of(report.language)
  }

  mutating func make() -> String {
    let sections =
      (report.summary.isEmpty ? [] : [ReportSection(phrases.summary, report.summary)]) + report.sections
    out.raw("<!DOCTYPE html>\n")
    out.raw(
      "<html lang=\"\(report.language == .english ? "en" : "zh-Hans")\">\n<head>\n<meta charset=\"utf-8\"/>\n"
    )
    for (key, value) in [
      ("http-equiv", ("Content-Security-Policy", HTMLPage.policy)),
      ("name", ("viewport", "width=device-width, initial-scale=1")), ("name", ("color-scheme", "light dark")),
      ("name", ("referrer", "no-referrer")), ("name", ("generator", report.generator)),
    ] {
      out.empty("meta", [key: value.0, "content": value.1])
      out.newLine()
    }
    out.element("title", text: report.title)
    out.raw("\n<style>\n\(ReportStyle.css)</style>\n</head>\n<body>\n")
    header()
    contents(sections.map(\.heading))
    out.raw("<main>\n")
    for (number, section) in sections.enumerated() {
      let isSummary = number == 0 && !report.summary.isEmpty
      open(number, section.heading, isSummary ? "summary" : "")
      for block in section.blocks { add(block) }
      out.raw("</section>\n")
    }
    if !report.reproduction.isEmpty {
      open(sections.count, phrases.reproduction, "reproduction")
      if !report.reproductionNote.isEmpty { paragraph(report.reproductionNote) }
      fields(report.reproduction)
      out.raw("</section>\n")
    }
    out.raw("</main>\n")
    if !report.generator.isEmpty {
      out.element("footer") { $0.element("p", text: "\(phrases.madeBy) \(report.generator)") }
      out.newLine()
    }
    out.raw("</body>\n</html>\n")
    return out.text
  }

  private mutating func header() {
    out.element("header") {
      $0.element("h1", text: report.title)
      if !report.subtitle.isEmpty {
        $0.element("p", ["class": "subtitle", "dir": "auto"], text: report.subtitle)
      }
    }
    out.newLine()
  }

  private mutating func contents(_ headings: [String]) {
    let all = headings + (report.reproduction.isEmpty ? [] : [phrases.reproduction])
    guard all.count > 2 else { return }
    out.element("nav", ["aria-label": phrases.contents]) {
      $0.element("ol") {
        for (number, heading) in all.enumerated() {
          $0.element("li") { $0.element("a", ["href": "#s\(number)"], text: heading) }
        }
      }
    }
    out.newLine()
  }

  private mutating func open(_ number: Int, _ heading: String, _ kind: String) {
    out.raw("<section\(kind.isEmpty ? "" : " class=\"\(kind)\"") aria-labelledby=\"s\(number)\">\n")
    out.element("h2", ["id": "s\(number)"], text: heading)
    out.newLine()
  }

  // MARK: Blocks

  private mutating func add(_ block: ReportBlock) {
    switch block {
    case .heading(let title): out.element("h3", text: title)
    case .paragraph(let text): paragraph(text)
    case .keyFigures(let figures): keyFigures(figures)
    case .table(let content): table(content)
    case .figure(let figure): self.figure(figure)
    case .fields(let content): fields(content)
    case .code(let text): out.element("pre", ["class": "code", "dir": "ltr", "tabindex": "0"], text: text)
    case .callout(let kind, let text):
      out.element("div", ["class": kind == .warning ? "callout warning" : "callout", "role": "note"]) {
        $0.element("strong", text: kind == .warning ? phrases.warning : phrases.note)
        $0.element("p", ["dir": "auto"], text: text)
      }
    case .items(let items): for item in items { self.item(item) }
    }
    out.newLine()
  }

  private mutating func paragraph(_ text: String) { out.element("p", ["dir": "auto"], text: text) }

  private mutating func keyFigures(_ figures: [KeyFigure]) {
    // Rows of three where that fills them and rows of four would not be filled.
    let isByThree = figures.count % 3 == 0 && figures.count % 4 != 0 || figures.count == 5
    out.element("dl", ["class": isByThree ? "key three" : "key"]) {
      for figure in figures {
        $0.element("div") {
          $0.element("dt", text: figure.label)
          $0.element("dd") { $0.isolate(figure.value) }
          if !figure.detail.isEmpty { $0.element("dd", ["class": "detail"], text: figure.detail) }
        }
      }
    }
  }

  private mutating func fields(_ fields: [ReportField]) {
    out.element("dl", ["class": "fields"]) {
      for field in fields {
        $0.element("div") {
          $0.element("dt", text: field.name)
          $0.element("dd", ["dir": "auto"], text: field.value)
        }
      }
    }
  }

  private mutating func item(_ item: ReportItem) {
    out.element("details", ["class": "item"]) {
      $0.element("summary") {
        $0.element("span", ["class": "title"]) { $0.isolate(item.title.visibleLine) }
        guard !item.mark.isEmpty else { return }
        let tone =
          switch item.tone {
          case .neutral: "mark"
          case .good: "mark good"
          case .bad: "mark bad"
          }
        $0.element("span", ["class": tone], text: item.mark)
      }
      $0.element("dl") {
        for field in item.fields {
          $0.element("dt", text: field.name)
          $0.element("dd", ["dir": "auto"], text: field.value)
        }
      }
    }
  }

  // MARK: Tables and figures

  private mutating func table(_ table: ReportTable) { HTMLPage.table(table, phrases, &out) }

  private static func table(_ table: ReportTable, _ phrases: ReportPhrases, _ out: inout Markup) {
    guard !table.rows.isEmpty, !table.columns.isEmpty else {
      out.element(
        "p", text: table.caption.isEmpty ? phrases.empty : table.caption + phrases.colon + phrases.empty)
      return
    }
    let name = table.caption.isEmpty ? phrases.numbers : table.caption
    // A box that scrolls must be reached with the keyboard.
    out.element("div", ["class": "scroll", "role": "region", "aria-label": name, "tabindex": "0"]) {
      $0.element("table") {
        if !table.caption.isEmpty { $0.element("caption", text: table.caption) }
        $0.element("thead") {
          $0.element("tr") {
            for column in table.columns {
              let isLong = column.title.unicodeScalars.split(separator: " ").contains {
                $0.count > longestHeadingWord
              }
              let alignment = column.alignment == .trailing ? "n" : "t"
              $0.element("th", ["scope": "col", "class": isLong ? "\(alignment) long" : alignment]) {
                $0.isolate(column.title)
              }
            }
          }
        }
        $0.newLine()
        $0.element("tbody") {
          for row in table.rows {
            $0.element("tr") {
              for (place, column) in table.columns.enumerated() {
                let cell = place < row.count ? row[place] : ""
                if column.alignment == .trailing {
                  $0.element("td", ["class": "n"]) { $0.isolate(cell) }
                } else if place == 0 {
                  $0.element("th", ["scope": "row"]) { $0.isolateBreakable(cell) }
                } else if isShort(cell) {
                  $0.element("td", ["class": "s"]) { $0.isolate(cell) }
                } else {
                  $0.element("td") { $0.isolateBreakable(cell) }
                }
              }
            }
            $0.newLine()
          }
        }
      }
    }
    if !table.note.isEmpty { out.element("p", ["class": "small"], text: table.note) }
  }

  /// Words, intervals and other short texts with numbers stay on one line.
  private static func isShort(_ cell: String) -> Bool {
    let count = cell.unicodeScalars.count
    let hasDigit = cell.utf8.contains { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    return count <= 8 || count <= 20 && hasDigit
  }

  private mutating func figure(_ figure: ReportFigure) {
    figures += 1
    let drawing = FigureDrawing(figure, language: report.language)
    let narrow = FigureDrawing(figure, language: report.language, isNarrow: true)
    let numbers = figure.table(report.language)
    let id = "f\(figures)"
    out.element("figure") {
      $0.element("h3", text: figure.title)
      if drawing.isEmpty {
        $0.element("p", text: phrases.empty)
      } else {
        $0.element(
          "div", ["class": "picture", "role": "region", "aria-label": figure.title, "tabindex": "0"]
        ) {
          drawing.write(id: id, kind: "wide", to: &$0)
          narrow.write(id: id + "n", kind: "narrow", to: &$0)
        }
      }
      if !figure.note.isEmpty || drawing.leftOut > 0 {
        $0.element("figcaption") {
          if !figure.note.isEmpty { $0.element("p", ["dir": "auto"], text: figure.note) }
          if drawing.leftOut > 0 { $0.element("p", text: phrases.leftOut(drawing.leftOut)) }
        }
      }
      $0.element("details") {
        $0.element("summary", text: phrases.numbers)
        HTMLPage.table(numbers, phrases, &$0)
      }
    }
  }
}

/// Characters of a word in the head of a table that is not broken on paper: longer ones would push columns off the page.
private let longestHeadingWord = 14
