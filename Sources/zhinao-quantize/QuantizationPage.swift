import Files
import Quantization
import Reports
import ToolSupport

/// What `--report-html` writes.
enum QuantizationPage {
  /// - Parameter plan: what was expected of the job.
  static func report(
    _ result: QuantizationJob.Result, model: String, plan: QuantizationPlan?, language: ReportLanguage
  ) throws -> Report {
    let json = result.report.json
    let paths = result.written.map(\.path)
    let name = PathParts(model).name
    var summary: [ReportBlock] = [
      .keyFigures(try QuantizationSections.keyFigures(json: json, path: model, language: language))
    ]
    if !result.report.diagnosis.isEmpty {
      summary.append(
        .callout(
          .warning,
          language.choose(
            "Some modules need attention: see the diagnosis below.", "部分模块需要关注，见下文“诊断”。")))
    }
    return try Report(
      title: language.choose("Quantization of \(name)", "\(name) 的量化"),
      subtitle: paths.joined(separator: ", "),
      language: language, generator: ToolVersion.generator, summary: summary,
      sections: QuantizationSections.make(json: json, path: model, language: language) + [
        resources(result, plan: plan, language)
      ],
      reproduction: Reproduction.fields(language) + [
        ReportField(language.choose("Model", "模型"), model),
        ReportField(
          language.choose("SHA-256 of the calibration tokens", "校准词元的 SHA-256"),
          result.report.calibration.digest),
      ] + Reproduction.digests(of: paths),
      reproductionNote: language.choose(
        "With the same model, calibration text, program and options, the weights come out the same on every machine.",
        "使用相同的模型、校准文本、程序和选项，在任何机器上得到的权重都相同。"))
  }

  private static func resources(
    _ result: QuantizationJob.Result, plan: QuantizationPlan?, _ language: ReportLanguage
  ) -> ReportSection {
    var rows = [
      [
        language.choose("Time", "用时"), Format.duration(result.seconds),
        plan.map { Format.duration($0.seconds) } ?? "–",
      ],
      [
        language.choose("Peak memory", "内存峰值"), Format.bytes(ProcessMemory.peakResidentBytes),
        plan.map { Format.bytes($0.peakMemoryBytes) } ?? "–",
      ],
    ]
    if let plan, plan.scratchBytes > 0 {
      rows.append([language.choose("Scratch file", "临时文件"), "–", Format.bytes(plan.scratchBytes)])
    }
    let note =
      result.resumedLayers == 0
      ? ""
      : language.choose(
        "\(result.resumedLayers) layers were finished by an earlier run, and are not part of the measured time.",
        "有 \(result.resumedLayers) 层由之前的运行完成，不计入实测用时。")
    return ReportSection(
      language.choose("Time and memory", "用时与内存"),
      [
        .table(
          ReportTable(
            columns: [
              .text(language.choose("Resource", "资源")), .number(language.choose("Measured", "实测")),
              .number(language.choose("Planned", "计划")),
            ], rows: rows, note: note))
      ])
  }
}
