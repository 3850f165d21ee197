import Foundation
import Terminal

/// A figure as SVG. Places are in CSS pixels; colours are classes of the page's style, so that one picture serves both colour schemes.
///
/// Nothing measures text here, as fonts are the reader's. ``width(of:)`` is what a wide font takes.
struct FigureDrawing {
  let figure: ReportFigure
  let language: ReportLanguage
  /// Of the picture; grids of many columns are wider.
  private(set) var width: Double
  private(set) var height = 0.0
  /// Values that are not in the picture because its axis has no place for them.
  private(set) var leftOut = 0
  private var body = Markup()

  var isEmpty: Bool { height == 0 }

  /// - Parameter isNarrow: for a phone.
  init(_ figure: ReportFigure, language: ReportLanguage, isNarrow: Bool = false) {
    width = isNarrow ? 328 : 756
    self.figure = figure
    self.language = language
    switch figure.kind {
    case .heatMap(let map): draw(map)
    case .intervals(let chart): draw(chart)
    case .lines(let chart): draw(chart)
    case .bars(let chart): draw(chart)
    }
  }

  func write(id: String, kind: String, to out: inout Markup) {
    let (w, h) = (FigureDrawing.number(width), FigureDrawing.number(height))
    out.element(
      "svg",
      [
        "xmlns": "http://www.w3.org/2000/svg", "viewBox": "0 0 \(w) \(h)", "width": w, "height": h,
        "class": kind,
        "role": "img",
        "aria-labelledby": "\(id)t \(id)d",
      ]
    ) {
      $0.element("title", ["id": "\(id)t"], text: figure.title)
      $0.element("desc", ["id": "\(id)d"], text: figure.alternative)
      $0.raw(body.text)
    }
  }

  // MARK: Pieces

  static let fontSize = 12.0
  static let lineHeight = 18.0

  /// At most what the text takes in a wide font of 12 pixels.
  static func width(of text: String) -> Double {
    text.reduce(0) { sum, character in
      let units: Double =
        switch character {
        case "i", "j", "l", "I", ".", ",", ":", ";", "'", "|", "!", " ", "(", ")", "[", "]", "/", "f", "t",
          "r", "-":
          0.46
        case "m", "w", "M", "W", "@", "%", "—", "…": 1
        case "A"..."Z", "&", "+", "=", "<", ">", "~", "#", "×", "−", "_": 0.84
        default: TextWidth.of(character) > 1 ? 1.05 : 0.66
        }
      return sum + units * fontSize
    }
  }

  /// The text, cut where it would be wider.
  static func fitted(_ text: String, in room: Double) -> String {
    let text = text.visibleLine
    guard width(of: text) > room else { return text }
    var result = ""
    var used = width(of: "…")
    for character in text {
      used += width(of: String(character))
      if used > room { break }
      result.append(character)
    }
    return result + "…"
  }

  static func number(_ value: Double) -> String {
    let text = String(format: "%.1f", value.isFinite ? value : 0)
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }

  private enum Anchor: String {
    case start
    case middle
    case end
  }

  /// Text whose middle line is at `y`.
  private mutating func label(
    _ text: String, _ x: Double, _ y: Double, _ anchor: Anchor = .start, kind: String = "",
    room: Double = .infinity
  ) {
    let shown = room.isFinite ? FigureDrawing.fitted(text, in: room) : text.visibleLine
    body.element(
      "text",
      [
        "x": FigureDrawing.number(x), "y": FigureDrawing.number(y + 4.2), "text-anchor": anchor.rawValue,
        "class": kind.isEmpty ? "l" : kind,
      ]
    ) {
      if !shown.hasSameBytesAs(text.visibleLine) { $0.element("title", text: text) }
      $0.write(shown)
    }
  }

