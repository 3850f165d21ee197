import Compute
import Foundation
import ToolSupport

/// What this machine can do at most, measured in the same run as what is compared with it.
enum Limits {
  /// Multiply-adds on registers, all threads: floating-point operations a second.
  static func peakFlops(pool: WorkerPool = .shared) -> Double {
    rate(pool) { pool.kernels.burn(rounds: 1_000_000) }
  }

  /// The same over about a tenth of a second, however the threads share it: what the cores give around a longer piece of work. On a
  /// virtual machine that is less than their best few milliseconds, and changes from one second to the next.
  static func sustainedFlops(pool: WorkerPool = .shared) -> Double {
    sustained(pool) { pool.kernels.burn(rounds: 200_000) }
  }

  /// The same for products of pairs of bf16, or of floats where attention in `fast` arithmetic multiplies these.
  static func sustainedPairs(pool: WorkerPool = .shared) -> Double {
    sustained(pool) { pool.kernels.burnPairs(rounds: 200_000) }
  }

  private static func sustained(_ pool: WorkerPool, _ burst: @Sendable () -> Double) -> Double {
    let bursts = 128 * pool.threadCount
    let counts = AlignedBuffer<Double>(count: bursts)
    let seconds = Timing.seconds { pool.run(bursts) { counts[$0] = burst() } }
    return counts.buffer.reduce(0, +) / seconds
  }

  /// Byte dot products on registers, all threads: multiplications and additions a second.
  static func peakByteOperations(pool: WorkerPool = .shared) -> Double {
    rate(pool) { pool.kernels.burnBytes(rounds: 125_000) }
  }

  /// The best of five runs of `work`, which says how many operations it did, on every thread.
  private static func rate(_ pool: WorkerPool, _ work: @Sendable () -> Double) -> Double {
    let counts = AlignedBuffer<Double>(count: pool.threadCount)
    return Timing.best(5) {
      let start = Timing.now()
      pool.run(pool.threadCount) { thread in counts[thread] = work() }
      return counts.buffer.reduce(0, +) / (Timing.now() - start)
    }
  }

  /// Reading `bytes` once from start to end, all threads: bytes a second.
  /// Lines are prefetched, as in the kernels, because the hardware prefetcher restarts at every page and reads less. The best
  /// distance differs (2 KB on Zen 3, more on later cores); the better of two is reported.
  static func readBandwidth(_ bytes: UnsafeRawBufferPointer, pool: WorkerPool = .shared, repetitions: Int = 3)
    -> Double
  {
    let words = bytes.count / 64
    guard words > 0, let base = bytes.baseAddress else { return 0 }
    let source = SharedPointer(bytes: base)
    let share = 1 << 14
    let tasks = (words + share - 1) / share
    let sums = AlignedBuffer<UInt64>(zeros: tasks)
    func read(_ readAhead: UInt) -> Double {
      let start = Timing.now()
      pool.run(tasks) { task in
        var (a, b, c, d) = (SIMD8<UInt64>(), SIMD8<UInt64>(), SIMD8<UInt64>(), SIMD8<UInt64>())
        let end = min(words, (task + 1) * share)
        var i = task * share
        while i + 4 <= end {
          let p = source.raw + i * 64
          prefetch(UInt(bitPattern: p) + readAhead, bytes: 256)
          a ^= p.loadUnaligned(as: SIMD8<UInt64>.self)
          b ^= p.loadUnaligned(fromByteOffset: 64, as: SIMD8<UInt64>.self)
          c ^= p.loadUnaligned(fromByteOffset: 128, as: SIMD8<UInt64>.self)
          d ^= p.loadUnaligned(fromByteOffset: 192, as: SIMD8<UInt64>.self)
          i += 4
        }
        sums[task] = (a ^ b ^ c ^ d).wrappedSum()
      }
      return Double(words * 64) / (Timing.now() - start)
    }
    return Timing.best(repetitions) { max(read(2048), read(6144)) }
  }

  static var physicalBytes: Int { Int(clamping: ProcessInfo.processInfo.physicalMemory) }

  /// Highest resident memory of this process so far, in bytes.
  static var peakResidentBytes: Int { ProcessMemory.peakResidentBytes }

  /// Memory that is not backed by a file, in bytes (Linux).
  static var anonymousBytes: Int? {
    guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("RssAnon") }),
      let kilobytes = line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap({ Int($0) })
    else { return nil }
    return kilobytes * 1024
  }
}

enum Timing {
  static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  /// Seconds that `body` takes.
  static func seconds(_ body: () throws -> Void) rethrows -> Double {
    let start = now()
    try body()
    return now() - start
  }

  static func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return 0 }
    return sorted.count % 2 == 1
      ? sorted[sorted.count / 2] : (sorted[sorted.count / 2 - 1] + sorted[sorted.count / 2]) / 2
  }

  static func best(_ times: Int, _ body: () -> Double) -> Double {
    (0..<times).map { _ in body() }.max() ?? 0
  }
}
