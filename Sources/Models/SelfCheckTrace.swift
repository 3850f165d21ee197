import Compute
import Transformer

/// A forward pass that notes the state of each sequence's last token after every layer, and may rest between layers.
package struct SelfCheckTrace {
  private let decoder: Decoder
  private let x: AlignedBuffer<Float>
  private let slices: [SequenceSlice]
  private let work: LayerBuffers
  private var traces: [SelfCheckRecord.Trace]
  /// The layer that runs next.
  private(set) var nextLayer = 0

  /// - Parameter sequences: of equal length, each from position 0.
  package init(_ decoder: Decoder, _ sequences: [[Int]]) {
    let length = sequences[0].count
    self.decoder = decoder
    x = decoder.embed(sequences.flatMap { $0 })
    slices = sequences.indices.map {
      SequenceSlice(
        firstRow: $0 * length, rowCount: length, firstPosition: 0,
        cache: KVCache(configuration: decoder.configuration, capacity: length, retaining: false))
    }
    work = LayerBuffers(decoder.configuration, rows: sequences.count * length)
    traces = sequences.map { SelfCheckRecord.Trace(tokens: $0, layers: [], outputs: []) }
  }

  /// The whole pass at once.
  package static func of(_ decoder: Decoder, _ sequences: [[Int]]) -> [SelfCheckRecord.Trace] {
    var trace = SelfCheckTrace(decoder, sequences)
    return trace.finish()
  }

  /// Runs the layers before `layer` that have not run yet.
  package mutating func advance(to layer: Int) {
    let width = decoder.configuration.hiddenSize
    while nextLayer < layer {
      decoder.run(decoder.layers[nextLayer], index: nextLayer, x: x, sequences: slices, work: work)
      for s in traces.indices {
        traces[s].layers.append(
          Array(UnsafeBufferPointer(start: x.pointer + lastRow(s) * width, count: width)))
      }
      nextLayer += 1
    }
  }

  /// Runs what is left. Call once.
  package mutating func finish() -> [SelfCheckRecord.Trace] {
    advance(to: decoder.layers.count)
    decoder.steps.normalize(
      x.pointer, weight: decoder.finalNorm, rows: lastRow(traces.count - 1) + 1, into: x.pointer)
    for s in traces.indices {
      traces[s].outputs = decoder.logits(x, rows: lastRow(s)..<lastRow(s) + 1).array
    }
    return traces
  }

  private func lastRow(_ sequence: Int) -> Int { (sequence + 1) * traces[sequence].tokens.count - 1 }
}

extension Encoder {
  /// The state of each sequence's first token after every layer, and the labels or the mean of the last states.
  func selfCheckTraces(_ sequences: [[Int]]) -> [SelfCheckRecord.Trace] {
    var traces = sequences.map { SelfCheckRecord.Trace(tokens: $0, layers: [], outputs: []) }
    let width = configuration.hiddenSize
    let (states, batch) = hiddenStates(sequences.map { ($0, $0.map { _ in 0 }) }) { _, x, batch in
      for (s, text) in batch.texts.enumerated() {
        traces[s].layers.append(
          Array(UnsafeBufferPointer(start: x.pointer + text.lowerBound * width, count: width)))
      }
    }
    if classifier != nil {
      let labels = labels(states, batch).array
      let count = labels.count / max(1, traces.count)
      for s in traces.indices { traces[s].outputs = Array(labels[s * count..<(s + 1) * count]) }
    } else {
      let means = means(states, batch).array
      for s in traces.indices { traces[s].outputs = Array(means[s * width..<(s + 1) * width]) }
    }
    return traces
  }
}
