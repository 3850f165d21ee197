import JSON

/// The sections that show what a quantization lost and where, from the report that `zhinao-quantize` keeps beside its outputs.
package struct QuantizationSections {
  /// - Parameters:
  ///   - json: content of `OUTPUT.zhinao.report.json` or of a folder's `quantization_report.json`.
  ///   - path: its name, for messages.
  /// - Throws: ``JSONFieldError`` when it is something else, naming the field.
  package static func make(json: JSONValue, path: String, language: ReportLanguage) throws(JSONFieldError)
    -> [ReportSection]
  {
    let sections = QuantizationSections(saved: try SavedQuantization(json, path: path), language: language)
    return [sections.errors, sections.diagnosis] + sections.precision + [sections.recipe]
  }

  /// Numbers for a summary: modules, bits, loss, time.
  package static func keyFigures(json: JSONValue, path: String, language: ReportLanguage)
    throws(JSONFieldError)
    -> [KeyFigure]
  {
    try QuantizationSections(saved: SavedQuantization(json, path: path), language: language).keyFigures
  }

  private let saved: SavedQuantization
  private let language: ReportLanguage

  /// Modules that the table of the greatest losses lists.
  private static let listedModules = 12

  private func say(_ english: @autoclosure () -> String, _ chinese: @autoclosure () -> String) -> String {
    language.choose(english(), chinese())
  }

  /// Kinds of modules in the order of the report.
  private var kinds: [String] {
    var kinds: [String] = []
    var seen: Set<String> = []
    for module in saved.modules where seen.insert(module.kind).inserted { kinds.append(module.kind) }
    return kinds
  }

  /// The last part of a kind's name where that is unique.
  private var shortNames: [String: String] {
    let kinds = kinds
    let last = kinds.map { $0.bytes.split(separator: ".").last ?? $0 }
    let counts = Dictionary(last.map { ($0, 1) }, uniquingKeysWith: +)
    return Dictionary(uniqueKeysWithValues: zip(kinds, last).map { ($0, counts[$1] == 1 ? $1 : $0) })
  }

  /// As ``Diagnosis`` computes it.
  private var medians: [String: Double] {
    Dictionary(grouping: saved.modules, by: \.kind).mapValues { modules in
      let losses = modules.map(\.loss).sorted()
      return losses[losses.count / 2]
    }
  }

  private var keyFigures: [KeyFigure] {
    let groups = saved.recipe.first { $0.name == "group_size" }?.value
    var bits = KeyFigure(
      say("Bits per weight", "每权重比特数"), saved.bits.map(String.init) ?? "–",
      detail: groups.map { size in
        size == "-1" ? say("one group a row", "每行一组") : say("in groups of \(size)", "每组 \(size) 个权重")
      } ?? "")
    if let precision = saved.precision, precision.rounds.indices.contains(precision.writtenRound - 1) {
      bits.value = ReportNumber.fixed(precision.rounds[precision.writtenRound - 1].bitsPerWeight, decimals: 3)
      bits.detail = say("on average, scales included", "平均值，含缩放系数")
    }
    let attention = saved.diagnosis.count
    return [
      KeyFigure(
        say("Modules", "模块数"), "\(saved.modules.count)",
        detail: attention == 0
          ? say("none needs attention", "无需关注") : say("\(attention) need attention", "\(attention) 个需要关注")),
      bits,
      KeyFigure(
        say("Total loss", "总损失"), ReportNumber.significant(saved.totalLoss, digits: 4),
        detail: saved.method.uppercased()),
      KeyFigure(say("Time", "用时"), duration(saved.seconds)),
    ]
  }

  private func duration(_ seconds: Double) -> String {
    guard seconds < 1e9 else { return ReportNumber.significant(seconds) + " s" }
    let whole = Int(seconds.rounded())
    if seconds > 0, seconds < 1 { return ReportNumber.significant(seconds, digits: 2) + say(" s", " 秒") }
    if seconds < 59.5 { return ReportNumber.fixed(seconds, decimals: 1) + say(" s", " 秒") }
    if whole < 3600 { return say("\(whole / 60) min \(whole % 60) s", "\(whole / 60) 分 \(whole % 60) 秒") }
    return say("\(whole / 3600) h \(whole % 3600 / 60) min", "\(whole / 3600) 小时 \(whole % 3600 / 60) 分")
  }

  // MARK: Errors

  private var lossNote: String {
    saved.method == "rtn"
      ? say(
        "Without calibration text the loss is that of the weights alone: it grows with the square of their error.",
        "未使用校准文本时，损失只反映权重本身的误差，随误差的平方增长。")
      : say(
        "The loss is how much a module's squared output error grows, per calibration sequence; AutoGPTQ prints it as avg loss. Compare modules of one kind: different kinds have inputs of different size.",
        "损失表示模块输出平方误差的增量，按校准序列平均，即 AutoGPTQ 输出的 avg loss。只宜比较同类模块：不同类模块的输入大小不同。")
  }

  private var errors: ReportSection {
    ReportSection(
      say("Quantization error", "量化误差"), errorFigures + [kindTable, worstModules] + refinement)
  }

  private var errorFigures: [ReportBlock] {
    let layers = Set(saved.modules.compactMap(\.layer))
    guard layers.count > 1 else {
      let modules = saved.modules.prefix(60)
      return [
        .figure(
          ReportFigure(
            say("Loss by module", "各模块损失"), alternative: alternative,
            .bars(
              BarChart(
                axis: say("Loss", "损失"),
                bars: modules.map { BarChart.Bar($0.name, $0.loss, text: ReportNumber.significant($0.loss)) })
            ),
            note: lossNote))
      ]
    }
    let byKind = Dictionary(grouping: saved.modules, by: \.kind)
    let kinds = kinds
    let names = shortNames
    return stride(from: 0, to: kinds.count, by: LineChart.mostSeries).map { start in
      let shown = kinds[start..<min(kinds.count, start + LineChart.mostSeries)]
      let part = start == 0 ? "" : " (\(start / LineChart.mostSeries + 1))"
      return .figure(
        ReportFigure(
          say("Loss by layer and kind of module", "各层各类模块的损失") + part, alternative: alternative,
          .lines(
            LineChart(
              xAxis: say("Layer", "层"), yAxis: say("Loss, logarithmic", "损失（对数坐标）"), yScale: .logarithmic,
              series: shown.map { kind in
                LineChart.Series(
                  names[kind] ?? kind,
                  (byKind[kind] ?? []).compactMap { module in module.layer.map { (Double($0), module.loss) } }
                )
              })), note: lossNote))
    }
  }

  private var alternative: String {
    guard let worst = saved.modules.max(by: { $0.loss < $1.loss }) else {
      return say("There are no modules.", "没有模块。")
    }
    let loss = ReportNumber.significant(worst.loss)
    let least = ReportNumber.significant(saved.modules.map(\.loss).min() ?? 0)
    return say(
      "Losses of \(saved.modules.count) modules lie between \(least) and \(loss); the greatest is that of \(worst.name).",
      "\(saved.modules.count) 个模块的损失在 \(least) 至 \(loss) 之间，最大的是 \(worst.name)。")
  }

  private var kindTable: ReportBlock {
    let byKind = Dictionary(grouping: saved.modules, by: \.kind)
    let medians = medians
    let kinds = kinds
    func column(_ value: (String) -> Double) -> [String] { ReportNumber.column(kinds.map(value)) }
    let sums = column { (byKind[$0] ?? []).reduce(0) { $0 + $1.loss } }
    let middles = column { medians[$0] ?? 0 }
    let greatest = column { byKind[$0]?.map(\.loss).max() ?? 0 }
    return .table(
      ReportTable(
        say("By kind of module", "按模块种类"),
        columns: [
          .text(say("Kind", "种类")), .number(say("Modules", "模块数")), .number(say("Sum of losses", "损失之和")),
          .number(say("Median", "中位数")), .number(say("Greatest", "最大值")), .number(say("Time", "用时")),
        ],
        rows: kinds.indices.map { place in
          let modules = byKind[kinds[place]] ?? []
          return [
            kinds[place], "\(modules.count)", sums[place], middles[place], greatest[place],
            duration(modules.reduce(0) { $0 + max(0, $1.seconds) }),
          ]
        }))
  }

  private var worstModules: ReportBlock {
    let medians = medians
    let worst = saved.modules.enumerated().sorted {
      ($1.element.loss, $0.offset) < ($0.element.loss, $1.offset)
    }
    .prefix(QuantizationSections.listedModules).map(\.element)
    let usesInputs = worst.contains { $0.inputs != nil }
    var columns: [ReportTable.Column] = [
      .text(say("Module", "模块")), .number(say("Loss", "损失")), .number(say("Times the median", "中位数的倍数")),
    ]
    if usesInputs {
      columns += [
        .number(say("Damping", "阻尼")), .number(say("Dead channels", "恒零通道")),
        .number(say("Rank / channels", "秩 / 通道")),
      ]
    }
    let losses = ReportNumber.column(worst.map(\.loss))
    let rows = zip(worst, losses).map { module, loss in
      let median = medians[module.kind] ?? 0
      var row = [
        module.name, loss,
        median > 0 ? ReportNumber.fixed(module.loss / median, decimals: 2) : "–",
      ]
      if usesInputs {
        let rank = module.inputs.map { "\($0.effectiveRank.map(String.init) ?? "–") / \($0.channels)" }
        row += ["\(module.damp)", "\(module.deadChannels)", rank ?? "–"]
      }
      return row
    }
    return .table(
      ReportTable(
        say("Modules with the greatest loss", "损失最大的模块"), columns: columns, rows: rows,
        note: say(
          "Times the median of the same kind of module in all layers.", "倍数以所有层中同类模块的中位数为基准。")))
  }

  private var refinement: [ReportBlock] {
    let refined = saved.modules.filter { $0.refinement != nil }
    guard !refined.isEmpty else { return [] }
    let byKind = Dictionary(grouping: refined, by: \.kind)
    let rows = kinds.compactMap { kind -> [String]? in
      guard let modules = byKind[kind] else { return nil }
      let before = modules.reduce(0) { $0 + ($1.refinement?.before ?? 0) }
      let after = modules.reduce(0) { $0 + ($1.refinement?.after ?? 0) }
      return [
        kind, ReportNumber.significant(before), ReportNumber.significant(after),
        before > 0 && after.isFinite
          ? ReportNumber.fixed(100 * (after / before - 1), decimals: 1) + " %" : "–",
      ]
    }
    return [
      .table(
        ReportTable(
          say("Refinement, on windows that were kept out", "精修（在保留的窗口上测量）"),
          columns: [
            .text(say("Kind", "种类")), .number(say("Before", "之前")), .number(say("After", "之后")),
            .number(say("Change", "变化")),
          ], rows: rows))
    ]
  }

  // MARK: Diagnosis

  private var diagnosis: ReportSection {
    var blocks: [ReportBlock] = warnings.map { .callout(.warning, $0) }
    if saved.diagnosis.isEmpty {
      blocks.append(
        .paragraph(
          say(
            "No module needs attention: none has a loss above ten times the median of its kind, and no Hessian needed more damping than the recipe gives.",
            "没有需要关注的模块：没有模块的损失超过同类中位数的十倍，也没有 Hessian 矩阵需要额外阻尼。")))
    } else {
      let modules = Dictionary(saved.modules.map { ($0.name, $0) }) { first, _ in first }
      let medians = medians
      blocks.append(
        .table(
          ReportTable(
            say("Modules that need attention", "需要关注的模块"),
            columns: [.text(say("Module", "模块")), .text(say("Findings", "发现"))],
            rows: saved.diagnosis.map { finding in
              let module = modules[finding.module]
              let found =
                language == .english
                ? finding.findings : module.map { chineseFindings($0, median: medians[$0.kind] ?? 0) }
              return [finding.module, (found ?? finding.findings).joined(separator: say("; ", "；"))]
            })))
    }
    return ReportSection(say("Diagnosis", "诊断"), blocks)
  }

  private var warnings: [String] {
    var warnings: [String] = []
    let raised = saved.modules.count { $0.wasDampRaised }
    if raised > 0 {
      warnings.append(
        say(
          "Damping was raised in \(raised) \(raised == 1 ? "module, whose Hessian is" : "modules, whose Hessians are") not positive definite with the recipe's. More calibration text avoids this.",
          "有 \(raised) 个模块的 Hessian 矩阵在给定阻尼下不是正定的，因此加大了阻尼。增加校准文本可以避免。"))
    }
    if saved.modules.contains(where: \.hasShortGroup) {
      warnings.append(
        say(
          "The last group of some modules is shorter than the others: AutoGPTQ's exllama and vLLM's Marlin kernels refuse such files.",
          "部分模块的最后一组比其他组短：AutoGPTQ 的 exllama 和 vLLM 的 Marlin 内核会拒绝这样的文件。"))
    }
    let dead = sum(\.deadChannels)
    if dead > 0 {
      warnings.append(
        say(
          "\(dead) input channels were always zero; their weights became 0.", "有 \(dead) 个输入通道恒为零，其权重被置为 0。"))
    }
    let tiny = sum(\.subnormalScales)
    if tiny > 0 {
      warnings.append(
        say(
          "\(tiny) scales are below half precision's normal range and are stored coarsely.",
          "有 \(tiny) 个缩放系数低于半精度的规格化范围，存储精度较低。"))
    }
    return warnings
  }

  /// Without an overflow, whatever a file says.
  private func sum(_ count: (SavedQuantization.Module) -> Int) -> Int {
    saved.modules.reduce(0) { $0.addingReportingOverflow(count($1)).partialValue }
  }

  /// What the report says in English, from the same numbers.
  private func chineseFindings(_ module: SavedQuantization.Module, median: Double) -> [String] {
    var found: [String] = []
    if median > 0, module.loss > 10 * median {
      found.append(
        "损失是 \(module.kind) 中位数的 \(ReportNumber.fixed(module.loss / median, decimals: 0)) 倍")
    }
    if module.wasDampRaised { found.append("阻尼被提高到 \(module.damp)") }
    guard let inputs = module.inputs else { return found }
    if inputs.tokens < inputs.channels {
      found.append(
        "\(inputs.tokens) 个词元对 \(inputs.channels) 个通道，H 的秩不超过 \(inputs.tokens)；请使用 \((inputs.channels + inputs.tokens - 1) / max(1, inputs.tokens)) 倍的校准文本"
      )
    }
    if inputs.dead > 0 { found.append("\(inputs.dead) 个通道恒为零") }
    if inputs.duplicates > 0 { found.append("\(inputs.duplicates) 个通道是其他通道的倍数") }
    if let rank = inputs.effectiveRank, rank * 2 < inputs.channels {
      found.append("\(inputs.channels) 个通道中只有 \(rank) 个的独立方差高于阻尼")
    }
    if inputs.outliers > 0 {
      let strength = inputs.strongest.map { "（最强的为能量中位数的 \(ReportNumber.fixed($0, decimals: 0)) 倍）" } ?? ""
      found.append("\(inputs.outliers) 个离群通道\(strength)")
    }
    return found
  }

  // MARK: Mixed precision

  /// Ends of modules' names, and what a recipe calls them.
  private static let recipeKinds: [(suffix: String, kind: String)] = [
    ("qkv_proj", "fusedQKV"), ("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"),
    ("o_proj", "attentionOutput"), ("gate_proj", "gate"), ("up_proj", "up"), ("down_proj", "down"),
    ("attention.self.query", "query"), ("attention.self.key", "key"), ("attention.self.value", "value"),
    ("attention.output.dense", "attentionOutput"), ("intermediate.dense", "intermediate"),
    ("output.dense", "output"),
  ]

  private var precision: [ReportSection] {
    guard saved.precision != nil || !saved.overrides.isEmpty else { return [] }
    var blocks: [ReportBlock] = []
    if let precision = saved.precision { blocks += choiceBlocks(precision) }
    if !saved.overrides.isEmpty { blocks += bitBlocks }
    return [ReportSection(say("Mixed precision", "混合精度"), blocks)]
  }

  /// Bits by layer and kind; what the picture has no place for stands in a table.
  private var bitBlocks: [ReportBlock] {
    let own = Dictionary(saved.overrides.map { ($0.key, $0.bits) }) { first, _ in first }
    var used: Set<String> = []
    let names = shortNames
    let layers = Set(saved.modules.compactMap(\.layer)).sorted()
    let layered = Set(saved.modules.filter { $0.layer != nil }.map(\.kind))
    let kinds = kinds.filter(layered.contains)
    // A grid that is mostly empty is no picture, and may be too large for one.
    let hasGrid = !layers.isEmpty && kinds.count <= (4 * saved.modules.count + 100) / layers.count
    let rowOfLayer = Dictionary(uniqueKeysWithValues: layers.enumerated().map { ($1, $0) })
    let columnOfKind = Dictionary(uniqueKeysWithValues: kinds.enumerated().map { ($1, $0) })
    var values = layers.map { _ in [Double?](repeating: nil, count: hasGrid ? kinds.count : 0) }
    for module in saved.modules where hasGrid {
      guard let layer = module.layer, let row = rowOfLayer[layer], let column = columnOfKind[module.kind]
      else {
        continue
      }
      let kind = QuantizationSections.recipeKinds.first { module.kind.bytes.hasSuffix($0.suffix) }?.kind
      let key = "\(layer).\(kind ?? module.kind)"
      if own[key] != nil { used.insert(key) }
      values[row][column] = (own[key] ?? saved.bits).map(Double.init)
    }
    var blocks: [ReportBlock] = []
    if hasGrid {
      blocks.append(
        .figure(
          ReportFigure(
            say("Bits by layer and kind of module", "各层各类模块的比特数"),
            alternative: say(
              "\(saved.overrides.count) of \(saved.modules.count) modules have other settings than the recipe's \(saved.bits.map(String.init) ?? "–") bits.",
              "\(saved.modules.count) 个模块中有 \(saved.overrides.count) 个的设置不同于方案的 \(saved.bits.map(String.init) ?? "–") 比特。"
            ),
            .heatMap(
              HeatMap(
                columnAxis: say("Kind of module", "模块种类"), columns: kinds.map { names[$0] ?? $0 },
                rowAxis: say("Layer", "层"),
                rows: layers.map(String.init), values: values, range: 2...8, decimals: 0)))))
    }
    let others = saved.overrides.filter { !used.contains($0.key) }
    if !others.isEmpty {
      blocks.append(
        .table(
          ReportTable(
            say("Other modules with settings of their own", "其他单独设置的模块"),
            columns: [
              .text(say("Module", "模块")), .number(say("Bits", "比特")), .number(say("Group size", "组大小")),
            ],
            rows: others.map { [$0.key, "\($0.bits)", "\($0.groupSize)"] })))
    }
    return blocks
  }

  private func choiceBlocks(_ precision: SavedQuantization.Precision) -> [ReportBlock] {
    let target = "\(precision.target.value)"
    var blocks: [ReportBlock] = [
      .paragraph(
        precision.target.isDivergence
          ? say(
            "Bits of single modules were chosen for a mean KL divergence of \(target) nats per token from the float model, measured on \(precision.heldOutTokens) tokens that were kept out of calibration.",
            "各模块的比特数按与浮点模型的平均 KL 散度为每词元 \(target) 纳特来选择，在未用于校准的 \(precision.heldOutTokens) 个词元上测量。")
          : say(
            "Bits of single modules were chosen for the least loss at an average of \(target) bits per weight, measured on \(precision.heldOutTokens) tokens that were kept out of calibration.",
            "各模块的比特数按平均每权重 \(target) 比特时损失最小来选择，在未用于校准的 \(precision.heldOutTokens) 个词元上测量。"))
    ]
    if !precision.isReached {
      blocks.append(
        .callout(
          .warning,
          say(
            "The divergence that was asked for was not reached to within a tenth.", "未能将散度控制在目标值的十分之一以内。")))
    }
    blocks.append(
      .table(
        ReportTable(
          say("Rounds", "各轮结果"),
          columns: [
            .number(say("Round", "轮次")), .number(say("Bits per weight", "每权重比特数")),
            .number(say("Predicted KL", "预测 KL")), .number(say("Measured KL", "实测 KL")), .text(""),
          ],
          rows: precision.rounds.enumerated().map { number, round in
            [
              "\(number + 1)", ReportNumber.fixed(round.bitsPerWeight, decimals: 3),
              ReportNumber.significant(round.predicted),
              round.measured.map { ReportNumber.significant($0) } ?? "–",
              number + 1 == precision.writtenRound ? say("written", "写入文件") : "",
            ]
          })))
    blocks.append(
      .table(
        ReportTable(
          say("Settings to choose from", "可选设置"),
          columns: [
            .number(say("Bits", "比特")), .number(say("Group size", "组大小")),
            .number(say("Chosen, stages", "选用（阶段数）")),
            .number(say("Bits per weight if everywhere", "全部采用时每权重比特数")),
            .number(say("Predicted KL if everywhere", "全部采用时预测 KL")),
          ],
          rows: precision.choices.map {
            [
              "\($0.bits)", "\($0.groupSize)", "\($0.stages)",
              ReportNumber.fixed($0.uniformBits, decimals: 3),
              ReportNumber.significant($0.uniformPredicted),
            ]
          }, note: say("A stage is the projections of a layer that share an input.", "阶段指一层中共用同一输入的投影。"))))
    return blocks
  }

  // MARK: Recipe

  private var recipe: ReportSection {
    var blocks: [ReportBlock] = [.fields(saved.recipe.map { ReportField($0.name, $0.value) })]
    if let calibration = saved.calibration, calibration.windows > 0 || !calibration.sources.isEmpty {
      blocks.append(.heading(say("Calibration text", "校准文本")))
      blocks.append(
        .fields([
          ReportField(say("Tokens", "词元数"), "\(calibration.tokens)"),
          ReportField(say("Windows", "窗口数"), "\(calibration.windows)"),
          ReportField(say("SHA-256 of the tokens", "词元的 SHA-256"), calibration.sha256),
        ]))
      if !calibration.sources.isEmpty {
        blocks.append(
          .table(
            ReportTable(
              columns: [
                .text(say("File", "文件")), .text(say("Content", "内容")), .number(say("Records", "记录数")),
                .number(say("Windows", "窗口数")), .number(say("Tokens", "词元数")),
              ],
              rows: calibration.sources.map {
                [$0.path, $0.kind, "\($0.records)", "\($0.windows)", "\($0.tokens)"]
              })))
      }
    }
    if !saved.generator.isEmpty {
      blocks.append(.paragraph(say("Quantized by \(saved.generator).", "量化工具：\(saved.generator)。")))
    }
    return ReportSection(say("Recipe", "量化方案"), blocks)
  }
}
