import Architecture
import Compute
import Foundation
import JSON
import Models
import Safetensors
import TestSupport
import Testing
import Training
import Transformer

/// A LoRA adapter beside PEFT and torch (`golden/lora.json`): losses, gradients, and A and B after three steps of AdamW.
@Suite struct LoRAGoldens {
  let golden: SafetensorsFile
  let json: JSONObject

  init() throws {
    golden = try SafetensorsFile(path: Fixture.path("golden/lora.safetensors"))
    json = try #require(
      JSONValue.parse(Array(Data(contentsOf: URL(fileURLWithPath: Fixture.path("golden/lora.json")))))
        .objectValue)
  }

  private func floats(_ name: String) throws -> [Float] {
    let bytes = golden.bytes(of: try #require(golden.tensor(name), "\(name)"))
    return stride(from: 0, to: bytes.count, by: 4).map {
      bytes.loadUnaligned(fromByteOffset: $0, as: Float.self)
    }
  }

  private var rows: [TrainingRow] {
    get throws {
      let shape = try #require(golden.tensor("batch.input_ids")).shape
      func ids(_ name: String) throws -> [Int] {
        try floats(name).map { Int(Int32(bitPattern: $0.bitPattern)) }
      }
      let (tokens, labels) = (try ids("batch.input_ids"), try ids("batch.labels"))
      return (0..<shape[0]).map { row in
        let range = row * shape[1]..<(row + 1) * shape[1]
        return TrainingRow(
          tokens: Array(tokens[range]), labels: labels[range].map { $0 == -100 ? nil : $0 })
      }
    }
  }

  private static let targets = ["qkv_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

  private func start(_ path: String, pool: WorkerPool = .shared, settings: TrainingSettings = .init()) throws
    -> TrainingPass
  {
    let model = try OpenedModel(path: path)
    let adapter = try TrainedAdapter(
      builder: model.builder(),
      options: LoRAOptions(rank: 8, alpha: 16, targets: LoRAGoldens.targets))
    for parameter in adapter.parameters {
      parameter.values.pointer.update(from: try floats("init.\(parameter.name)"), count: parameter.count)
    }
    let rows = try rows
    return try TrainingPass(
      builder: model.builder(), adapter: adapter, settings: settings,
      tokens: rows.reduce(0) { $0 + $1.tokens.count }, longest: rows.map(\.tokens.count).max() ?? 0,
      residentBytes: model.store.residentBytes, pool: pool)
  }

  /// One pass at zero gradients; the loss.
  private func pass(_ training: TrainingPass) throws -> LossSum {
    for parameter in training.adapter.parameters {
      parameter.gradient.pointer.update(repeating: 0, count: parameter.count)
    }
    let rows = try rows
    let divisor = rows.reduce(0) { $0 + $1.countedLabels }
    return try training.accumulate(rows, divisor: Double(divisor), step: 0, item: 0)
  }

  private func distance(_ a: [Float], _ b: [Float]) -> Float {
    let largest = b.map(abs).max() ?? 0
    return (zip(a, b).map { abs($0 - $1) }.max() ?? 0) / max(largest, 1e-30)
  }

  @Test func threeStepsAreThoseOfTorch() throws {
    let training = try start(Fixture.path("tiny-zhinao-gqa"))
    let losses = try #require(json["loss_before_each_step_and_after"]?.arrayValue).compactMap(\.doubleValue)
    let norms = try #require(json["grad_norm_before_clipping"]?.arrayValue).compactMap(\.doubleValue)
    let parameters = training.adapter.parameters
    var moments = parameters.map { [[Double]](repeating: [Double](repeating: 0, count: $0.count), count: 2) }
    for step in 0..<3 {
      #expect(abs(try pass(training).mean - losses[step]) < 1e-4)
      var squares = 0.0
      for parameter in parameters {
        squares += parameter.gradient.array.reduce(0) { $0 + Double($1) * Double($1) }
        if step == 1 {
          let expected = try floats("step1.grad.\(parameter.name)")
          #expect(distance(parameter.gradient.array, expected) < 1e-3, "\(parameter.name)")
        }
      }
      #expect(abs(squares.squareRoot() / norms[step] - 1) < 1e-3)
      let clip = min(1, 1 / (squares.squareRoot() + 1e-6))
      for (place, parameter) in parameters.enumerated() {
        for index in 0..<parameter.count {
          let gradient = Double(parameter.gradient[index]) * clip
          var value = Double(parameter.values[index]) * (1 - 1e-2 * 0.1)
          moments[place][0][index] = 0.9 * moments[place][0][index] + 0.1 * gradient
          moments[place][1][index] = 0.95 * moments[place][1][index] + 0.05 * gradient * gradient
          let t = Double(step + 1)
          let denominator =
            (moments[place][1][index]).squareRoot() / (1 - pow(0.95, t)).squareRoot() + 1e-8
          value -= 1e-2 / (1 - pow(0.9, t)) * moments[place][0][index] / denominator
          parameter.values[index] = Float(value)
        }
      }
    }
    #expect(abs(try training.loss(try rows).mean - losses[3]) < 1e-4)
    var (close, count) = (0, 0)
    for parameter in parameters {
      for (found, expected) in zip(parameter.values.array, try floats("after3.\(parameter.name)")) {
        close += abs(found - expected) < 1e-3 ? 1 : 0
        count += 1
      }
    }
    // 99.9 % were found.
    #expect(Double(close) > 0.99 * Double(count))
  }
}
