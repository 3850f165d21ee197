/// The fixed words of reports, in both languages.
struct ReportPhrases: Sendable {
  var contents: String
  var summary: String
  var reproduction: String
  var warning: String
  var note: String
  var numbers: String
  var madeBy: String
  var empty: String
  var value: String
  var low: String
  var high: String
  var item: String
  var colon: String
  /// How a list of points is thinned out: `(every, of)`.
  var thinned: @Sendable (_ step: Int, _ count: Int) -> String
  var leftOut: @Sendable (_ count: Int) -> String

  static func of(_ language: ReportLanguage) -> ReportPhrases { language == .english ? english : chinese }

  private static let english = ReportPhrases(
    contents: "Contents", summary: "Summary", reproduction: "How to repeat it",
    warning: "Warning", note: "Note", numbers: "The numbers of this figure", madeBy: "Made by",
    empty: "No data.",
    value: "value", low: "low", high: "high", item: "item", colon: ": ",
    thinned: { "Every \($0)th of \($1) points." },
    leftOut: {
      $0 == 1
        ? "One value is not in the picture, as its axis cannot show it."
        : "\($0) values are not in the picture, as its axis cannot show them."
    })

  private static let chinese = ReportPhrases(
    contents: "目录", summary: "摘要", reproduction: "如何复现",
    warning: "警告", note: "说明", numbers: "此图的数据", madeBy: "生成工具：", empty: "无数据。",
    value: "值", low: "下限", high: "上限", item: "项目", colon: "：",
    thinned: { "共 \($1) 个点，每 \($0) 个列出一个。" }, leftOut: { "有 \($0) 个值无法在坐标轴上表示，未画入图中。" })
}
