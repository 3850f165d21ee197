import Foundation
import Reports
import Testing

#if canImport(FoundationXML)
  import FoundationXML
#endif

/// What pages say of themselves; `Tests/External/Reports` opens them in a browser.
@Suite struct HTMLReportTests {
  /// Opening and closing tags match, attributes are in quotes, and no entity is unknown.
  private func isWellFormed(_ html: String) -> Bool {
    guard html.hasPrefix("<!DOCTYPE html>\n") else { return false }
    return XMLParser(data: Data(html.dropFirst("<!DOCTYPE html>\n".count).utf8)).parse()
  }

  private func count(_ part: String, in text: String) -> Int { text.components(separatedBy: part).count - 1 }

  @Test(arguments: ReportLanguage.allCases)
  func pagesAreWellFormedAndTheSameEachTime(language: ReportLanguage) {
    let report = SampleReport.make(language)
    #expect(isWellFormed(report.html))
    #expect(report.html == SampleReport.make(language).html)
    #expect(report.html.contains("<html lang=\"\(language == .english ? "en" : "zh-Hans")\">"))
  }

  @Test func nothingRunsAndNothingIsLoaded() {
    let html = SampleReport.make(.english).html
    for part in ["<script", "<img", "<link", "<iframe", "<object", " onload", " src=\"", "url(", "@import"] {
      #expect(!html.contains(part), "\(part)")
    }
    // The namespace of SVG is no address that anything asks.
    #expect(count("http", in: html) == count("xmlns=\"http://www.w3.org/2000/svg\"", in: html) + 1)
    #expect(
      html.contains(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src &#39;none&#39;; style-src"))
  }

  /// Each picture has a title, a description and a table behind it; there is one for wide screens and one for phones.
  @Test func everyFigureHasTextAndNumbers() {
    let html = SampleReport.make(.english).html
    let figures = count("<figure>", in: html)
    #expect(figures == 7)
    #expect(count("<svg ", in: html) == 2 * figures)
    #expect(count("role=\"img\"", in: html) == 2 * figures)
    #expect(count("<desc id=", in: html) == 2 * figures)
    #expect(count("<summary>The numbers of this figure</summary>", in: html) == figures)
  }

  private static let attack = "\"|><script>alert(1)</script>'&lt;\u{0}\u{1B}[2J\u{202E}\u{FFFE}\r\n"

  /// A report in which every text comes from a stranger.
  private var hostile: Report {
    let text = HTMLReportTests.attack
    let figures: [ReportFigure.Kind] = [
      .heatMap(
        HeatMap(columnAxis: text, columns: [text, text], rowAxis: text, rows: [text], values: [[1, .nan]])),
      .intervals(
        IntervalChart(
          axis: text, series: [text, text],
          rows: [.init(text, .init(1, low: 0, high: 2), .init(.infinity)), .init(text)])),
      .lines(LineChart(xAxis: text, yAxis: text, series: [.init(text, [(0, 1), (1, .nan), (2, 3)])])),
      .bars(
        BarChart(
          axis: text, bars: [.init(text, 1, text: text), .init(text, -.infinity)], reference: 2,
          referenceLabel: text)),
    ]
    return Report(
      title: text, subtitle: text, language: .english, generator: text,
      summary: [
        .keyFigures([KeyFigure(text, text, detail: text)]), .callout(.warning, text), .paragraph(text),
      ],
      sections: [
        ReportSection(
          text,
          [
            .heading(text), .code(text), .fields([ReportField(text, text)]),
            .table(
              ReportTable(
                text, columns: [.text(text), .number(text)], rows: [[text, text], [text]], note: text)),
            .items([ReportItem(text, mark: text, [ReportField(text, text)])]),
          ] + figures.map { .figure(ReportFigure(text, alternative: text, $0, note: text)) })
      ], reproduction: [ReportField(text, text)], reproductionNote: text)
  }

  @Test func textsOfStrangersStayText() {
    let html = hostile.html
    #expect(isWellFormed(html))
    #expect(!html.contains("<script"))
    #expect(html.contains("␀␛[2J[U+202E][U+FFFE]"))
    for scalar in html.unicodeScalars {
      #expect(scalar.value >= 0x20 || scalar == "\n" || scalar == "\t")
      #expect(!(0x202A...0x202E).contains(scalar.value))
    }
  }

  @Test func textsOfStrangersStayTextInMarkdown() {
    let markdown = hostile.markdown
    let outsideOfCode = markdown.components(separatedBy: "```").enumerated().filter { $0.offset % 2 == 0 }
      .map(\.element).joined()
    #expect(!outsideOfCode.replacingOccurrences(of: "\\<", with: "").contains("<script"))
    for line in markdown.split(separator: "\n") where line.hasPrefix("|") {
      // Each row keeps its number of cells.
      let bars = line.replacingOccurrences(of: "\\|", with: "").filter { $0 == "|" }.count
      #expect([3, 4, 6].contains(bars), "\(line)")
    }
  }

  /// Values at which arithmetic of axes could break.
  @Test(arguments: [
    [0.0, 0], [1e308, -1e308], [5e-324, 0], [1, 1 + 1e-15], [.nan, .infinity], [-3, -3], [1e-300, 1e300], [],
  ])
  func anyNumbersHaveAPicture(values: [Double]) {
    let points = values.enumerated().map { (x: $1, y: values[values.count - 1 - $0]) }
    for scale in [AxisScale.linear, .logarithmic] {
      let figures: [ReportFigure.Kind] = [
        .lines(LineChart(xAxis: "x", yAxis: "y", xScale: scale, yScale: scale, series: [.init("s", points)])),
        .bars(BarChart(axis: "x", bars: values.map { .init("b", $0) }, reference: values.first)),
        .intervals(
          IntervalChart(
            axis: "x", series: ["s"],
            rows: values.map { .init("r", .init($0, low: values.min(), high: values.max())) },
            reference: values.last)),
        .heatMap(HeatMap(columnAxis: "x", columns: ["1", "2"], rowAxis: "y", rows: ["1"], values: [values])),
      ]
      let report = Report(
        title: "t", language: .chinese, generator: "",
        sections: [ReportSection("s", figures.map { .figure(ReportFigure("f", alternative: "a", $0)) })])
      #expect(isWellFormed(report.html))
      #expect(!report.html.contains("=\"nan\"") && !report.html.contains("=\"inf\""))
      #expect(!report.markdown.isEmpty && !report.text.isEmpty)
    }
  }

  /// A value that an axis cannot show is missing in the picture, which says so, and stands in the table.
  @Test func valuesWithoutAPlaceAreCounted() {
    let chart = LineChart(
      xAxis: "x", yAxis: "y", yScale: .logarithmic, series: [.init("s", [(0, 1), (1, 0), (2, 10)])])
    let report = Report(
      title: "t", language: .english, generator: "",
      sections: [ReportSection("s", [.figure(ReportFigure("f", alternative: "a", .lines(chart)))])])
    #expect(report.html.contains("One value is not in the picture"))
    #expect(count("<td class=\"n\">", in: report.html) == 6)
  }

  @Test func longLinesAreThinnedInTheirTable() {
    let points = (0..<1000).map { (x: Double($0), y: Double($0)) }
    let figure = ReportFigure(
      "f", alternative: "a", .lines(LineChart(xAxis: "x", yAxis: "y", series: [.init("", points)])))
    #expect(figure.table(.english).rows.count == 100)
    #expect(figure.table(.english).note == "Every 10th of 1000 points.")
  }
}
