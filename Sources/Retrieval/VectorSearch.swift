import Compute
import Files
import Synchronization
import Tensors

extension VectorIndex {
  /// The passages whose vectors have the largest inner products with each query: all are compared.
  ///
  /// Equal scores come in the order of the corpus. A score does not depend on the number of threads, nor on the other queries.
  /// - Parameters:
  ///   - queries: `[queryCount, dimensions]`, finite.
  ///   - top: how many passages at most for each query.
  /// - Throws: ``VectorIndexError`` when a query or a stored vector is not finite.
  package func search(
    _ queries: UnsafePointer<Float>, queryCount: Int, top: Int, pool: WorkerPool = .shared
  ) throws -> [[Hit]] {
    precondition(queryCount >= 0 && top > 0)
    guard queryCount > 0 else { return [] }
    for i in 0..<queryCount * dimensions where !queries[i].isFinite {
      throw VectorIndexError(.queryNotFinite, path: path)
    }
    let scan = VectorScan(self, queries: queries, queryCount: queryCount, top: min(top, count))
    let merged = Mutex(
      (lists: [TopList](repeating: TopList(capacity: scan.top), count: queryCount), damaged: Int?.none))
    withExtendedLifetime(self) {
      pool.runShrinkingRanges((count + VectorScan.block - 1) / VectorScan.block) { blocks in
        var lists = [TopList](repeating: TopList(capacity: scan.top), count: queryCount)
        let rows =
          blocks.lowerBound * VectorScan.block..<min(blocks.upperBound * VectorScan.block, scan.count)
        let damaged = scan.run(rows, into: &lists, kernels: pool.kernels)
        merged.withLock { all in
          for query in 0..<queryCount { all.lists[query].merge(lists[query]) }
          if let damaged { all.damaged = min(damaged, all.damaged ?? damaged) }
        }
      }
    }
    return try merged.withLock { all in
      if let row = all.damaged {
        throw VectorIndexError(
          .damaged(
            file: VectorIndex.vectorsFileName, "the vector of passage \(row) gives a score that is not finite"
          ),
          path: path)
      }
      return all.lists.map(\.hits)
    }
  }
}

/// The best passages so far, best first.
struct TopList: Sendable {
  private let capacity: Int
  private(set) var hits: [VectorIndex.Hit] = []
  /// What a score must exceed, or equal with a smaller index, once the list is full.
  private(set) var least = -Float.infinity

  init(capacity: Int) { self.capacity = capacity }

  private static func precedes(_ a: VectorIndex.Hit, _ b: VectorIndex.Hit) -> Bool {
    a.score == b.score ? a.index < b.index : a.score > b.score
  }

  @inline(__always)
  func mayTake(_ score: Float) -> Bool { score >= least }

  mutating func insert(_ hit: VectorIndex.Hit) {
    if hits.count == capacity, let last = hits.last, !TopList.precedes(hit, last) { return }
    var (low, high) = (0, hits.count)
    while low < high {
      let middle = (low + high) / 2
      if TopList.precedes(hits[middle], hit) { low = middle + 1 } else { high = middle }
    }
    if hits.count == capacity { hits.removeLast() }
    hits.insert(hit, at: low)
    if hits.count == capacity, let last = hits.last { least = last.score }
  }

  mutating func merge(_ other: TopList) { for hit in other.hits { insert(hit) } }
}

/// One pass over the vectors for some queries, without references to count.
private struct VectorScan: Sendable {
  /// Vectors that all queries are multiplied with while a core's cache holds them.
  static let block = 64

  /// How many bytes ahead lines are fetched: the hardware's prefetcher restarts at every page.
  static let readAhead: UInt = 4096

  let vectors: SharedPointer<UInt8>
  let scales: SharedPointer<UInt8>?
  let type: VectorType
  let count, width: Int
  let queries: SharedPointer<Float>
  let queryCount: Int
  let top: Int

  init(_ index: VectorIndex, queries: UnsafePointer<Float>, queryCount: Int, top: Int) {
    // An index has at least one vector of one component.
    guard let base = index.vectors.bytes.baseAddress else { preconditionFailure("an index without vectors") }
    vectors = SharedPointer(bytes: base)
    scales = index.scales?.bytes.baseAddress.map { SharedPointer(bytes: $0) }
    type = index.manifest.settings.vectorType
    (count, width) = (index.count, index.dimensions)
    self.queries = SharedPointer(queries)
    self.queryCount = queryCount
    self.top = top
  }

  /// - Returns: the first row whose score is not finite, if there is one.
  func run(_ rows: Range<Int>, into lists: inout [TopList], kernels: Kernels) -> Int? {
    var damaged: Int?
    lists.withUnsafeMutableBufferPointer { lists in
      Scratch.withFloats(type == .fp32 ? 0 : VectorScan.block * width) { widened in
        for first in stride(from: rows.lowerBound, to: rows.upperBound, by: VectorScan.block) {
          let some = first..<min(first + VectorScan.block, rows.upperBound)
          let floats = floats(of: some, scratch: widened, kernels: kernels)
          for query in 0..<queryCount {
            let x = queries + query * width
            for row in some {
              if query == 0, type == .fp32 {
                let next = UInt(bitPattern: floats + (row - first) * width) + VectorScan.readAhead
                prefetch(next, bytes: 4 * width)
              }
              var score = kernels.dot(x, floats + (row - first) * width, count: width)
              if let scales {
                score *= scales.raw.loadUnaligned(fromByteOffset: 4 * row, as: Float.self)
              }
              if lists[query].mayTake(score) {
                if score.isFinite {
                  lists[query].insert(VectorIndex.Hit(index: row, score: score))
                } else if damaged == nil {
                  damaged = row
                }
              } else if score.isNaN || score == -.infinity, damaged == nil {
                damaged = row
              }
            }
          }
        }
      }
    }
    return damaged
  }

  /// Rows as floats: where they are mapped, or widened into the scratch memory.
  private func floats(of rows: Range<Int>, scratch: UnsafeMutablePointer<Float>, kernels: Kernels)
    -> UnsafePointer<Float>
  {
    let start = vectors.raw + rows.lowerBound * width * type.dtype.byteCount
    switch type {
    case .fp32: return start.assumingMemoryBound(to: Float.self)
    case .fp16: kernels.widen(scratch, from: start, type: .f16, count: rows.count * width)
    case .int8: kernels.widen(scratch, from: start, type: .int8, count: rows.count * width)
    }
    return UnsafePointer(scratch)
  }
}
