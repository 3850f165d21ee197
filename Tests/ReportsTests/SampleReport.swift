import Foundation
import Reports

/// Reports with every kind of block and figure, in both languages; also what `Tests/External/Reports` looks at.
enum SampleReport {
  static func make(_ language: ReportLanguage) -> Report {
    func say(_ english: String, _ chinese: String) -> String { language.choose(english, chinese) }
    return Report(
      title: say("What quantization to 4 bits costs 360Zhinao2-7B", "360Zhinao2-7B 量化到 4 比特的代价"),
      subtitle: say(
        "zhinao2-7b-int4.zhinao beside zhinao2-7b (bfloat16), on C-Eval, CMMLU and needle in a haystack",
        "zhinao2-7b-int4.zhinao 与 zhinao2-7b（bfloat16）在 C-Eval、CMMLU 和大海捞针上的对比"),
      language: language, generator: "zhinao-toolchain 1.0",
      summary: [
        .keyFigures([
          KeyFigure(
            say("C-Eval accuracy, bf16", "C-Eval 准确率，bf16"), "62.4 %",
            detail: say("60.1 to 64.7", "60.1 至 64.7")),
          KeyFigure(
            say("C-Eval accuracy, 4 bits", "C-Eval 准确率，4 比特"), "61.8 %",
            detail: say("59.5 to 64.1", "59.5 至 64.1")),
          KeyFigure(
            say("Difference", "差异"), "−0.6 %",
            detail: say("−1.5 to 0.3, not significant", "−1.5 至 0.3，不显著")),
          KeyFigure(say("Needles found", "大海捞针"), "97.9 %", detail: say("47 of 48", "48 个中的 47 个")),
        ]),
        .paragraph(
          say(
            "On 1,346 questions the two models answer 1,298 alike. Of the 48 that changed, 28 were right before and 20 are right now; McNemar's exact test gives p = 0.31, so that chance alone explains the difference.",
            "在 1346 道题中，两个模型有 1298 道题的作答结果相同。其余 48 道题中，28 道由对变错，20 道由错变对；McNemar 精确检验的 p = 0.31，即该差异可以仅由偶然性解释。"
          )),
        .callout(
          .warning,
          say(
            "Questions of college_physics were cut by --limit 50: the interval of this subject is wide.",
            "college_physics 的题目因 --limit 50 只取了一部分，因此该科目的置信区间较宽。")),
        .callout(
          .note, say("Intervals are 95 % intervals of a paired bootstrap.", "区间为配对自助法的 95% 置信区间。")),
      ],
      sections: [
        accuracy(say), needle(say), divergence(say), speed(say), items(say),
      ],
      reproduction: [
        ReportField(
          say("Command", "命令"),
          "zhinao-evaluate choices ceval/ --model zhinao2-7b --compare zhinao2-7b-int4.zhinao --shots 5 --limit 50 --report report.html"
        ), ReportField(say("Program", "程序"), "zhinao-evaluate 1.0 (x86_64, avx512_bf16, 16 threads)"),
        ReportField(
          "SHA-256, zhinao2-7b-int4.zhinao",
          "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
        ReportField(
          say("Recipe", "量化方案"),
          "{\"method\":\"gptq\",\"bits\":4,\"group_size\":128,\"sym\":true,\"token_weights\":\"fisher\"}"),
      ],
      reproductionNote: say(
        "With the same files, program and options, the same numbers come out.", "使用相同的文件、程序和选项，会得到相同的数字。"))
  }

  private typealias Say = (_ english: String, _ chinese: String) -> String

  private static func accuracy(_ say: Say) -> ReportSection {
    let subjects = [
      ("computer_network", "计算机网络"), ("operating_system", "操作系统"), ("college_physics", "大学物理"),
      ("high_school_chinese", "高中语文"), ("modern_chinese_history", "近代史"), ("law", "法学"),
      ("art_studies", "艺术学"),
      ("probability_and_statistics_of_the_second_year_with_a_long_name", "概率统计（名称很长很长的科目，用来检验标签截断）"),
    ]
    let rows = subjects.enumerated().map { number, names in
      let value = 48 + Double(number * 37 % 29)
      return IntervalChart.Row(
        say(names.0, names.1), .init(value, low: value - 6, high: value + 5.5),
        number == 6 ? nil : .init(value - 1.3, low: value - 7.1, high: value + 4.4))
    }
    return ReportSection(
      say("Accuracy", "准确率"),
      [
        .figure(
          ReportFigure(
            say("Accuracy by subject", "各科目准确率"),
            alternative: say(
              "Accuracy of both models in eight subjects with 95 % intervals, which overlap in each.",
              "两个模型在八个科目上的准确率及 95% 置信区间，每个科目的区间都重叠。"),
            .intervals(
              IntervalChart(
                axis: say("Accuracy, %", "准确率（%）"), series: ["bf16", say("4 bits", "4 比特")],
                rows: [IntervalChart.Row(say("STEM", "理工科"))] + rows, reference: 25, decimals: 1)),
            note: say("The dashed line is chance.", "虚线为随机猜测的准确率。"))),
        .figure(
          ReportFigure(
            say("Difference by subject", "各科目差异"), alternative: say("Differences around zero.", "差异在零附近。"),
            .intervals(
              IntervalChart(
                axis: say("Difference, percentage points", "差异（百分点）"), series: [""],
                rows: subjects.prefix(4).enumerated().map { number, names in
                  .init(
                    say(names.0, names.1),
                    .init(Double(number) - 1.5, low: Double(number) - 4, high: Double(number) + 1.25))
                }, reference: 0)))),
        .table(
          ReportTable(
            say("Results of all tasks", "所有任务的结果"),
            columns: [
              .text(say("Task", "任务")), .number(say("Items", "题数")), .number("bf16"),
              .number(say("4 bits", "4 比特")),
              .number(say("Difference", "差异")), .number(say("95 % interval", "95% 区间")), .number("p"),
            ],
            rows: [
              ["C-Eval", "1346", "62.4", "61.8", "−0.6", "−1.5 … 0.3", "0.31"],
              ["CMMLU", "11582", "63.0", "62.7", "−0.3", "−0.6 … 0.0", "0.06"],
              ["MMLU", "14042", "59.1", "58.8", "−0.3", "−0.5 … −0.1", "0.01"],
              ["GSM8K", "1319", "48.7", "46.9", "−1.8", "−3.1 … −0.5", "0.006"],
            ], note: say("p is that of McNemar's exact test.", "p 值来自 McNemar 精确检验。"))),
      ])
  }

  private static func needle(_ say: Say) -> ReportSection {
    let lengths = [1000, 2000, 4000, 8000, 16000, 32000, 64000, 128_000, 200_000, 360_000]
    let depths = [0, 11, 22, 33, 44, 56, 67, 78, 89, 100]
    let values = depths.indices.map { depth in
      lengths.indices.map { length -> Double? in
        length == 9 && depth > 6
          ? nil : max(0, 100 - Double((length * depth * 7) % 31) - (length > 7 ? 37 : 0))
      }
    }
    return ReportSection(
      say("Needle in a haystack", "大海捞针"),
      [
        .figure(
          ReportFigure(
            say("Score by length and depth", "各长度与深度的得分"),
            alternative: say(
              "Scores are above 69 up to 128,000 tokens and fall to between 32 and 63 at 360,000 tokens.",
              "在 12.8 万个词元以内得分都高于 69，在 36 万个词元时降到 32 至 63。"),
            .heatMap(
              HeatMap(
                columnAxis: say("Context length, tokens", "上下文长度（词元）"), columns: lengths.map { "\($0)" },
                rowAxis: say("Depth, %", "深度（%）"), rows: depths.map { "\($0)" }, values: values,
                range: 0...100,
                decimals: 0)))),
        .figure(
          ReportFigure(
            say("Bits of modules", "各模块比特数"),
            alternative: say("Down projections have 8 bits.", "down 投影为 8 比特。"),
            .heatMap(
              HeatMap(
                columnAxis: say("Module", "模块"),
                columns: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
                rowAxis: say("Layer", "层"), rows: (0..<6).map(String.init),
                values: (0..<6).map { layer in (0..<7).map { $0 == 6 || layer == 0 ? 8 : 4 } }, range: 2...8))
          )),
      ])
  }

  private static func divergence(_ say: Say) -> ReportSection {
    let kinds = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    let divergence = (0..<300).map { place -> (x: Double, y: Double) in
      let wave: Double = sin(Double(place) / 9) * cos(Double(place) / 31)
      return (Double(place * 8), 0.05 + 0.04 * wave)
    }
    let errors = kinds.enumerated().map { kind, name in
      let points = (0..<32).map { layer -> (x: Double, y: Double) in
        let growth: Double = exp(Double(layer) / 6) * Double(kind + 1)
        return (Double(layer), 0.002 * growth * (layer % 5 == 3 ? 1.4 : 1))
      }
      return LineChart.Series(name, points)
    }
    return ReportSection(
      say("Divergence and error", "散度与误差"),
      [
        .figure(
          ReportFigure(
            say("KL divergence along the text", "沿文本的 KL 散度"),
            alternative: say("It is between 0.01 and 0.1 nats throughout.", "始终在 0.01 至 0.1 纳特之间。"),
            .lines(
              LineChart(
                xAxis: say("Position, tokens", "位置（词元）"), yAxis: say("KL divergence, nats", "KL 散度（纳特）"),
                series: [.init("", divergence)])))),
        .figure(
          ReportFigure(
            say("Quantization error by layer", "各层量化误差"),
            alternative: say("The error grows with the layer in every kind of module.", "每类模块的误差都随层数增大。"),
            .lines(
              LineChart(
                xAxis: say("Layer", "层"), yAxis: say("Error, logarithmic", "误差（对数坐标）"), yScale: .logarithmic,
                series: errors)), note: say("Sum of the losses of a module, per sequence.", "各模块损失之和，按序列平均。"))
        ),
      ])
  }

  private static func speed(_ say: Say) -> ReportSection {
    ReportSection(
      say("Speed and memory", "速度与内存"),
      [
        .figure(
          ReportFigure(
            say("Generation speed", "生成速度"),
            alternative: say("4 bits are 3.4 times as fast.", "4 比特快 3.4 倍。"),
            .bars(
              BarChart(
                axis: say("Tokens per second", "词元每秒"),
                bars: [
                  .init("bf16", 7.8), .init(say("8 bits", "8 比特"), 14.1), .init(say("4 bits", "4 比特"), 26.4),
                ], reference: 29.8, referenceLabel: say("what the memory's bandwidth allows", "内存带宽允许的上限")))),
        ),
        .fields([
          ReportField(say("Time", "用时"), "1 h 12 min"), ReportField(say("Peak memory", "内存峰值"), "6.43 GB"),
        ]),
        .heading(say("Command", "命令")),
        .code(
          "zhinao-bench zhinao2-7b-int4.zhinao --prompt-tokens 512 --new-tokens 64 --repetitions 5 --json"),
      ])
  }

  private static func items(_ say: Say) -> ReportSection {
    ReportSection(
      say("Items that changed sides", "结果发生变化的题目"),
      [
        .items([
          ReportItem(
            "computer_network/17", mark: say("lost", "变错"), tone: .bad,
            [
              ReportField(
                say("Question", "题目"),
                "使用位填充方法，以 01111110 为位首 flag，数据为 011011111111111111110010，求问传送时要添加几个 0？\nA. 1\nB. 2\nC. 3\nD. 4"
              ),
              ReportField("bf16", "C"), ReportField(say("4 bits", "4 比特"), "B"),
            ]),
          ReportItem(
            "law/203 <script>alert(1)</script>", mark: say("gained", "变对"), tone: .good,
            [
              ReportField(
                say("Question", "题目"), "<img src=x onerror=alert(1)> \u{202E}txet\u{0007} مرحبا بالعالم"),
              ReportField("bf16", "A"), ReportField(say("4 bits", "4 比特"), "D"),
            ]),
        ])
      ])
  }
}
