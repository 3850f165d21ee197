import CKernels

/// Successive positions of one head of a cache that are stored alike.
package struct KeyValueSegment {
  /// The first position, a multiple of 16, and of ``keyValueBlock`` with codes.
  package var first: Int
  /// Positions; a multiple of ``keyValueBlock`` with codes.
  package var count: Int
  package var storage: Storage

  package enum Storage {
    /// Panels of keys `[headDim][16]`, one after the other, and panels of values `[position][16]`, `valuePanelStride` elements
    /// apart, both from the segment's first position on. Bytes have a scale for each position.
    case panels(
      KernelType, keys: UnsafeRawPointer, values: UnsafeRawPointer, valuePanelStride: Int,
      keyScales: UnsafePointer<Float>?, valueScales: UnsafePointer<Float>?)
    /// Blocks of ``keyValueBlock`` positions in 4 bits, ``Kernels/keyValueBlockBytes(headDim:paddedHeadDim:)`` bytes each.
    case codes(UnsafePointer<UInt8>)
  }

  package init(first: Int, count: Int, storage: Storage) {
    (self.first, self.count, self.storage) = (first, count, storage)
  }

  fileprivate var native: zn_kv_segment {
    switch storage {
    case .panels(let type, let keys, let values, let stride, let keyScales, let valueScales):
      zn_kv_segment(
        first: Int64(first), count: Int64(count), is_codes: false, type: type.code, keys: keys,
        values: values,
        value_panel_stride: Int64(stride), key_scales: keyScales, value_scales: valueScales)
    case .codes(let blocks):
      zn_kv_segment(
        first: Int64(first), count: Int64(count), is_codes: true, type: ZN_F16,
        keys: UnsafeRawPointer(blocks),
        values: nil, value_panel_stride: 0, key_scales: nil, value_scales: nil)
    }
  }
}

/// Up to three segments, which are made for every head of every token: without memory of their own.
package struct KeyValueSegments {
  private var a, b, c: KeyValueSegment?
  package private(set) var count = 0

  package init() {}

  package mutating func append(_ segment: KeyValueSegment) {
    precondition(count < 3)
    switch count {
    case 0: a = segment
    case 1: b = segment
    default: c = segment
    }
    count += 1
  }

  package subscript(index: Int) -> KeyValueSegment {
    switch index {
    case 0: a!
    case 1: b!
    default: c!
    }
  }
}

/// Positions of a block of keys and values in 4 bits.
package var keyValueBlock: Int { Int(ZN_KV_BLOCK) }

/// Queries that see keys of the same head, ``group`` of each token; see `zn_attention` in `CKernels.h`.
package struct AttentionJob {
  package var rows, group: Int
  /// Keys that the first token's queries see; each further token sees one more.
  package var firstVisible: Int
  package var headDim, paddedHeadDim: Int
  /// Query r is at `r / group * tokenStride + r % group * headStride`, and its result alike.
  package var queries: UnsafePointer<Float>
  package var tokenStride, headStride: Int
  package var out: UnsafeMutablePointer<Float>
  package var outTokenStride, outHeadStride: Int

  package init(
    rows: Int, group: Int, firstVisible: Int, headDim: Int, paddedHeadDim: Int, queries: UnsafePointer<Float>,
    tokenStride: Int, headStride: Int, out: UnsafeMutablePointer<Float>, outTokenStride: Int,
    outHeadStride: Int
  ) {
    (self.rows, self.group, self.firstVisible) = (rows, group, firstVisible)
    (self.headDim, self.paddedHeadDim) = (headDim, paddedHeadDim)
    (self.queries, self.tokenStride, self.headStride) = (queries, tokenStride, headStride)
    (self.out, self.outTokenStride, self.outHeadStride) = (out, outTokenStride, outHeadStride)
  }
}

extension Kernels {
  /// Attention in `fast` arithmetic: products in bf16, in one pass over the keys. A row's result does not depend on other rows.
  /// - Parameter segments: ascending, without gaps, up to the last key that a query sees.
  package func attend(_ job: AttentionJob, to segments: KeyValueSegments) {
    precondition(job.rows > 0 && job.group > 0 && job.firstVisible > 0 && segments.count > 0)
    precondition(
      job.headDim > 0 && job.paddedHeadDim == (job.headDim + panelWidth - 1) / panelWidth * panelWidth)
    let last = segments[segments.count - 1]
    precondition(
      segments[0].first == 0 && last.first + last.count >= job.firstVisible + (job.rows - 1) / job.group,
      "queries see keys that no segment has")
    let floats = zn_attention_scratch(Int64(job.rows), Int64(job.headDim), Int64(job.paddedHeadDim))
    Scratch.withFloats(Int(floats)) { scratch in
      withUnsafeTemporaryAllocation(of: zn_kv_segment.self, capacity: 3) { list in
        for index in 0..<segments.count { list.initializeElement(at: index, to: segments[index].native) }
        guard let first = list.baseAddress else { return }
        var native = zn_attention(
          rows: Int64(job.rows), group: Int64(job.group), first_visible: Int64(job.firstVisible),
          head_dim: Int64(job.headDim), padded_dim: Int64(job.paddedHeadDim), queries: job.queries,
          token_stride: Int64(job.tokenStride), head_stride: Int64(job.headStride), out: job.out,
          out_token_stride: Int64(job.outTokenStride), out_head_stride: Int64(job.outHeadStride),
          // log2 e / sqrt(headDim): exponentials are powers of two.
          scale: Float(1.4426950408889634 / Double(job.headDim).squareRoot()), segments: first,
          segment_count: Int64(segments.count))
        table.pointee.attend(&native, scratch)
      }
    }
  }

  /// Bytes of ``keyValueBlock`` positions of a head in 4 bits, with scales.
  package static func keyValueBlockBytes(headDim: Int, paddedHeadDim: Int) -> Int {
    Int(zn_kv_block_bytes(Int64(headDim), Int64(paddedHeadDim)))
  }

  /// Keys and values of ``keyValueBlock`` positions of a head in half precision → 4 bits.
  package func encodeKeyValueBlock(
    _ block: UnsafeMutablePointer<UInt8>, keys: UnsafeRawPointer, values: UnsafeRawPointer,
    valuePanelStride: Int, headDim: Int, paddedHeadDim: Int
  ) {
    table.pointee.encode_kv_block(
      block, keys.assumingMemoryBound(to: UInt16.self), values.assumingMemoryBound(to: UInt16.self),
      Int64(valuePanelStride), Int64(headDim), Int64(paddedHeadDim))
  }

  /// The panels of keys or of values of a block, or of both, as floats.
  package func decodeKeyValueBlock(
    _ block: UnsafePointer<UInt8>, keys: UnsafeMutablePointer<Float>? = nil,
    values: UnsafeMutablePointer<Float>? = nil, valuePanelStride: Int = 0, headDim: Int, paddedHeadDim: Int
  ) {
    table.pointee.decode_kv_block(
      keys, values, Int64(valuePanelStride), block, Int64(headDim), Int64(paddedHeadDim))
  }
}
