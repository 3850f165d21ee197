import Architecture
import Compute
import Transformer

/// The activations of this rank's calibration tokens between two layers, and working memory for the steps inside one.
package final class CalibrationActivations {
  /// Consecutive windows that are processed together: about two thousand tokens.
  struct Chunk {
    /// Its number among all windows of the calibration set.
    var firstWindow: Int
    var firstRow: Int
    var rows: Int
    var slices: [SequenceSlice]
  }

  package let configuration: DecoderConfiguration
  /// Whose windows of this rank are here, shard after shard.
  package let shards: CalibrationShards
  /// Tokens of this rank's windows.
  package let rows: Int
  /// Input of the next layer: `[rows, hiddenSize]`.
  package let hidden: AlignedBuffer<Float>
  /// Input of the projection that closes a half-block (o, then down): `[rows, max(attentionWidth, intermediateSize)]`,
  /// rows packed to the width in use.
  let inner: AlignedBuffer<Float>
  let chunks: [Chunk]
  /// Of each round of shards. A chunk does not cross the end of a shard.
  let rounds: [Range<Int>]
  let work: LayerBuffers

  static let chunkRows = 2048

  /// One shard on one rank.
  /// - Throws: ``QuantizationError`` when the folder of `scratch` cannot hold them.
  package convenience init(
    configuration: DecoderConfiguration, windowLengths: [Int], scratch: String? = nil
  ) throws {
    try self.init(
      configuration: configuration, shards: CalibrationShards(lengths: windowLengths), scratch: scratch)
  }

  /// - Parameter scratch: a folder whose disk holds the activations; nil: memory.
  /// - Throws: ``QuantizationError`` when the folder cannot hold them.
  package init(configuration: DecoderConfiguration, shards: CalibrationShards, scratch: String? = nil) throws
  {
    self.configuration = configuration
    self.shards = shards
    rows = shards.rows
    (hidden, inner) = try Self.buffers(configuration, rows: rows, scratch: scratch)

    // One window's keys and values are needed at a time, for one layer: every window of a chunk has a cache of its own
    // and all chunks share them.
    var caches: [KVCache] = []
    var chunks: [Chunk] = []
    var slices: [SequenceSlice] = []
    var chunkStart = 0
    var row = 0
    var firstWindow = 0
    let longest = shards.lengths.max() ?? 1
    func close() {
      guard !slices.isEmpty else { return }
      chunks.append(
        Chunk(firstWindow: firstWindow, firstRow: chunkStart, rows: row - chunkStart, slices: slices))
      firstWindow += slices.count
      slices = []
      chunkStart = row
    }
    var rounds: [Range<Int>] = []
    for round in 0..<shards.rounds {
      let firstChunk = chunks.count
      let windows = shards.windows(inRound: round) ?? 0..<0
      firstWindow = windows.lowerBound
      for length in shards.lengths[windows] {
        if row - chunkStart + length > CalibrationActivations.chunkRows { close() }
        if slices.count == caches.count {
          caches.append(KVCache(configuration: configuration, capacity: max(1, longest), retaining: false))
        }
        slices.append(
          SequenceSlice(
            firstRow: row - chunkStart, rowCount: length, firstPosition: 0, cache: caches[slices.count]))
        row += length
      }
      close()
      rounds.append(firstChunk..<chunks.count)
    }
    self.chunks = chunks
    self.rounds = rounds
    work = LayerBuffers(configuration, rows: chunks.map(\.rows).max() ?? 0)
  }

  /// Activations of the same windows in another model; working memory is shared.
  /// - Throws: ``QuantizationError`` when the folder of `scratch` cannot hold them.
  init(beside other: CalibrationActivations, scratch: String?) throws {
    (configuration, shards, rows) = (other.configuration, other.shards, other.rows)
    (chunks, rounds, work) = (other.chunks, other.rounds, other.work)
    (hidden, inner) = try Self.buffers(configuration, rows: rows, scratch: scratch)
  }

  private static func buffers(_ c: DecoderConfiguration, rows: Int, scratch: String?) throws -> (
    hidden: AlignedBuffer<Float>, inner: AlignedBuffer<Float>
  ) {
    (
      try .forActivations(rows * c.hiddenSize, scratch: scratch),
      try .forActivations(rows * max(c.attentionWidth, c.intermediateSize), scratch: scratch)
    )
  }

  /// A chunk's rows and the memory of the steps. What closes a half-block (the inputs of o and down) outlives the chunk:
  /// every token has a place for it.
  func rows(of chunk: Chunk) -> BlockRows {
    var rows = BlockRows(
      x: hidden.pointer + chunk.firstRow * configuration.hiddenSize, count: chunk.rows,
      sequences: chunk.slices, work: work)
    rows.attention = inner.pointer + chunk.firstRow * configuration.attentionWidth
    rows.gate = inner.pointer + chunk.firstRow * configuration.intermediateSize
    return rows
  }

  /// The chunk that some rows are.
  func chunk(of rows: BlockRows) -> Chunk {
    let first = row(of: rows)
    guard let chunk = chunks.first(where: { $0.firstRow == first }) else {
      preconditionFailure("rows of no chunk")
    }
    return chunk
  }

  /// The number of the first of a chunk's tokens among all of this rank.
  func row(of rows: BlockRows) -> Int { (rows.x - hidden.pointer) / configuration.hiddenSize }
}
