import Architecture
import Compute
import JSON
import PackedModel
import Tensors
import Transformer

/// What a self-check needs to know of a model.
package struct SelfCheckShape: Equatable, Sendable {
  package var layerCount: Int
  package var hiddenSize: Int
  /// Numbers that are recorded of a sequence at the end: the logits of a decoder, the labels of a classifier, the mean of an
  /// encoder's states.
  package var outputCount: Int
  package var vocabularySize: Int
  package var contextLength: Int

  package init(_ c: ModelConfiguration) {
    layerCount = c.hiddenLayers
    hiddenSize = c.hiddenSize
    outputCount = c.encoder.map { $0.labelCount ?? $0.hiddenSize } ?? c.vocabularySize
    vocabularySize = c.vocabularySize
    contextLength = c.maxPositionEmbeddings
  }
}

/// What a `.zhinao` file's own weights computed when it was written: for a few token sequences, the state of one token after
/// every layer (a decoder's last, an encoder's first), and what the model gives at the end (`Formats/packed-model.md`,
/// "Self-check").
package struct SelfCheckRecord: Equatable, Sendable {
  /// Name of the record among the files of a packed model.
  package static let fileName = ".zhinao/self-check.bin"
  package static let magic = Array("ZNSC".utf8)
  package static let sequenceCount = 2
  package static let sequenceLength = 8

  /// One sequence and what became of it.
  package struct Trace: Equatable, Sendable {
    package var tokens: [Int]
    /// `[layerCount][hiddenSize]`: the state after each layer, of a decoder's last token or of an encoder's first.
    package var layers: [[Float]]
    /// `[outputCount]`
    package var outputs: [Float]
  }
  package var traces: [Trace]
  /// Largest difference from the recorded values that passes, as a part of the largest recorded magnitude.
  package var exactTolerance: Float
  package var fastTolerance: Float

  /// Bytes of a record for this model.
  package static func byteCount(_ c: SelfCheckShape) -> Int {
    32 + sequenceCount * (4 * length(c) + 4 * (c.layerCount * c.hiddenSize + c.outputCount))
  }

  private static func length(_ c: SelfCheckShape) -> Int { min(sequenceLength, c.contextLength) }

  /// Ids spread over the vocabulary.
  package static func sequences(_ c: SelfCheckShape) -> [[Int]] {
    (0..<sequenceCount).map { s in
      (0..<length(c)).map { (1 + s * 104_729 + $0 * 7919) % c.vocabularySize }
    }
  }

  /// The record of the model in the packed file at `path`.
  package static func make(path: String, pool: WorkerPool = .shared) throws -> SelfCheckRecord {
    let model = try OpenedModel(path: path, accepting: .all)
    let sequences = sequences(SelfCheckShape(model.configuration))
    var record = SelfCheckRecord(traces: try model.selfCheckTraces(sequences, pool: pool))
    // `fast` differs only where weights are integers.
    guard try PackedModelFile(path: path).header.tensors.contains(where: { $0.holdsIntegers }) else {
      return record
    }
    // `fast` rounds activations, so its tolerance is twice the difference measured on these sequences.
    let fast = record.check(
      try model.selfCheckTraces(sequences, arithmetic: .fast, pool: pool), arithmetic: .fast)
    if fast.largest.isFinite { record.fastTolerance = max(1e-4, 2 * fast.largest) }
    return record
  }

  // MARK: Checking

  package struct Outcome: Sendable {
    package var arithmetic: Int4Arithmetic
    /// Largest difference of any value, as a part of the largest recorded magnitude of its vector.
    package var largest: Float
    package var tolerance: Float
    /// Where the first difference above the tolerance is; nil: the check passed.
    package var firstFailure: String?

    package var json: JSONValue {
      [
        "arithmetic": .string(arithmetic.rawValue), "passed": .bool(firstFailure == nil),
        "largest_relative_difference": .init(Double(largest)), "tolerance": .init(Double(tolerance)),
        "first_failure": firstFailure.map { .string($0) } ?? .null,
      ]
    }
  }

  /// Compares what the recorded sequences gave now, layer by layer.
  package func check(_ found: [Trace], arithmetic: Int4Arithmetic) -> Outcome {
    var outcome = Outcome(
      arithmetic: arithmetic, largest: 0, tolerance: arithmetic == .exact ? exactTolerance : fastTolerance)
    func compare(_ recorded: [Float], _ computed: [Float], _ place: (Int) -> String) {
      let scale = recorded.reduce(Float(1e-30)) { max($0, abs($1)) }
      for i in recorded.indices {
        let (a, b) = (recorded[i], computed[i])
        if a.isNaN && b.isNaN { continue }
        let difference = abs(a - b) / scale
        // Not `<=`: a NaN is a failure.
        if !(difference <= outcome.tolerance), outcome.firstFailure == nil {
          outcome.firstFailure = "\(place(i)): recorded \(a), computed \(b)"
        }
        outcome.largest = difference.isNaN ? .infinity : max(outcome.largest, difference)
      }
    }
    for (s, (recorded, computed)) in zip(traces, found).enumerated() {
      for layer in recorded.layers.indices {
        compare(recorded.layers[layer], computed.layers[layer]) {
          "sequence \(s), after layer \(layer), element \($0)"
        }
      }
      compare(recorded.outputs, computed.outputs) { "sequence \(s), output \($0)" }
    }
    return outcome
  }

  // MARK: Bytes

  package var bytes: [UInt8] {
    var out = SelfCheckRecord.magic
    func put(_ value: UInt32) { withUnsafeBytes(of: value.littleEndian) { out += $0 } }
    func put(_ values: [Float]) { for value in values { put(value.bitPattern) } }
    let first = traces[0]
    for n in [1, traces.count, first.tokens.count, first.layers.count, first.layers.first?.count ?? 0] {
      put(UInt32(n))
    }
    put([exactTolerance, fastTolerance])
    for trace in traces { for token in trace.tokens { put(UInt32(token)) } }
    for trace in traces {
      for layer in trace.layers { put(layer) }
      put(trace.outputs)
    }
    return out
  }

  /// - Throws: when the bytes are not a record of a model of this shape.
  package init(_ bytes: [UInt8], _ c: SelfCheckShape, path: String) throws {
    func bad(_ reason: PackedModelError.Reason) -> PackedModelError { PackedModelError(reason, path: path) }
    guard bytes.count >= 32, Array(bytes[0..<4]) == SelfCheckRecord.magic else {
      throw bad(.noSelfCheckMagic)
    }
    func word(_ index: Int) -> UInt32 {
      bytes.withUnsafeBytes {
        UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: 4 * index, as: UInt32.self))
      }
    }
    let (sequences, length) = (Int(word(2)), Int(word(3)))
    guard word(1) == 1, (1...64).contains(sequences), (1...64).contains(length), length <= c.contextLength,
      Int(word(4)) == c.layerCount, Int(word(5)) == c.hiddenSize,
      bytes.count == 32 + sequences * 4 * (length + c.layerCount * c.hiddenSize + c.outputCount)
    else { throw bad(.selfCheckDoesNotFit) }
    exactTolerance = Float(bitPattern: word(6))
    fastTolerance = Float(bitPattern: word(7))
    traces = []
    var at = 8 + sequences * length
    func floats(_ count: Int) -> [Float] {
      defer { at += count }
      return (at..<at + count).map { Float(bitPattern: word($0)) }
    }
    for s in 0..<sequences {
      let tokens = (0..<length).map { Int(word(8 + s * length + $0)) }
      guard tokens.allSatisfy({ $0 < c.vocabularySize }) else {
        throw bad(.selfCheckTokens)
      }
      traces.append(
        Trace(
          tokens: tokens, layers: (0..<c.layerCount).map { _ in floats(c.hiddenSize) },
          outputs: floats(c.outputCount)))
    }
  }

  /// A record with the least tolerances.
  package init(traces: [Trace]) { (self.traces, exactTolerance, fastTolerance) = (traces, 1e-4, 1e-4) }
}

