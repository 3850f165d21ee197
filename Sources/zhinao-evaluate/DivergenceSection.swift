import Evaluation
import Files
import Foundation
import Reports

/// Where two models differ along a text, as a section of a report.
struct DivergenceSection {
  private let comparison: Comparison
  private let path: String
  private let language: ReportLanguage

  init(_ comparison: Comparison, path: String, language: ReportLanguage) {
    self.comparison = comparison
    self.path = path
    self.language = language
  }

  private func say(_ english: String, _ chinese: String) -> String { language.choose(english, chinese) }
  private func number(_ value: Double, _ digits: Int = 4) -> String { String(format: "%.\(digits)f", value) }

  func make() -> ReportSection {
    var blocks: [ReportBlock] = [
      .keyFigures([
        KeyFigure(say("Perplexity, first model", "困惑度（第一个模型）"), number(comparison.reference, 3)),
        KeyFigure(say("Perplexity, second model", "困惑度（第二个模型）"), number(comparison.candidate, 3)),
        KeyFigure(
          say("Mean KL divergence", "平均 KL 散度"), number(comparison.meanKL),
          detail: say("nats per token", "奈特/词元")),
        KeyFigure(say("Same most likely token", "首选词元一致"), number(100 * comparison.top1Agreement, 2) + " %"),
      ]),
      .paragraph(
        say(
          "\(comparison.tokensScored) tokens of \(PathParts(path).name) in \(comparison.windows) windows.",
          "\(PathParts(path).name) 的 \(comparison.tokensScored) 个词元，共 \(comparison.windows) 个窗口。")),
    ]
    guard let profile = comparison.profile else {
      return ReportSection(say("Divergence along the text", "沿文本的散度"), blocks)
    }
    if profile.slices.count > 1 { blocks.append(.figure(slices(profile))) }
    blocks.append(.table(positions(profile)))
    if let classes = profile.classes, !classes.isEmpty { blocks.append(.table(kinds(classes))) }
    blocks.append(.table(overlaps(profile)))
    if !profile.worst.isEmpty {
      blocks.append(.heading(say("The largest divergences", "散度最大的位置")))
      blocks.append(.items(profile.worst.map(item)))
    }
    return ReportSection(say("Divergence along the text", "沿文本的散度"), blocks)
  }

  private func slices(_ profile: DivergenceProfile) -> ReportFigure {
    let values = profile.slices.map(\.sums.meanKL)
    return ReportFigure(
      say("Mean KL divergence along the text", "沿文本的平均 KL 散度"),
      alternative: say(
        "\(values.count) slices of the text, in its order; means lie between \(number(values.min() ?? 0)) and "
          + "\(number(values.max() ?? 0)) nats per token.",
        "按文本顺序的 \(values.count) 段；平均值介于 \(number(values.min() ?? 0)) 与 \(number(values.max() ?? 0)) 奈特/词元之间。"),
      .lines(
        LineChart(
          xAxis: say("Token of the text", "文本中的词元位置"),
          yAxis: say("KL divergence, nats per token", "KL 散度（奈特/词元）"),
          series: [
            .init(
              say("second model", "第二个模型"),
              profile.slices.map { (Double($0.tokens.lowerBound + $0.tokens.upperBound) / 2, $0.sums.meanKL) }
            )
          ])))
  }

  private var columns: [ReportTable.Column] {
    [
      .number(say("Tokens", "词元数")), .number(say("Mean KL", "平均 KL")),
      .number(say("Same top token, %", "首选一致，%")),
      .number(say("Perplexity, first", "困惑度（一）")), .number(say("Perplexity, second", "困惑度（二）")),
    ]
  }

  private func cells(_ sums: DivergenceSums) -> [String] {
    [
      "\(sums.count)", number(sums.meanKL), number(100 * sums.top1Agreement, 2),
      number(sums.referencePerplexity, 3),
      number(sums.candidatePerplexity, 3),
    ]
  }

  private func positions(_ profile: DivergenceProfile) -> ReportTable {
    ReportTable(
      say("By tokens of context", "按上文长度"), columns: [.text(say("Context", "上文"))] + columns,
      rows: profile.positions.map { ["\($0.context.lowerBound)–\($0.context.upperBound)"] + cells($0.sums) })
  }

  private func kinds(_ classes: [DivergenceProfile.Class]) -> ReportTable {
    ReportTable(
      say("By kind of token", "按词元类别"), columns: [.text(say("Kind", "类别"))] + columns,
      rows: classes.map { [name($0.tokenClass)] + cells($0.sums) })
  }

  private func name(_ kind: TokenClass) -> String {
    switch kind {
    case .latinWordStart: say("start of a Latin word", "拉丁单词开头")
    case .latinContinuation: say("rest of a Latin word", "拉丁单词其余部分")
    case .ideographs: say("CJK ideographs", "汉字")
    case .digits: say("digits", "数字")
    case .punctuation: say("punctuation and symbols", "标点与符号")
    case .whitespace: say("white space", "空白")
    case .special: say("special tokens", "特殊词元")
    case .partialCharacter: say("part of a character", "字符片段")
    case .other: say("other", "其他")
    }
  }

  private func overlaps(_ profile: DivergenceProfile) -> ReportTable {
    ReportTable(
      say("Overlap of the most likely tokens", "高概率词元重合度"),
      columns: [.number("k"), .number(say("Mean overlap, %", "平均重合，%"))],
      rows: profile.overlaps.map { ["\($0.k)", number(100 * $0.mean, 2)] })
  }

  private func item(_ position: DivergentPosition) -> ReportItem {
    func predictions(_ tokens: [DivergentPosition.Token]) -> String {
      tokens.map { "\($0.text ?? "\($0.id)") \(number($0.probability, 3))" }.joined(separator: " · ")
    }
    return ReportItem(
      say("Token \(position.index)", "词元 \(position.index)"), mark: "KL \(number(position.divergence, 3))",
      [
        ReportField(
          say("Context", "上文"), position.context ?? position.contextIDs.map { "\($0)" }.joined(separator: " ")
        ),
        ReportField(
          say("Next in the text", "文本中的下一词元"),
          "\(position.target.text ?? "\(position.target.id)") (\(number(position.target.reference, 3)) → "
            + "\(number(position.target.candidate, 3)))"),
        ReportField(say("First model", "第一个模型"), predictions(position.reference)),
        ReportField(say("Second model", "第二个模型"), predictions(position.candidate)),
      ])
  }
}
