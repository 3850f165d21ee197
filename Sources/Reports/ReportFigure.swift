/// A picture of numbers. Every renderer also shows the numbers as a table (``table(_:)``), or only that.
package struct ReportFigure: Sendable {
  package var title: String
  /// What the picture shows, in a sentence or two, for those who do not see it.
  package var alternative: String
  package var kind: Kind
  /// What stands below the picture.
  package var note: String

  package enum Kind: Sendable {
    case heatMap(HeatMap)
    case intervals(IntervalChart)
    case lines(LineChart)
    case bars(BarChart)
  }

  package init(_ title: String, alternative: String, _ kind: Kind, note: String = "") {
    self.title = title
    self.alternative = alternative
    self.kind = kind
    self.note = note
  }
}

/// Numbers of a grid as colours, each with its number.
package struct HeatMap: Sendable {
  /// What the columns are, for example `Context length, tokens`.
  package var columnAxis: String
  package var columns: [String]
  package var rowAxis: String
  package var rows: [String]
  /// `values[row][column]`; nil: not measured. Missing rows and cells count as nil.
  package var values: [[Double?]]
  /// Values of the palest and the darkest colour. Nil: the smallest and the greatest value.
  package var range: ClosedRange<Double>?
  /// Decimals of the numbers in the cells; nil: as few as three digits take.
  package var decimals: Int?

  package init(
    columnAxis: String, columns: [String], rowAxis: String, rows: [String], values: [[Double?]],
    range: ClosedRange<Double>? = nil, decimals: Int? = nil
  ) {
    self.columnAxis = columnAxis
    self.columns = columns
    self.rowAxis = rowAxis
    self.rows = rows
    self.values = values
    self.range = range
    self.decimals = decimals
  }
}

/// Values with their confidence intervals, one or two a row.
package struct IntervalChart: Sendable {
  /// What the values are, with their unit.
  package var axis: String
  /// One name or two.
  package var series: [String]
  package var rows: [Row]
  /// A line across all rows, for example no difference.
  package var reference: Double?
  /// What the axis covers. Nil: all intervals and the reference.
  package var range: ClosedRange<Double>?
  /// Decimals in the table; nil: as few as three digits take.
  package var decimals: Int?

  package struct Row: Sendable {
    package var label: String
    /// One for each series; nil: not measured. A row without values is a heading.
    package var values: [Interval?]

    package init(_ label: String, _ values: Interval?...) {
      self.label = label
      self.values = values
    }
  }

  /// `low` and `high` are nil where there is no interval.
  package struct Interval: Sendable {
    package var value: Double
    package var low: Double?
    package var high: Double?

    package init(_ value: Double, low: Double? = nil, high: Double? = nil) {
      self.value = value
      self.low = low
      self.high = high
    }
  }

  package init(
    axis: String, series: [String], rows: [Row], reference: Double? = nil, range: ClosedRange<Double>? = nil,
    decimals: Int? = nil
  ) {
    self.axis = axis
    self.series = series
    self.rows = rows
    self.reference = reference
    self.range = range
    self.decimals = decimals
  }
}

package enum AxisScale: Sendable {
  case linear
  /// Values that are not positive are left out of the picture, and stand in the table.
  case logarithmic
}

/// Lines through points, at most ``mostSeries`` of them.
package struct LineChart: Sendable {
  package var xAxis: String
  package var yAxis: String
  package var xScale: AxisScale
  package var yScale: AxisScale
  package var series: [Series]

  package static let mostSeries = 8

  package struct Series: Sendable {
    package var name: String
    /// In the order in which the line passes them. Points that are not finite are left out of the picture.
    package var points: [(x: Double, y: Double)]

    package init(_ name: String, _ points: [(x: Double, y: Double)]) {
      self.name = name
      self.points = points
    }
  }

  package init(
    xAxis: String, yAxis: String, xScale: AxisScale = .linear, yScale: AxisScale = .linear, series: [Series]
  ) {
    self.xAxis = xAxis
    self.yAxis = yAxis
    self.xScale = xScale
    self.yScale = yScale
    self.series = series
  }
}

/// Horizontal bars, of values from 0 on.
package struct BarChart: Sendable {
  package var axis: String
  package var bars: [Bar]
  /// A line across all bars, for example the peak of the machine.
  package var reference: Double?
  package var referenceLabel: String

  package struct Bar: Sendable {
    package var label: String
    package var value: Double
    /// What stands at the end of the bar; nil: the value.
    package var text: String?

    package init(_ label: String, _ value: Double, text: String? = nil) {
      self.label = label
      self.value = value
      self.text = text
    }
  }

  package init(axis: String, bars: [Bar], reference: Double? = nil, referenceLabel: String = "") {
    self.axis = axis
    self.bars = bars
    self.reference = reference
    self.referenceLabel = referenceLabel
  }
}
