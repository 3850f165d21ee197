import Architecture
import Compute
import Tensors
import Transformer

extension BackwardSteps {
  /// The gradient through ``LayerSteps/attend(_:sequences:layer:into:)``, causal, with grouped heads, of whole sequences from
  /// position 0.
  ///
  /// With P = softmax(QKᵀ/√d) and O = PV: dV = Pᵀ·dO, dP = dO·Vᵀ, dS = P ∘ (dP − rowsum(dO ∘ O)) / √d, dQ = dS·K, dK = dSᵀ·Q
  /// (Dao et al., FlashAttention, arXiv:2205.14135, algorithm 4). Probabilities exist for some queries at a time, so memory grows with
  /// the length of a sequence, not with its square.
  /// - Parameters:
  ///   - qkv: `[rows, qkvWidth]` as `attend` leaves it: queries and keys are rotated.
  ///   - out: O, `[rows, attentionWidth]`.
  ///   - dOut: `[rows, attentionWidth]`.
  ///   - dQKV: `[rows, qkvWidth]`, written: of queries and keys before their rotation, and of values.
  package func attend(
    _ qkv: UnsafePointer<Float>, out: UnsafePointer<Float>, dOut: UnsafePointer<Float>,
    sequences: [SequenceSlice], into dQKV: UnsafeMutablePointer<Float>
  ) {
    let c = configuration
    let half = c.rotary.rotaryDim / 2
    let longest = sequences.map(\.rowCount).max() ?? 0
    let angles = rotationBack(positions: longest)
    let (qkv, out, dOut) = (SharedPointer(qkv), SharedPointer(out), SharedPointer(dOut))
    let dQKV = DisjointWrites(dQKV)
    let spans = sequences.map { ($0.firstRow, $0.rowCount) }
    // One key head, and the query heads that share it, is a task: they add to the same dK and dV, in their order.
    pool.run(spans.count * c.kvHeads) { task in
      let (first, rows) = spans[task / c.kvHeads]
      let kvHead = task % c.kvHeads
      let queryHeads = kvHead * c.queriesPerKV..<(kvHead + 1) * c.queriesPerKV
      HeadGradient(
        kernels: pool.kernels, rows: rows, headDim: c.headDim, isCausal: true,
        queries: queryHeads.map { (c.queryOffset($0), $0 * c.headDim) }, key: c.keyOffset(kvHead),
        value: c.valueOffset(kvHead), qkvWidth: c.qkvWidth, outWidth: c.attentionWidth,
        qkv: qkv + first * c.qkvWidth, out: out + first * c.attentionWidth,
        dOut: dOut + first * c.attentionWidth, dQKV: dQKV + first * c.qkvWidth
      ).run()
      for row in 0..<rows {
        let (cosines, sines) = (angles.pointer + 2 * row * half, angles.pointer + (2 * row + 1) * half)
        func rotate(_ offset: Int) {
          pool.kernels.rotate(
            dQKV + ((first + row) * c.qkvWidth + offset), cosines: cosines, sines: sines,
            rotaryDim: c.rotary.rotaryDim)
        }
        for query in queryHeads { rotate(c.queryOffset(query)) }
        rotate(c.keyOffset(kvHead))
      }
    }
  }

  /// Floats of scratch that one task of ``attend(_:out:dOut:sequences:into:)`` takes.
  package static func attentionScratch(_ c: DecoderConfiguration, rows: Int) -> Int {
    HeadGradient.scratchFloats(headDim: c.headDim, rows: rows)
  }

  /// For each position its cosines, and then its sines with the other sign, which undoes the rotation.
  private func rotationBack(positions: Int) -> AlignedBuffer<Float> {
    let half = configuration.rotary.rotaryDim / 2
    let angles = AlignedBuffer<Float>(count: max(1, 2 * positions * half))
    forward.rotary.prepare(0..<positions)
    for position in 0..<positions {
      let (cosines, sines) = forward.rotary.angles(at: position)
      for index in 0..<half {
        angles[2 * position * half + index] = cosines[index]
        angles[(2 * position + 1) * half + index] = -sines[index]
      }
    }
    return angles
  }
}

/// The gradient through the attention of one key head of one sequence.
struct HeadGradient {
  let kernels: Kernels
  let rows: Int
  let headDim: Int
  /// Whether a token sees only those up to itself; otherwise it sees all.
  let isCausal: Bool
  /// The query heads that share the key head: where each begins in a row of `qkv`, and in a row of `out`.
  let queries: [(input: Int, output: Int)]
  /// Where the key head and its values begin in a row of `qkv`.
  let key, value: Int
  /// Floats of a row of `qkv` and `dQKV`, and of `out` and `dOut`.
  let qkvWidth, outWidth: Int
  /// The sequence's rows.
  let qkv, out, dOut: UnsafePointer<Float>
  let dQKV: UnsafeMutablePointer<Float>

  /// Queries whose probabilities exist at a time.
  static let queryBlock = 48

  private static func padded(_ count: Int) -> Int { (count + panelWidth - 1) / panelWidth * panelWidth }

  static func scratchFloats(headDim: Int, rows: Int) -> Int {
    let (width, length) = (padded(headDim), padded(rows))
    return 2 * length * headDim + 3 * width * rows + 2 * rows * headDim + 2 * queryBlock * length
  }

