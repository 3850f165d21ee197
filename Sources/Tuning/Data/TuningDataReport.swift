import Calibration
import Files
import JSON

/// What became of the training data.
package struct TuningDataReport: Equatable, Sendable {
  /// Records that were left out, by reason, in the order in which the reasons came up.
  package struct LeftOut: Equatable, Sendable {
    package struct Entry: Equatable, Sendable {
      package var problem: TuningDataProblem
      /// Of the first of them, for example `line 3`.
      package var place: String
      package var count: Int
    }
    package private(set) var reasons: [Entry] = []
    private var indices: [TuningDataProblem: Int] = [:]

    package init() {}

    package mutating func add(_ problem: TuningDataProblem, place: String) {
      if let index = indices[problem] {
        reasons[index].count += 1
      } else {
        indices[problem] = reasons.count
        reasons.append(Entry(problem: problem, place: place, count: 1))
      }
    }

    package var count: Int { reasons.reduce(0) { $0 + $1.count } }
  }

  package struct Source: Equatable, Sendable {
    package var path: String
    /// How often its rows come in an epoch; nil: once, or it is for validation.
    package var weight: Double?
    package var isForValidation: Bool
    package var format: TuningDataFormat
    /// For example `conversation` or `conversation+text`.
    package var kind: String
    /// Those that rows were made of.
    package var records: Int
    package var leftOut = LeftOut()
    /// How many records have a field that says nothing here, by its name.
    package var unusedFields: [ByteText: Int] = [:]
    /// Rows for learning, and those of it that were kept for validation.
    package var rows = 0
    package var validationRows = 0
    /// Of all rows.
    package var tokens = 0
    package var countedLabels = 0
    package var longest = 0
    /// Rows that were cut to the maximum, and tokens that they lost.
    package var cutRows = 0
    package var tokensCutOff = 0
  }
  package var sources: [Source]
  /// What a person should know, each a full sentence without its point.
  package var notes: [String]

  package init(sources: [Source] = [], notes: [String] = []) {
    self.sources = sources
    self.notes = notes
  }

  package var rows: Int { sources.reduce(0) { $0 + $1.rows } }
  package var validationRows: Int { sources.reduce(0) { $0 + $1.validationRows } }

  package var json: JSONValue {
    ["sources": .array(sources.map(\.json)), "notes": .array(notes.map { .string($0) })]
  }
}

extension TuningDataReport.Source {
  var json: JSONValue {
    let reasons = leftOut.reasons.map { entry -> JSONValue in
      [
        "reason": .string("\(entry.problem)"), "records": .init(entry.count), "first": .string(entry.place),
      ]
    }
    let unused = unusedFields.sorted { $0.key < $1.key }.map { ($0.key.text, JSONValue($0.value)) }
    return [
      "path": .string(path), "weight": .init(weight ?? 1), "validation": .bool(isForValidation),
      "format": .string(format.rawValue), "kind": .string(kind), "records": .init(records),
      "left_out": .array(reasons), "unused_fields": .object(JSONObject(unused)), "rows": .init(rows),
      "validation_rows": .init(validationRows), "tokens": .init(tokens),
      "counted_labels": .init(countedLabels), "longest_row": .init(longest), "cut_rows": .init(cutRows),
      "tokens_cut_off": .init(tokensCutOff),
    ]
  }
}
