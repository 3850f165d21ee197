extension ReportFigure {
  /// Points of one line that the table lists at most.
  static let mostListedPoints = 100

  /// The numbers behind the picture.
  package func table(_ language: ReportLanguage) -> ReportTable {
    let phrases = ReportPhrases.of(language)
    return switch kind {
    case .heatMap(let map): map.table
    case .intervals(let chart): chart.table(phrases)
    case .lines(let chart): chart.table(phrases)
    case .bars(let chart): chart.table(phrases)
    }
  }
}

extension HeatMap {
  /// Value of a cell; nil also when it is not finite.
  func value(row: Int, column: Int) -> Double? {
    guard row < values.count, column < values[row].count, let value = values[row][column], value.isFinite
    else { return nil }
    return value
  }

  /// The finite values.
  var known: [Double] {
    rows.indices.flatMap { row in columns.indices.compactMap { value(row: row, column: $0) } }
  }

  /// Numbers of cells. Those that differ by orders of magnitude are each as short as they can be.
  func text(_ value: Double, among known: (decimals: Int, isWide: Bool)) -> String {
    if let decimals { return ReportNumber.fixed(value, decimals: decimals) }
    return known.isWide
      ? ReportNumber.significant(value, digits: 2) : ReportNumber.fixed(value, decimals: known.decimals)
  }

  var spelling: (decimals: Int, isWide: Bool) {
    let sizes = known.filter { $0 != 0 }.map { abs($0) }
    let isWide = (sizes.max() ?? 1) / (sizes.min() ?? 1) > 1000 && known.contains { $0.rounded() != $0 }
    return (ReportNumber.decimals(of: known), isWide)
  }

  var table: ReportTable {
    let spelling = spelling
    return ReportTable(
      columnAxis, columns: [.text(rowAxis)] + columns.map { .number($0) },
      rows: rows.indices.map { row in
        [rows[row]]
          + columns.indices.map { value(row: row, column: $0).map { text($0, among: spelling) } ?? "–" }
      })
  }
}

extension IntervalChart {
  func table(_ phrases: ReportPhrases) -> ReportTable {
    var columns: [ReportTable.Column] = [.text(phrases.item)]
    var cells = rows.map { [$0.label] }
    for (place, name) in series.enumerated() {
      let found = rows.map { place < $0.values.count ? $0.values[place] : nil }
      let hasIntervals = found.contains { $0?.low != nil || $0?.high != nil }
      let prefix = name.isEmpty ? "" : name + ", "
      var parts: [(String, [Double?])] = [(name.isEmpty ? phrases.value : name, found.map { $0?.value })]
      if hasIntervals {
        parts.append((prefix + phrases.low, found.map { $0?.low }))
        parts.append((prefix + phrases.high, found.map { $0?.high }))
      }
      for (title, values) in parts {
        columns.append(.number(title))
        let texts = ReportNumber.column(values.map { $0 ?? .nan }, decimals: decimals)
        for row in cells.indices {
          // A row without values is a heading.
          cells[row].append(rows[row].values.isEmpty ? "" : texts[row])
        }
      }
    }
    return ReportTable(axis, columns: columns, rows: cells)
  }
}

extension LineChart {
  /// One column of x when all lines have the same, or one for each line.
  func table(_ phrases: ReportPhrases) -> ReportTable {
    let count = series.map(\.points.count).max() ?? 0
    let step = max(1, (count + ReportFigure.mostListedPoints - 1) / ReportFigure.mostListedPoints)
    let listed = series.map { line in
      stride(from: 0, to: line.points.count, by: step).map { line.points[$0] }
    }
    let isShared = listed.allSatisfy { $0.map(\.x) == listed.first?.map(\.x) }
    var columns: [ReportTable.Column] = []
    var texts: [[String]] = []
    for (line, points) in zip(series, listed) {
      if !isShared || columns.isEmpty {
        columns.append(
          .number(isShared || line.name.isEmpty ? xAxis : "\(line.name)\(phrases.colon)\(xAxis)"))
        texts.append(ReportNumber.column(points.map(\.x)))
      }
      columns.append(.number(line.name.isEmpty ? yAxis : line.name))
      texts.append(ReportNumber.column(points.map(\.y)))
    }
    let rows = (0..<(texts.map(\.count).max() ?? 0)).map { row in
      texts.map { row < $0.count ? $0[row] : "" }
    }
    return ReportTable(
      yAxis, columns: columns, rows: rows, note: step > 1 ? phrases.thinned(step, count) : "")
  }
}

extension BarChart {
  func table(_ phrases: ReportPhrases) -> ReportTable {
    let texts = ReportNumber.column(bars.map(\.value))
    var rows = zip(bars, texts).map { [$0.label, $0.text ?? $1] }
    if let reference, !referenceLabel.isEmpty {
      rows.append([referenceLabel, ReportNumber.significant(reference)])
    }
    return ReportTable("", columns: [.text(phrases.item), .number(axis)], rows: rows)
  }
}