  private mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ kind: String) {
    body.empty(
      "line",
      [
        "x1": FigureDrawing.number(x1), "y1": FigureDrawing.number(y1), "x2": FigureDrawing.number(x2),
        "y2": FigureDrawing.number(y2), "class": kind,
      ])
  }

  /// A mark of a series: its shape tells it from others as well as its colour does.
  private mutating func mark(_ series: Int, _ x: Double, _ y: Double, size: Double = 4) {
    func points(_ corners: [(Double, Double)]) -> String {
      corners.map { FigureDrawing.number(x + $0.0 * size) + "," + FigureDrawing.number(y + $0.1 * size) }
        .joined(separator: " ")
    }
    let kind = "m c\(series % LineChart.mostSeries)"
    let shapes: [[(Double, Double)]] = [
      [], [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)], [(0, -1.2), (1.1, 0.9), (-1.1, 0.9)],
      [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)], [(0, 1.2), (1.1, -0.9), (-1.1, -0.9)],
      [(-1.2, -0.5), (1.2, -0.5), (1.2, 0.5), (-1.2, 0.5)],
      [(-0.5, -1.2), (0.5, -1.2), (0.5, 1.2), (-0.5, 1.2)],
      [(-1.2, 0), (0, -0.6), (1.2, 0), (0, 0.6)],
    ]
    let shape = shapes[series % shapes.count]
    if shape.isEmpty {
      body.empty(
        "circle",
        [
          "cx": FigureDrawing.number(x), "cy": FigureDrawing.number(y), "r": FigureDrawing.number(size),
          "class": kind,
        ])
    } else {
      body.empty("polygon", ["points": points(shape), "class": kind])
    }
  }

  /// Names of series in lines above a picture.
  /// - Returns: where the picture may begin.
  private mutating func legend(_ names: [String]) -> Double {
    guard names.count > 1 else { return 8 }
    var (x, y) = (0.0, 12.0)
    for (series, name) in names.enumerated() {
      let shown = FigureDrawing.fitted(name, in: width - 40)
      let needed = 34 + FigureDrawing.width(of: shown) + 18
      if x > 0 && x + needed > width { (x, y) = (0, y + FigureDrawing.lineHeight) }
      line(x + 2, y, x + 26, y, "s c\(series % LineChart.mostSeries)")
      mark(series, x + 14, y)
      label(shown, x + 34, y)
      x += needed
    }
    return y + 20
  }

  // MARK: Heat map

  private mutating func draw(_ map: HeatMap) {
    let known = map.known
    guard !known.isEmpty else { return }
    let spelling = map.spelling
    let low = map.range?.lowerBound ?? known.min() ?? 0
    let high = map.range?.upperBound ?? known.max() ?? 1
    let texts = map.rows.indices.map { row in
      map.columns.indices.map { column in
        map.value(row: row, column: column).map { map.text($0, among: spelling) } ?? ""
      }
    }
    let widest = texts.joined().map(FigureDrawing.width).max() ?? 0
    let rowRoom = min(width * 0.26, map.rows.map { FigureDrawing.width(of: $0.visibleLine) }.max() ?? 0)
    let left = rowRoom + 10
    let columns = Double(map.columns.count)
    let widestColumn = map.columns.map { FigureDrawing.width(of: $0.visibleLine) }.max() ?? 0
    let cell = max(widest + 8, min(max(110, widestColumn + 8), (width - left - 2) / columns))
    width = max(width, left + columns * cell + 2)
    let rowHeight = 26.0

    // The title of the rows and the scale share a line where there is room.
    let gridEnd = left + columns * cell
    let (lowText, highText) = (map.text(low, among: spelling), map.text(high, among: spelling))
    let steps = width < 500 ? 8 : 12
    let scaleWidth =
      Double(steps) * 12 + 12 + FigureDrawing.width(of: lowText) + FigureDrawing.width(of: highText)
    let titleWidth = min(FigureDrawing.width(of: map.rowAxis.visibleLine), width - 4)
    let end = max(gridEnd, min(width, titleWidth + 20 + scaleWidth))
    let isBeside = titleWidth + 20 + scaleWidth <= end
    label(map.rowAxis, 0, 10, kind: "a", room: width - 4)
    let scaleTop = isBeside || map.rowAxis.isEmpty ? 10.0 : 28
    let scaleStart = max(0, end - scaleWidth)
    label(lowText, scaleStart, scaleTop)
    let barStart = scaleStart + FigureDrawing.width(of: lowText) + 6
    for step in 0..<steps {
      let colour = HeatColour(at: (Double(step) + 0.5) / Double(steps))
      body.empty(
        "rect",
        [
          "x": FigureDrawing.number(barStart + Double(step) * 12), "y": FigureDrawing.number(scaleTop - 6),
          "width": "12", "height": "12", "fill": colour.fill,
        ])
    }
    label(highText, barStart + Double(steps) * 12 + 6, scaleTop)

    let top = scaleTop + 22
    let bottom = top + Double(map.rows.count) * rowHeight
    for (row, name) in map.rows.enumerated() {
      let y = top + (Double(row) + 0.5) * rowHeight
      label(name, left - 8, y, .end, room: rowRoom + 2)
      for column in map.columns.indices {
        let x = left + Double(column) * cell
        let value = map.value(row: row, column: column)
        let share = value.map { Axis.share($0, low, high) }
        let colour = share.map { HeatColour(at: $0) }
        body.element(
          "rect",
          [
            "x": FigureDrawing.number(x + 1), "y": FigureDrawing.number(y - rowHeight / 2 + 1),
            "width": FigureDrawing.number(cell - 2), "height": FigureDrawing.number(rowHeight - 2), "rx": "2",
            "class": colour == nil ? "none" : "cell", "fill": colour?.fill ?? "none",
          ]
        ) {
          $0.element(
            "title", text: "\(name), \(map.columns[column]): \(value == nil ? "–" : texts[row][column])")
        }
        if let colour {
          body.element(
            "text",
            [
              "x": FigureDrawing.number(x + cell / 2), "y": FigureDrawing.number(y + 4.2),
              "text-anchor": "middle",
              "class": "v", "fill": colour.ink,
            ], text: texts[row][column])
        }
      }
    }
    var foot = bottom
    if widestColumn <= cell - 4 {
      for (column, name) in map.columns.enumerated() {
        label(name, left + (Double(column) + 0.5) * cell, bottom + 14, .middle)
      }
      foot += 24
    } else {
      let room = min(widestColumn, 190)
      for (column, name) in map.columns.enumerated() {
        rotated(name, left + (Double(column) + 0.5) * cell, bottom + 8, room: room, kind: "l", anchor: .end)
      }
      foot += room + 12
    }
    if !map.columnAxis.isEmpty {
      label(map.columnAxis, left + columns * cell / 2, foot + 10, .middle, kind: "a", room: columns * cell)
      foot += 22
    }
    height = foot + 4
  }

  /// Text that reads upwards.
  private mutating func rotated(
    _ text: String, _ x: Double, _ y: Double, room: Double, kind: String, anchor: Anchor
  ) {
    let (px, py) = (FigureDrawing.number(x + 4.2), FigureDrawing.number(y))
    let shown = FigureDrawing.fitted(text, in: room)
    body.element(
      "text",
      [
        "x": px, "y": py, "text-anchor": anchor.rawValue, "class": kind,
        "transform": "rotate(-90 \(px) \(py))",
      ]
    ) {
      if !shown.hasSameBytesAs(text.visibleLine) { $0.element("title", text: text) }
      $0.write(shown)
    }
  }

  // MARK: Intervals

  private mutating func draw(_ chart: IntervalChart) {
    let count = max(1, chart.series.count)
    let intervals = chart.rows.flatMap { $0.values.prefix(count).compactMap { $0 } }
    let known = intervals.flatMap { [$0.value, $0.low ?? $0.value, $0.high ?? $0.value] }
    guard known.contains(where: \.isFinite) else { return }
    let labelRoom = min(
      width * 0.32, chart.rows.map { FigureDrawing.width(of: $0.label.visibleLine) }.max() ?? 0)
    let decimals = chart.decimals ?? ReportNumber.decimals(of: intervals.map(\.value))
    let texts = chart.rows.map { row in
      row.values.prefix(count).map { $0.map { ReportNumber.fixed($0.value, decimals: decimals) } ?? "–" }
    }
    let valueRoom = (texts.joined().map(FigureDrawing.width).max() ?? 0) + 14
    let left = labelRoom + 14
    let right = width - valueRoom - 8
    let axis = Axis(
      known + (chart.reference.map { [$0] } ?? []), range: chart.range, scale: .linear, from: left, to: right)
    let top = legend(chart.series)
    let rowHeight = count == 1 ? 22.0 : 12 + 15 * Double(count)
    let bottom = top + Double(chart.rows.count) * rowHeight
    grid(axis, top: top, bottom: bottom)
    if let reference = chart.reference, let x = axis.position(reference) { line(x, top, x, bottom, "r") }
    for (number, row) in chart.rows.enumerated() {
      let y = top + (Double(number) + 0.5) * rowHeight
      guard !row.values.isEmpty else {
        label(row.label, 0, y, kind: "h", room: left + 100)
        continue
      }
      label(row.label, left - 14, y, .end, room: labelRoom + 2)
      for (series, interval) in row.values.prefix(count).enumerated() {
        let offset = (Double(series) - Double(count - 1) / 2) * 15
        label(texts[number][series], width - 2, y + offset, .end, kind: "v q")
        guard let interval else { continue }
        guard let x = axis.position(interval.value) else {
          leftOut += 1
          continue
        }
        let kind = "c\(series % LineChart.mostSeries)"
        if interval.low != nil || interval.high != nil {
          let from = axis.clamped(interval.low ?? interval.value)
          let to = axis.clamped(interval.high ?? interval.value)
          line(from, y + offset, to, y + offset, "w \(kind)")
          line(from, y + offset - 4, from, y + offset + 4, "w \(kind)")
          line(to, y + offset - 4, to, y + offset + 4, "w \(kind)")
        }
        mark(series, x, y + offset)
      }
    }
    foot(axis, title: chart.axis, bottom: bottom)
  }

  /// Lines down from the places of an axis below.
  private mutating func grid(_ axis: Axis, top: Double, bottom: Double) {
    for tick in axis.ticks {
      if let x = axis.position(tick.value) { line(x, top, x, bottom, "g") }
    }
  }

  /// An axis below a picture, which ends there.
  private mutating func foot(_ axis: Axis, title: String, bottom: Double) {
    line(axis.from, bottom, axis.to, bottom, "x")
    for tick in axis.spaced() {
      // Numbers at the edge of the picture stay inside of it.
      let half = FigureDrawing.width(of: tick.text) / 2
      guard let x = axis.position(tick.value) else { continue }
      label(tick.text, min(max(x, half + 1), width - half - 1), bottom + 13, .middle, kind: "l q")
    }
    height = bottom + 26
    guard !title.isEmpty else { return }
    let (middle, half) = (
      (axis.from + axis.to) / 2, min(FigureDrawing.width(of: title.visibleLine), width - 4) / 2
    )
    label(
      title, min(max(middle, half + 2), width - half - 2), bottom + 33, .middle, kind: "a", room: width - 4)
    height = bottom + 46
  }

  // MARK: Lines

  private mutating func draw(_ chart: LineChart) {
    let lines = chart.series.prefix(LineChart.mostSeries)
    let xs = lines.flatMap { $0.points.map(\.x) }
    let ys = lines.flatMap { $0.points.map(\.y) }
    func isShown(_ value: Double, _ scale: AxisScale) -> Bool {
      value.isFinite && (scale == .linear || value > 0)
    }
    guard xs.contains(where: { isShown($0, chart.xScale) }), ys.contains(where: { isShown($0, chart.yScale) })
    else { return }
    var top = legend(lines.map(\.name))
    if !chart.yAxis.isEmpty {
      label(chart.yAxis, 0, top + 2, kind: "a", room: width)
      top += 20
    }
    let bottom = top + (width < 500 ? 200 : 260)
    let y = Axis(ys, range: nil, scale: chart.yScale, from: bottom, to: top)
    let left = (y.ticks.map { FigureDrawing.width(of: $0.text) }.max() ?? 0) + 12
    let x = Axis(xs, range: nil, scale: chart.xScale, from: left, to: width - 14, fits: true)
    for tick in y.ticks {
      guard let place = y.position(tick.value) else { continue }
      line(left, place, width - 14, place, "g")
      label(tick.text, left - 8, place, .end, kind: "l q")
    }
    for (number, series) in lines.enumerated() {
      let places = series.points.map { point -> (Double, Double)? in
        guard isShown(point.x, chart.xScale), isShown(point.y, chart.yScale), let px = x.position(point.x),
          let py = y.position(point.y)
        else { return nil }
        return (px, py)
      }
      leftOut += places.count { $0 == nil }
      // What is missing interrupts the line.
      for run in places.split(whereSeparator: { $0 == nil }) where run.count > 1 {
        let path = run.compactMap { $0 }
          .map { FigureDrawing.number($0.0) + "," + FigureDrawing.number($0.1) }.joined(separator: " ")
        body.empty("polyline", ["points": path, "class": "s c\(number)"])
      }
      if places.count <= 60 {
        for case (let px, let py)? in places { mark(number, px, py, size: 3) }
      } else {
        for run in places.split(whereSeparator: { $0 == nil }) where run.count == 1 {
          if case (let px, let py)?? = run.first { mark(number, px, py, size: 2) }
        }
      }
    }
    foot(x, title: chart.xAxis, bottom: bottom)
  }

  // MARK: Bars

  private mutating func draw(_ chart: BarChart) {
    let known = chart.bars.map(\.value).filter(\.isFinite)
    guard !known.isEmpty else { return }
    let texts = zip(chart.bars, ReportNumber.column(chart.bars.map(\.value))).map { $0.text ?? $1 }
    let labelRoom = min(
      width * 0.4, chart.bars.map { FigureDrawing.width(of: $0.label.visibleLine) }.max() ?? 0)
    let textRoom = min(width * 0.28, texts.map { FigureDrawing.width(of: $0.visibleLine) }.max() ?? 0) + 12
    let left = labelRoom + 12
    let axis = Axis(
      [0] + known + (chart.reference.map { [$0] } ?? []), range: nil, scale: .linear, from: left,
      to: width - textRoom)
    var top = 8.0
    if chart.reference != nil, !chart.referenceLabel.isEmpty {
      line(2, 12, 26, 12, "r")
      label(chart.referenceLabel, 34, 12, room: width - 40)
      top = 32
    }
    let rowHeight = 26.0
    let bottom = top + Double(chart.bars.count) * rowHeight
    grid(axis, top: top, bottom: bottom)
    for (row, bar) in chart.bars.enumerated() {
      let y = top + (Double(row) + 0.5) * rowHeight
      label(bar.label, left - 10, y, .end, room: labelRoom + 2)
      guard let zero = axis.position(0), let end = axis.position(bar.value) else {
        leftOut += 1
        continue
      }
      body.empty(
        "rect",
        [
          "x": FigureDrawing.number(min(zero, end)), "y": FigureDrawing.number(y - 8),
          "width": FigureDrawing.number(max(1, abs(end - zero))), "height": "16", "rx": "1.5", "class": "b",
        ])
    }
    if let reference = chart.reference, let x = axis.position(reference) { line(x, top, x, bottom, "r") }
    for (row, bar) in chart.bars.enumerated() {
      guard let zero = axis.position(0), let end = axis.position(bar.value) else { continue }
      let y = top + (Double(row) + 0.5) * rowHeight
      label(texts[row], max(zero, end) + 6, y, kind: "v q", room: textRoom - 4)
    }
    foot(axis, title: chart.axis, bottom: bottom)
  }
}

extension String {
  fileprivate func hasSameBytesAs(_ other: String) -> Bool { utf8.elementsEqual(other.utf8) }
}
