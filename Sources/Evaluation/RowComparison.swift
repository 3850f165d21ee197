import Compute
import Foundation

/// Two models' logits of the same tokens, compared row by row.
package struct RowComparison: Sendable {
  /// So many of a row's most likely tokens are found, or all of a smaller vocabulary.
  package static let mostLikely = 10

  package let rows: Int
  /// KL(reference ‖ candidate) of each row, in nats.
  package let divergences: [Double]
  /// −log p of the token that each row predicts.
  package let losses: (reference: [Double], candidate: [Double])
  /// Each row's most likely tokens, the most likely first, equal ones by rising id.
  let top: (reference: MostLikely, candidate: MostLikely)

  /// - Parameters:
  ///   - reference: [rows, vocabulary].
  ///   - candidate: the same shape.
  ///   - targets: the token that each row predicts; there are as many rows.
  package init(
    _ reference: AlignedBuffer<Float>, _ candidate: AlignedBuffer<Float>, targets: ArraySlice<Int>,
    pool: WorkerPool
  ) {
    let (rows, first) = (targets.count, targets.startIndex)
    precondition(rows > 0 && reference.count == candidate.count && reference.count % rows == 0)
    let width = reference.count / rows
    let divergences = AlignedBuffer<Double>(count: rows)
    let losses = (AlignedBuffer<Double>(count: rows), AlignedBuffer<Double>(count: rows))
    let top = (MostLikely(rows: rows, width: width), MostLikely(rows: rows, width: width))
    let kernels = pool.kernels
    pool.runRanges(rows) { range in
      for row in range {
        let (x, y) = (reference.pointer + row * width, candidate.pointer + row * width)
        top.0.find(row, of: x, kernels: kernels)
        top.1.find(row, of: y, kernels: kernels)
        let largest = kernels.maximum(x, count: width)
        let sum = kernels.sumExp(x, shift: largest, count: width)
        let lse = (Double(largest) + logarithm(sum), logSumExp(y, count: width, kernels: kernels))
        top.0.normalizers[row] = lse.0
        top.1.normalizers[row] = lse.1
        let target = targets[first + row]
        losses.0[row] = lse.0 - Double(x[target])
        losses.1[row] = lse.1 - Double(y[target])
        let weighted = RowComparison.weightedDifference(x, y, width, largest, kernels)
        let divergence = weighted / sum - lse.0 + lse.1
        // Roundings may make it less than zero; what is not a number stays so, to be noticed.
        divergences[row] = divergence < 0 ? 0 : divergence
      }
    }
    self.rows = rows
    self.divergences = divergences.array
    self.losses = (losses.0.array, losses.1.array)
    self.top = top
  }

  /// Σ exp(x − shift) (x − y). KL is this / Σ exp(x − shift) − lse(x) + lse(y): that sum must be one in double precision, for the
  /// logits of two models may differ by a constant that takes part in the first term and is gone from the whole.
  private static func weightedDifference(
    _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ width: Int, _ shift: Float, _ kernels: Kernels
  ) -> Double {
    Scratch.withFloats(width) { weights in
      weights.update(from: x, count: width)
      _ = kernels.expSum(weights, shift: shift, count: width)
      var weighted = 0.0
      for i in 0..<width { weighted += Double(weights[i]) * Double(x[i] - y[i]) }
      return weighted
    }
  }

  // MARK: As numbers, for other ranks

  /// Appends everything there is to know of the rows; ids and logits are exact in double precision.
  func append(to values: inout [Double]) {
    values += [Double(rows), Double(top.reference.width)]
    values += divergences + losses.reference + losses.candidate
    top.reference.append(to: &values)
    top.candidate.append(to: &values)
  }

  /// Takes what ``append(to:)`` appended.
  init(takenFrom values: inout ArraySlice<Double>) {
    func take(_ count: Int) -> [Double] {
      defer { values = values.dropFirst(count) }
      return Array(values.prefix(count))
    }
    let head = take(2)
    rows = Int(head[0])
    divergences = take(rows)
    losses = (take(rows), take(rows))
    top = (
      MostLikely(takenFrom: &values, rows: rows, width: Int(head[1])),
      MostLikely(takenFrom: &values, rows: rows, width: Int(head[1]))
    )
  }

  /// False when one of the models gave something that is not a number, or an infinite logit.
  var isFinite: Bool {
    (divergences + losses.reference + losses.candidate).allSatisfy(\.isFinite)
  }

  /// Rows where both put the same token first.
  package var agreements: Int { (0..<rows).count { agrees($0) } }

  /// Whether both put the same token first.
  package func agrees(_ row: Int) -> Bool { common(row, 1) == 1 }

  /// How many of the reference's `k` most likely tokens are among the candidate's.
  /// - Parameter k: from 1 to the tokens that were found, ``found``.
  package func common(_ row: Int, _ k: Int) -> Int {
    let (a, b) = (top.reference.ids(row).prefix(k), top.candidate.ids(row).prefix(k))
    return a.count { b.contains($0) }
  }

  /// The most likely tokens that each row has: ``mostLikely``, or a smaller vocabulary's size.
  package var found: Int { top.reference.count }
}