extension OpenedModel {
  /// What the model makes of the sequences.
  func selfCheckTraces(_ sequences: [[Int]], arithmetic: Int4Arithmetic = .exact, pool: WorkerPool = .shared)
    throws -> [SelfCheckRecord.Trace]
  {
    guard configuration.encoder != nil else {
      return SelfCheckTrace.of(try decoder(arithmetic: arithmetic, pool: pool), sequences)
    }
    return try encoder(arithmetic: arithmetic, pool: pool).selfCheckTraces(sequences)
  }

  /// The record of a packed model; nil when it has none.
  package func selfCheckRecord() throws -> SelfCheckRecord? {
    guard let bytes = try files.bytes(named: SelfCheckRecord.fileName) else { return nil }
    return try SelfCheckRecord(bytes, SelfCheckShape(configuration), path: path)
  }

  /// Computes the recorded sequences again in each arithmetic.
  /// - Throws: when the model has no record.
  package func selfCheck(_ arithmetics: [Int4Arithmetic] = [.exact, .fast]) throws -> [SelfCheckRecord
    .Outcome]
  {
    guard let record = try selfCheckRecord() else {
      throw ModelError(.noSelfCheck, path: path)
    }
    return try arithmetics.map {
      record.check(try selfCheckTraces(record.traces.map(\.tokens), arithmetic: $0), arithmetic: $0)
    }
  }
}
