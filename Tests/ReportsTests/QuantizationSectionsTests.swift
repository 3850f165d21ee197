import JSON
import Reports
import Testing

@Suite struct QuantizationSectionsTests {
  private static func module(_ layer: Int, _ name: String, loss: JSONValue) -> JSONValue {
    [
      "module": .string("model.layers.\(layer).\(name)"), "avg_loss": loss, "seconds": 0.5,
      "damp_percent": 0.01,
      "dead_channels": 0, "subnormal_scales": 0, "short_last_group": false, "warnings": [],
      "inputs": [
        "tokens": 10, "channels": 20, "effective_rank": 9, "dead_count": 0, "duplicate_count": 0,
        "outlier_count": 1,
        "outliers": [["channel": 3, "energy_over_median": 250.4]],
      ],
    ]
  }

  private static func report(_ changes: [(String, JSONValue?)] = []) -> JSONValue {
    var report = JSONObject([
      ("generator", "tool"),
      (
        "recipe",
        [
          "method": "gptq", "bits": 4, "group_size": 128,
          "modules": ["1.down": ["bits": 8, "group_size": 32]],
        ]
      ),
      ("calibration", ["tokens": 100, "windows": 2, "sha256": "ab", "sources": []]), ("seconds", 61),
      ("total_loss", 10),
      (
        "diagnosis",
        [["module": "model.layers.1.mlp.down_proj", "findings": ["its loss is 12 times the median"]]]
      ),
      (
        "modules",
        .array(
          (0..<4).flatMap { layer in
            [
              module(layer, "mlp.up_proj", loss: .init(Double(layer + 1))),
              module(layer, "mlp.down_proj", loss: layer == 1 ? 24 : 2),
            ]
          })
      ),
    ])
    for (key, value) in changes { report[key] = value }
    return .object(report)
  }

  private func sections(_ json: JSONValue, _ language: ReportLanguage = .english) throws -> [ReportSection] {
    try QuantizationSections.make(json: json, path: "q.json", language: language)
  }

  @Test func errorsBitsAndDiagnosisAreShown() throws {
    let sections = try sections(QuantizationSectionsTests.report())
    #expect(sections.map(\.heading) == ["Quantization error", "Diagnosis", "Mixed precision", "Recipe"])
    guard case .figure(let figure)? = sections[0].blocks.first, case .lines(let chart) = figure.kind else {
      Issue.record("no lines")
      return
    }
    #expect(chart.series.map(\.name) == ["up_proj", "down_proj"])
    #expect(chart.series[1].points.map(\.y) == [2, 24, 2, 2])
    #expect(figure.alternative.contains("model.layers.1.mlp.down_proj"))
    guard case .figure(let bits)? = sections[2].blocks.first, case .heatMap(let map) = bits.kind else {
      Issue.record("no grid")
      return
    }
    #expect(map.values == [[4, 4], [4, 8], [4, 4], [4, 4]])
  }

  /// The sentences of a report are English; Chinese pages say the same from its numbers.
  @Test func findingsAreTranslated() throws {
    let sections = try sections(QuantizationSectionsTests.report(), .chinese)
    guard case .table(let table)? = sections[1].blocks.last else {
      Issue.record("no table")
      return
    }
    let finding = try #require(table.rows.first?.last)
    #expect(finding.contains("12 倍") && finding.contains("10 个词元对 20 个通道") && finding.contains("250 倍"))
    #expect(!finding.contains("median"))
  }

  @Test func lossesThatAreNotFiniteHaveAPlace() throws {
    let modules: JSONValue = .array(
      (0..<3).map { QuantizationSectionsTests.module($0, "x", loss: $0 == 1 ? nil : 1) })
    let json = QuantizationSectionsTests.report([("modules", modules), ("total_loss", nil)])
    let figures = try QuantizationSections.keyFigures(json: json, path: "q.json", language: .english)
    #expect(figures[2].value == "∞")
    let report = Report(title: "t", language: .english, generator: "", sections: try sections(json))
    #expect(report.html.contains("One value is not in the picture"))
  }

  @Test(
    arguments: [
      ("modules", nil, "is not a report of zhinao-quantize"),
      ("modules", ["x"], "modules[0] is not a JSON object"),
      ("modules", [["module": 3]], "modules[0].module is 3, expected a string"),
      ("modules", [[:]], "modules[0].module is missing"),
      ("recipe", 3, "recipe is not a JSON object"),
      ("recipe", [:], "recipe.method is missing"),
      ("recipe", ["method": "gptq", "modules": ["x": ["bits": 99]]], "recipe.modules.x.bits is 99"),
      ("calibration", ["tokens": "x"], "calibration.tokens is \"x\""),
      ("diagnosis", 1, "diagnosis is 1, expected an array of objects"),
      ("seconds", -1, "seconds is -1"),
      ("precision", ["target_kl": 1, "written_round": "x"], "precision.written_round is \"x\""),
    ] as [(String, JSONValue?, String)])
  func otherDocumentsAreRefused(key: String, value: JSONValue?, message: String) {
    let json = QuantizationSectionsTests.report([(key, value)])
    let error = #expect(throws: JSONFieldError.self) { try sections(json) }
    #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
    #expect(error?.category == .badInput)
  }

  @Test(arguments: [nil, 1, "x", []] as [JSONValue])
  func valuesThatAreNoObjectAreRefused(json: JSONValue) {
    #expect(throws: JSONFieldError.self) { try sections(json) }
  }

  /// One module without a layer, and a recipe for a module that there is not.
  @Test func oddReportsAreShown() throws {
    let json = QuantizationSectionsTests.report([
      ("modules", [["module": "lm_head", "avg_loss": 1]]), ("diagnosis", nil), ("calibration", nil),
    ])
    let report = Report(title: "t", language: .english, generator: "", sections: try sections(json))
    #expect(report.html.contains("lm_<wbr/>head") || report.html.contains("lm_head"))
    #expect(report.text.contains("Other modules with settings of their own"))
    let empty = QuantizationSectionsTests.report([("modules", [])])
    #expect(
      !Report(title: "t", language: .english, generator: "", sections: try sections(empty)).html.isEmpty)
  }
}
