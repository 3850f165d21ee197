import Reports
import Testing

@Suite struct MarkdownReportTests {
  @Test func figuresAreTables() {
    let chart = IntervalChart(
      axis: "Accuracy, %", series: ["bf16", "int4"],
      rows: [.init("law", .init(60, low: 50.5, high: 70), .init(59)), .init("art", nil, .init(40))])
    let report = Report(
      title: "A | b", language: .english, generator: "tool 1",
      sections: [
        ReportSection("S", [.figure(ReportFigure("F", alternative: "Two subjects.", .intervals(chart)))])
      ])
    #expect(
      report.markdown == """
        # A \\| b

        ## S

        ### F

        Two subjects.

        *Accuracy, %*

        | item | bf16 | bf16, low | bf16, high | int4 |
        | --- | ---: | ---: | ---: | ---: |
        | law | 60 | 50.5 | 70 | 59 |
        | art | – | – | – | 40 |

        Made by tool 1

        """)
  }

  @Test func textThatLooksLikeMarkdownIsText() {
    let report = Report(
      title: "t", language: .english, generator: "",
      summary: [.paragraph("# no heading\n1. no list\n- none\n*not* `code` <b>"), .code("a ``` b")])
    #expect(
      report.markdown.contains("\\# no heading  \n1\\. no list  \n\\- none  \n\\*not\\* \\`code\\` \\<b\\>"))
    #expect(report.markdown.contains("````text\na ``` b\n````"))
  }

  @Test func cellsKeepTheirLinesInTables() {
    let report = Report(
      title: "t", language: .chinese, generator: "",
      summary: [.table(ReportTable(columns: [.text("a"), .number("b")], rows: [["x\ny|z"]]))])
    #expect(report.markdown.contains("| x<br>y\\|z |  |"))
  }

  /// Chinese characters take two columns on a terminal.
  @Test func tablesAreAlignedOnTerminals() {
    let report = Report(
      title: "t", language: .chinese, generator: "",
      summary: [
        .table(ReportTable(columns: [.text("科目"), .number("分")], rows: [["法学", "7"], ["a", "12.5"]]))
      ])
    #expect(report.text == "t\n\n科目    分\n法学     7\na     12.5\n")
  }
}
