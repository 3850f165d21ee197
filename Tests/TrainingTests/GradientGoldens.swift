import Architecture
import Compute
import Models
import Safetensors
import TestSupport
import Testing
import Training
import Transformer

/// A whole model backwards, beside torch (`Tests/Fixtures/gradient_fixtures.py`).
@Suite struct GradientGoldens {
  private func floats(_ file: SafetensorsFile, _ name: String) throws -> [Float] {
    let bytes = file.bytes(of: try #require(file.tensor(name)))
    return stride(from: 0, to: bytes.count, by: 4).map {
      bytes.loadUnaligned(fromByteOffset: $0, as: Float.self)
    }
  }

  private func words(_ file: SafetensorsFile, _ name: String) throws -> [Int] {
    try floats(file, name).map { Int($0.bitPattern) }
  }

  /// 4e-6 of the largest element was found.
  @Test func gradientsAreThoseOfTorch() throws {
    let golden = try SafetensorsFile(path: Fixture.path("golden/gradients.safetensors"))
    let (ids, targets) = (try words(golden, "ids"), try words(golden, "targets"))
    let model = try OpenedModel(path: Fixture.path("tiny-zhinao-gqa"))
    let decoder = try model.decoder()
    let c = decoder.configuration
    let table = TensorIndex(model.configuration)
    let rows = ids.count
    func slices() -> [SequenceSlice] {
      [
        SequenceSlice(
          firstRow: 0, rowCount: rows, firstPosition: 0, cache: KVCache(configuration: c, capacity: rows))
      ]
    }
    let x = decoder.embed(ids)
    let work = LayerBuffers(c, rows: rows)
    var inputs: [AlignedBuffer<Float>] = []
    for (index, layer) in decoder.layers.enumerated() {
      inputs.append(AlignedBuffer(x.array))
      decoder.run(layer, index: index, x: x, sequences: slices(), work: work)
    }
    let normed = AlignedBuffer<Float>(count: x.count)
    decoder.steps.normalize(x.pointer, weight: decoder.finalNorm, rows: rows, into: normed.pointer)
    let dNormed = AlignedBuffer<Float>(count: x.count)
    let losses = CrossEntropy(head: decoder.head).backward(
      normed.pointer, rows: rows, targets: targets, gradient: dNormed.pointer)
    for (loss, expected) in zip(losses, try floats(golden, "losses")) {
      #expect(abs(loss - Double(expected)) < 1e-5 * Double(expected))
    }
    let steps = BackwardSteps(decoder.steps)
    let gradient = AlignedBuffer<Float>(zeros: x.count)
    steps.normalize(
      dNormed.pointer, x: x.pointer, weight: decoder.finalNorm, rows: rows, addingTo: gradient.pointer)
    let block = BlockBackward(steps, rows: rows)
    for index in decoder.layers.indices.reversed() {
      try block.run(
        BackwardWeights(decoder.layers[index]), index: index, x: inputs[index].pointer,
        sequences: slices(), gradient: gradient.pointer
      ) { kind, found, rowStride in
        let name = table.name(of: ModuleID(kind, layer: index))
        let expected = try floats(golden, name)
        let width = expected.count / rows
        let largest = expected.map(abs).max() ?? 0
        let distance = expected.indices.map { abs(found[$0 / width * rowStride + $0 % width] - expected[$0]) }
          .max()
        #expect(try #require(distance) < 1e-4 * largest, "\(name)")
      }
    }
  }
}
