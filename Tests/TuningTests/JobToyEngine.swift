import Compute
import Foundation
import Training
import Tuning

/// A model of pairs of tokens: the logits of the next token are a row of a matrix, plus a vector.
final class ToyEngine: TrainingEngine {
  static let words = 8
  let matrix = Parameter(name: "base_model.model.toy.lora_A.weight", shape: [words, words])
  let vector = Parameter(name: "base_model.model.norm.weight", shape: [words])
  var parameters: [Parameter] { [matrix, vector] }
  /// Calls of ``accumulate(_:divisor:step:item:)``: the step, and the place of the first row.
  private(set) var calls: [(step: Int, item: Int)] = []
  /// The loss of rows with this token first is infinite.
  var poison: Int?

  init() {
    for index in 0..<matrix.count { matrix.values[index] = Float(index % 5) * 0.1 - 0.2 }
  }

  func accumulate(_ rows: [TrainingRow], divisor: Double, step: Int, item: Int) throws -> (
    sum: Double, count: Int
  ) {
    calls.append((step, item))
    // What dropout would do: the gradient depends on the place of the row.
    return measure(rows) { row, gradient, place in
      let noise = 1 + 0.01 * Double((step * 31 + item + row) % 7)
      for word in 0..<ToyEngine.words {
        let value = Float(gradient[word] * noise / divisor)
        self.matrix.gradient[place * ToyEngine.words + word] += value
        self.vector.gradient[word] += value
      }
    }
  }

  func loss(_ rows: [TrainingRow]) throws -> (sum: Double, count: Int) { measure(rows) { _, _, _ in } }

  private func measure(
    _ rows: [TrainingRow], _ learn: (_ row: Int, _ gradient: [Double], _ place: Int) -> Void
  ) -> (sum: Double, count: Int) {
    var (sum, count) = (0.0, 0)
    for (index, row) in rows.enumerated() {
      if let poison, row.tokens.first == poison { sum = .infinity }
      for place in 1..<max(1, row.tokens.count) {
        guard let label = row.labels[place] else { continue }
        let previous = row.tokens[place - 1]
        let logits = (0..<ToyEngine.words).map {
          Double(matrix.values[previous * ToyEngine.words + $0]) + Double(vector.values[$0])
        }
        let exponentials = logits.map { exp($0) }
        let total = exponentials.reduce(0, +)
        sum += log(total) - logits[label]
        count += 1
        var gradient = exponentials.map { $0 / total }
        gradient[label] -= 1
        learn(index, gradient, previous)
      }
    }
    return (sum, count)
  }
}

/// Rows that count up.
enum ToyRows {
  static func row(_ start: Int) -> TrainingRow {
    let tokens = (0..<5).map { (start + $0) % ToyEngine.words }
    return TrainingRow(tokens: tokens, labels: [nil, nil] + tokens.dropFirst(2).map { $0 })
  }

  static func make(
    rows: Int = 10, validation: Int = 3, seed: UInt64 = 1,
    change: (TrainingRow) -> TrainingRow = { $0 }, changeValidation: (TrainingRow) -> TrainingRow = { $0 }
  ) -> TuningDataset {
    TuningDataset(
      rows: TuningRows((0..<rows).map { change(row($0)) }),
      validationRows: TuningRows((0..<validation).map { changeValidation(row($0 * 3 + 1)) }), seed: seed)
  }
}