  func run() {
    let (d, width, length) = (headDim, HeadGradient.padded(headDim), HeadGradient.padded(rows))
    Scratch.withFloats(HeadGradient.scratchFloats(headDim: d, rows: rows)) { memory in
      // [panel of keys][d][16]
      let keysByToken = memory
      let valuesByToken = keysByToken + length * d
      // [panel of d][token][16]
      let keys = valuesByToken + length * d
      let queriesOfHead = keys + width * rows
      let dOuts = queriesOfHead + width * rows
      // [token][d]
      let dKeys = dOuts + width * rows
      let dValues = dKeys + rows * d
      let probabilities = dValues + rows * d
      let dScores = probabilities + HeadGradient.queryBlock * length

      for (place, offset) in [(keysByToken, key), (valuesByToken, value)] {
        for first in stride(from: 0, to: rows, by: panelWidth) {
          kernels.packPanel(
            place + first * d, from: qkv + first * qkvWidth + offset, type: .f32, rowStride: qkvWidth,
            rows: min(panelWidth, rows - first), k: d)
        }
      }
      copy(qkv + key, rowStride: qkvWidth, into: keys)
      dKeys.update(repeating: 0, count: 2 * rows * d)
      for head in queries {
        copy(qkv + head.input, rowStride: qkvWidth, into: queriesOfHead)
        copy(dOut + head.output, rowStride: outWidth, into: dOuts)
        for first in stride(from: 0, to: rows, by: HeadGradient.queryBlock) {
          let count = min(HeadGradient.queryBlock, rows - first)
          let visible = isCausal ? first + count : rows
          scores(
            of: qkv + first * qkvWidth + head.input, rowStride: qkvWidth, count, visible,
            keysByToken, into: probabilities, length)
          normalize(probabilities, first: first, count, visible, length)
          scores(
            of: dOut + first * outWidth + head.output, rowStride: outWidth, count, visible,
            valuesByToken, into: dScores, length)
          // dV += Pᵀ · dO
          kernels.gemm(
            m: visible, n: d, k: count, a: probabilities, aRowStride: 1, aKStride: length,
            b: dOuts + first * panelWidth, bPanelStride: rows * panelWidth, c: dValues, cRowStride: d,
            cPanelStride: panelWidth, mode: .add)
          for row in 0..<count {
            let at = (first + row) * outWidth + head.output
            kernels.softmaxGradient(
              dScores + row * length, probabilities: probabilities + row * length,
              mean: kernels.dot(dOut + at, out + at, count: d), factor: 1 / Float(d).squareRoot(),
              count: visible)
          }
          // dQ = dS · K
          kernels.gemm(
            m: count, n: d, k: visible, a: dScores, aRowStride: length, aKStride: 1, b: keys,
            bPanelStride: rows * panelWidth, c: dQKV + first * qkvWidth + head.input,
            cRowStride: qkvWidth, cPanelStride: panelWidth, mode: .overwrite)
          // dK += dSᵀ · Q
          kernels.gemm(
            m: visible, n: d, k: count, a: dScores, aRowStride: 1, aKStride: length,
            b: queriesOfHead + first * panelWidth, bPanelStride: rows * panelWidth, c: dKeys, cRowStride: d,
            cPanelStride: panelWidth, mode: .add)
        }
      }
      for row in 0..<rows {
        let token = dQKV + row * qkvWidth
        (token + key).update(from: dKeys + row * d, count: d)
        (token + value).update(from: dValues + row * d, count: d)
      }
    }
  }

  /// `[rows][headDim]` → `[panel of headDim][row][16]`
  private func copy(
    _ source: UnsafePointer<Float>, rowStride: Int, into panels: UnsafeMutablePointer<Float>
  ) {
    kernels.copyPanels(
      panels, panelStride: rows * panelWidth, from: source, rowStride: rowStride, columns: headDim, k: rows)
  }

  /// `[count, visible]` products of rows with tokens, rows `length` floats apart.
  private func scores(
    of source: UnsafePointer<Float>, rowStride: Int, _ count: Int, _ visible: Int,
    _ byToken: UnsafePointer<Float>, into scores: UnsafeMutablePointer<Float>, _ length: Int
  ) {
    kernels.gemm(
      m: count, n: visible, k: headDim, a: source, aRowStride: rowStride, aKStride: 1, b: byToken,
      bPanelStride: headDim * panelWidth, c: scores, cRowStride: length, cPanelStride: panelWidth,
      mode: .overwrite)
  }

  /// Scores → probabilities; those of tokens that are not seen are 0.
  private func normalize(
    _ scores: UnsafeMutablePointer<Float>, first: Int, _ count: Int, _ visible: Int, _ length: Int
  ) {
    for row in 0..<count {
      let line = scores + row * length
      let seen = isCausal ? first + row + 1 : visible
      kernels.scale(line, by: 1 / Float(headDim).squareRoot(), count: seen)
      let sum = kernels.expSum(line, shift: kernels.maximum(line, count: seen), count: seen)
      kernels.scale(line, by: 1 / sum, count: seen)
      (line + seen).update(repeating: 0, count: visible - seen)
    }
  }
}
