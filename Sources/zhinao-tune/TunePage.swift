import Files
import Foundation
import Reports
import ToolSupport
import Training
import Tuning

/// What `--report-html` writes.
struct TunePage {
  private let tuning: AdapterTuning
  private let prepared: AdapterTuning.Prepared
  private let outcome: AdapterTuning.Outcome
  private let model: String
  private let plan: TuneText.Plan
  private let language: ReportLanguage
  /// Points of a line at most.
  private static let mostPoints = 400

  init(
    _ tuning: AdapterTuning, _ prepared: AdapterTuning.Prepared, _ outcome: AdapterTuning.Outcome,
    model: String, plan: TuneText.Plan, language: ReportLanguage
  ) {
    self.tuning = tuning
    self.prepared = prepared
    self.outcome = outcome
    self.model = model
    self.plan = plan
    self.language = language
  }

  private var result: TuningJob.Result { outcome.result }

  func report() throws -> Report {
    let name = PathParts(model).name
    return Report(
      title: language.choose("Tuning of \(name)", "\(name) 的微调"), subtitle: outcome.folder,
      language: language, generator: ToolVersion.generator, summary: [.keyFigures(keyFigures)],
      sections: [losses, settings, data, resources],
      reproduction: Reproduction.fields(language) + [
        ReportField(language.choose("Model", "模型"), model),
        ReportField(language.choose("SHA-256 of the rows", "训练数据行的 SHA-256"), prepared.data.digest),
      ] + (try Reproduction.digests(of: ["\(outcome.folder)/\(AdapterFolder.weightsName)"])),
      reproductionNote: language.choose(
        "With the same model, data, program and options, the adapter comes out the same on every machine, "
          + "with any number of threads, and however often the run was interrupted.",
        "使用相同的模型、数据、程序和选项，无论在何种机器、使用多少线程、中断多少次，得到的适配器都相同。"))
  }

  private var keyFigures: [KeyFigure] {
    let steps = TuneText.losses(result)
    var figures: [KeyFigure] = []
    if let first = steps.first, let last = steps.last {
      figures.append(
        KeyFigure(
          language.choose("Training loss", "训练损失"), TuneText.number(last.loss),
          detail: language.choose(
            "\(TuneText.number(first.loss)) at the first step", "第一步为 \(TuneText.number(first.loss))")))
    }
    if let best = result.state.best, let first = TuneText.validations(result).first {
      figures.append(
        KeyFigure(
          language.choose("Validation loss", "验证损失"), TuneText.number(best.loss),
          detail: language.choose(
            "\(TuneText.number(first.loss)) before, after step \(best.step)",
            "训练前为 \(TuneText.number(first.loss))，第 \(best.step) 步之后")))
    }
    figures.append(
      KeyFigure(
        language.choose("Speed", "速度"),
        language.choose(
          "\(Format.number(TuneText.tokensPerSecond(result), digits: 0)) tokens/s",
          "\(Format.number(TuneText.tokensPerSecond(result), digits: 0)) 词元/秒"),
        detail: Format.duration(result.state.seconds)))
    return figures
  }

  // MARK: Sections

  /// A mean of neighbours, so that long runs stay legible.
  private func thinned(_ points: [(x: Double, y: Double)]) -> [(x: Double, y: Double)] {
    let size = (points.count - 1) / TunePage.mostPoints + 1
    guard size > 1 else { return points }
    return stride(from: 0, to: points.count, by: size).map { first in
      let some = points[first..<min(points.count, first + size)]
      return (some[some.endIndex - 1].x, some.reduce(0) { $0 + $1.y } / Double(some.count))
    }
  }

  private var losses: ReportSection {
    let steps = TuneText.losses(result)
    let validations = TuneText.validations(result)
    let size = steps.isEmpty ? 1 : (steps.count - 1) / TunePage.mostPoints + 1
    var series = [
      LineChart.Series(
        language.choose("training", "训练"), thinned(steps.map { (Double($0.step), $0.loss) }))
    ]
    if !validations.isEmpty {
      series.append(
        LineChart.Series(
          language.choose("validation", "验证"), validations.map { (Double($0.step), $0.loss) }))
    }
    let axis = language.choose("Optimizer step", "优化步")
    func figure(_ title: String, _ what: String, _ yAxis: String, _ series: [LineChart.Series]) -> ReportBlock
    {
      .figure(
        ReportFigure(
          title, alternative: what, .lines(LineChart(xAxis: axis, yAxis: yAxis, series: series)),
          note: size > 1
            ? language.choose("Each point is the mean of \(size) steps.", "每个点是 \(size) 步的平均值。") : ""))
    }
    var blocks = [
      figure(
        language.choose("Loss", "损失"),
        language.choose(
          "The loss of training and validation by optimizer step.", "训练与验证损失随优化步的变化。"),
        language.choose("Loss, nats a token", "损失（每词元，nat）"), series),
      figure(
        language.choose("Learning rate", "学习率"),
        language.choose("The learning rate by optimizer step.", "学习率随优化步的变化。"),
        language.choose("Learning rate", "学习率"),
        [
          LineChart.Series(
            language.choose("learning rate", "学习率"),
            thinned(steps.map { (Double($0.step), $0.learningRate) }))
        ]),
      figure(
        language.choose("Gradient norm", "梯度范数"),
        language.choose(
          "The norm of all gradients before it is limited, by optimizer step.", "裁剪前的全局梯度范数随优化步的变化。"),
        language.choose("Norm", "范数"),
        [
          LineChart.Series(
            language.choose("gradient norm", "梯度范数"),
            thinned(steps.map { (Double($0.step), $0.gradientNorm) }))
        ]),
    ]
    if result.keptStep == 0, result.state.step > 0 {
      blocks.insert(
        .callout(
          .warning,
          language.choose(
            "No validation loss was smaller than before the training: the adapter has its first values.",
            "没有一次验证损失低于训练之前：适配器保持初始值。")), at: 0)
    }
    return ReportSection(language.choose("Course", "过程"), blocks)
  }