/// The most likely tokens of rows of logits.
struct MostLikely: Sendable {
  /// Of each row.
  let count: Int
  fileprivate let width: Int
  private let ids: AlignedBuffer<Int32>
  private let logits: AlignedBuffer<Float>
  /// log Σ exp of each row's logits.
  let normalizers: AlignedBuffer<Double>

  init(rows: Int, width: Int) {
    self.width = width
    count = min(RowComparison.mostLikely, width)
    ids = AlignedBuffer(zeros: rows * count)
    logits = AlignedBuffer(zeros: rows * count)
    normalizers = AlignedBuffer(zeros: rows)
  }

  fileprivate func append(to values: inout [Double]) {
    values += ids.buffer.map { Double($0) }
    values += logits.buffer.map { Double($0) }
    values += normalizers.array
  }

  fileprivate init(takenFrom values: inout ArraySlice<Double>, rows: Int, width: Int) {
    self.init(rows: rows, width: width)
    for (place, value) in values.prefix(rows * count).enumerated() { ids[place] = Int32(value) }
    values = values.dropFirst(rows * count)
    for (place, value) in values.prefix(rows * count).enumerated() { logits[place] = Float(value) }
    values = values.dropFirst(rows * count)
    for (place, value) in values.prefix(rows).enumerated() { normalizers[place] = value }
    values = values.dropFirst(rows)
  }

  func ids(_ row: Int) -> UnsafeBufferPointer<Int32>.SubSequence {
    UnsafeBufferPointer(ids.buffer)[row * count..<(row + 1) * count]
  }

  /// - Parameter place: 0 is the most likely token's.
  func token(_ row: Int, _ place: Int) -> (id: Int, probability: Double) {
    let index = row * count + place
    return (Int(ids[index]), exp(Double(logits[index]) - normalizers[row]))
  }

  /// Elements whose largest is found at a time.
  private static let block = 256

  /// Finds the most likely tokens of one row in one pass of the kernels and a look at a few blocks: those whose maximum is among the
  /// largest `count`, for each of these holds one token at least that is as likely.
  func find(_ row: Int, of values: UnsafePointer<Float>, kernels: Kernels) {
    let blocks = (width + MostLikely.block - 1) / MostLikely.block
    let place = row * count
    let (ids, logits) = (ids.pointer + place, logits.pointer + place)
    Scratch.withFloats(blocks) { maxima in
      // The place of the results holds the largest maxima first.
      var largest = 0
      for block in 0..<blocks {
        let start = block * MostLikely.block
        let maximum = kernels.maximum(values + start, count: min(MostLikely.block, width - start))
        maxima[block] = maximum
        insert(maximum, 0, ids, logits, &largest)
      }
      let least = largest == count ? logits[count - 1] : -.infinity
      var found = 0
      for block in 0..<blocks where maxima[block] >= least {
        let start = block * MostLikely.block
        for index in start..<min(start + MostLikely.block, width) where values[index] >= least {
          insert(values[index], Int32(index), ids, logits, &found)
        }
      }
    }
  }

  /// Puts a value in its place after those that are equal, and drops the last when there are too many.
  @inline(__always)
  private func insert(
    _ value: Float, _ id: Int32, _ ids: UnsafeMutablePointer<Int32>, _ logits: UnsafeMutablePointer<Float>,
    _ found: inout Int
  ) {
    if found == count {
      guard value > logits[count - 1] else { return }
    } else {
      found += 1
    }
    var place = found - 1
    while place > 0 && value > logits[place - 1] {
      logits[place] = logits[place - 1]
      ids[place] = ids[place - 1]
      place -= 1
    }
    logits[place] = value
    ids[place] = id
  }
}
