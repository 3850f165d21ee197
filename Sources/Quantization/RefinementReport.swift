import JSON

/// What a refinement of one module found.
package struct RefinementReport: Equatable, Sendable {
  /// Outputs that kept 0, 1, 2 … rounds of descent.
  package var rows: [Int]
  /// Half of (W′ − Q)·H·(W′ − Q)ᵀ, summed over the outputs, on the windows that are kept out of the Hessian.
  package var lossBefore: Double
  package var lossAfter: Double

  /// Of one output.
  package struct OutputLoss: Equatable, Sendable, BitwiseCopyable {
    package var before: Double
    package var after: Double
  }
  /// What the losses are sums of, output after output; empty in reports that were kept.
  package private(set) var outputLosses: [OutputLoss] = []

  package mutating func add(_ loss: OutputLoss) {
    outputLosses.append(loss)
    lossBefore += loss.before
    lossAfter += loss.after
  }

  package init(rows: [Int], lossBefore: Double = 0, lossAfter: Double = 0) {
    self.rows = rows
    self.lossBefore = lossBefore
    self.lossAfter = lossAfter
  }

  package var json: JSONValue {
    [
      "outputs_by_rounds": .array(rows.map { .init($0) }), "loss_before": .init(lossBefore),
      "loss_after": .init(lossAfter),
    ]
  }

  package init(_ fields: JSONFields) throws(JSONFieldError) {
    rows = try fields.integers("outputs_by_rounds", in: 0 ... .max, most: .max) ?? []
    lossBefore = try fields.number("loss_before") ?? .infinity
    lossAfter = try fields.number("loss_after") ?? .infinity
  }
}