  private var settings: ReportSection {
    let options = tuning.options
    let recipe = tuning.recipe
    let betas = "\(recipe.optimizer.beta1), \(recipe.optimizer.beta2)"
    let fields: [ReportField] = [
      ReportField(
        language.choose("Rank, alpha", "秩，alpha"),
        "\(options.rank), \(TuneText.plain(options.alpha))\(options.isRankStabilized ? ", rsLoRA" : "")"),
      ReportField(language.choose("Dropout", "Dropout"), TuneText.plain(options.dropout)),
      ReportField(
        language.choose("Targets", "目标模块"),
        AdapterFolder(options: options, parameters: prepared.adapter.parameters, baseModel: model)
          .targets.joined(separator: ", ")),
      ReportField(
        language.choose("Trained values", "可训练参数"),
        "\(prepared.adapter.parameters.reduce(0) { $0 + $1.count })"),
      ReportField(
        language.choose("Optimizer steps", "优化步数"),
        language.choose(
          "\(result.state.step) of \(result.length.totalSteps), each of \(recipe.batchSize) × \(recipe.accumulation) rows",
          "\(result.state.step) / \(result.length.totalSteps)，每步 \(recipe.batchSize) × \(recipe.accumulation) 行"
        )),
      ReportField(
        language.choose("Learning rate", "学习率"),
        language.choose(
          "\(recipe.learningRate), \(recipe.schedule.rawValue), \(result.length.warmUpSteps) steps of warm-up",
          "\(recipe.learningRate)，\(recipe.schedule.rawValue)，预热 \(result.length.warmUpSteps) 步")),
      ReportField("AdamW", "β \(betas), ε \(recipe.optimizer.epsilon)"),
      ReportField(language.choose("Weight decay", "权重衰减"), TuneText.plain(recipe.optimizer.weightDecay)),
      ReportField(
        language.choose("Gradient norm at most", "梯度范数上限"), TuneText.plain(recipe.maximumGradientNorm)),
      ReportField(language.choose("Seed", "随机种子"), "\(recipe.seed)"),
      ReportField(
        language.choose("Values of", "参数取自"),
        language.choose("step \(result.keptStep)", "第 \(result.keptStep) 步")),
    ]
    return ReportSection(language.choose("Settings", "设置"), [.fields(fields)])
  }

  private var data: ReportSection {
    let rows = prepared.data.report.sources.map { source in
      [
        source.path, "\(source.records)", "\(source.leftOut.count)", "\(source.rows)",
        "\(source.validationRows)", "\(source.tokens)", "\(source.countedLabels)", "\(source.longest)",
      ]
    }
    return ReportSection(
      language.choose("Data", "数据"),
      [
        .table(
          ReportTable(
            columns: [
              .text(language.choose("File", "文件")), .number(language.choose("Records", "记录")),
              .number(language.choose("Left out", "略过")), .number(language.choose("Rows", "行")),
              .number(language.choose("Validation", "验证")), .number(language.choose("Tokens", "词元")),
              .number(language.choose("Learned", "计入损失")), .number(language.choose("Longest", "最长")),
            ], rows: rows))
      ] + prepared.data.report.notes.map { .callout(.note, $0) })
  }

  private var resources: ReportSection {
    ReportSection(
      language.choose("Time and memory", "用时与内存"),
      [
        .table(
          ReportTable(
            columns: [
              .text(language.choose("Resource", "资源")), .number(language.choose("Measured", "实测")),
              .number(language.choose("Planned", "计划")),
            ],
            rows: [
              [
                language.choose("Time", "用时"), Format.duration(result.state.seconds),
                plan.seconds.map(Format.duration) ?? "–",
              ],
              [
                language.choose("Peak memory", "内存峰值"), Format.bytes(ProcessMemory.peakResidentBytes),
                Format.bytes(plan.memoryBytes),
              ],
            ]))
      ])
  }
}
