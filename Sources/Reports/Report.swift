/// The language of a report: of its fixed words, and of what its makers write into it.
package enum ReportLanguage: String, CaseIterable, Sendable {
  case english = "en"
  case chinese = "zh"

  /// One of two texts.
  package func choose(_ english: @autoclosure () -> String, _ chinese: @autoclosure () -> String) -> String {
    self == .english ? english() : chinese()
  }
}

/// What a run found, for people: text, tables and figures that become terminal text (``text``), Markdown (``markdown``) or one
/// HTML file (``html``). The same report always gives the same bytes.
///
/// Strings are plain text, of whatever content: renderers escape them. They are in the language of the report.
package struct Report: Sendable {
  package var title: String
  /// What was examined, a line.
  package var subtitle: String
  package var language: ReportLanguage
  /// The program that made it, with its version.
  package var generator: String
  /// What someone who reads no further should know.
  package var summary: [ReportBlock]
  package var sections: [ReportSection]
  /// Everything needed to repeat it: command, versions, digests, recipe.
  package var reproduction: [ReportField]
  /// What a repetition will agree in.
  package var reproductionNote: String

  package init(
    title: String, subtitle: String = "", language: ReportLanguage, generator: String,
    summary: [ReportBlock] = [], sections: [ReportSection] = [], reproduction: [ReportField] = [],
    reproductionNote: String = ""
  ) {
    self.title = title
    self.subtitle = subtitle
    self.language = language
    self.generator = generator
    self.summary = summary
    self.sections = sections
    self.reproduction = reproduction
    self.reproductionNote = reproductionNote
  }
}

package struct ReportSection: Sendable {
  package var heading: String
  package var blocks: [ReportBlock]

  package init(_ heading: String, _ blocks: [ReportBlock]) {
    self.heading = heading
    self.blocks = blocks
  }
}

/// A piece of a section.
package enum ReportBlock: Sendable {
  /// A heading below the section's.
  case heading(String)
  /// Line ends are kept.
  case paragraph(String)
  case keyFigures([KeyFigure])
  case table(ReportTable)
  case figure(ReportFigure)
  /// Names and values, one a line.
  case fields([ReportField])
  /// Text in a fixed pitch, for example a command.
  case code(String)
  case callout(CalloutKind, String)
  /// Questions, answers and other long texts, folded in HTML.
  case items([ReportItem])

  package enum CalloutKind: Sendable {
    case note
    case warning
  }
}

/// A number that is shown large, with its unit: `62.4 %`.
package struct KeyFigure: Sendable {
  package var label: String
  package var value: String
  /// What stands below the number, for example its interval.
  package var detail: String

  package init(_ label: String, _ value: String, detail: String = "") {
    self.label = label
    self.value = value
    self.detail = detail
  }
}

package struct ReportField: Sendable, Equatable {
  package var name: String
  package var value: String

  package init(_ name: String, _ value: String) {
    self.name = name
    self.value = value
  }
}

/// Something with long texts, for example a question whose answers differ.
package struct ReportItem: Sendable {
  package var title: String
  /// A word or two beside the title, for example what changed.
  package var mark: String
  package var tone: Tone
  /// Texts with their names, for example the question and both answers.
  package var fields: [ReportField]

  package enum Tone: Sendable {
    case neutral
    case good
    case bad
  }

  package init(_ title: String, mark: String = "", tone: Tone = .neutral, _ fields: [ReportField]) {
    self.title = title
    self.mark = mark
    self.tone = tone
    self.fields = fields
  }
}

package struct ReportTable: Sendable {
  package var caption: String
  package var columns: [Column]
  /// A row has at most as many cells as there are columns; those that it lacks are empty.
  package var rows: [[String]]
  /// What stands below the table.
  package var note: String

  package struct Column: Sendable {
    package var title: String
    package var alignment: Alignment

    package enum Alignment: Sendable {
      case leading
      case trailing
    }

    package static func text(_ title: String) -> Column { Column(title: title, alignment: .leading) }
    /// Numbers are aligned at their ends: give them the same number of decimals.
    package static func number(_ title: String) -> Column { Column(title: title, alignment: .trailing) }
  }

  package init(_ caption: String = "", columns: [Column], rows: [[String]], note: String = "") {
    self.caption = caption
    self.columns = columns
    self.rows = rows
    self.note = note
  }
}
