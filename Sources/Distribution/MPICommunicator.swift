#if MPI
  import CMPI
  import Compute
  import Foundation
  import Synchronization

  /// Ranks that a launcher of MPI started.
  ///
  /// Operations are started and then asked for, with pauses that grow to half a millisecond: the waiting that MPI libraries do
  /// themselves keeps a core busy, which other ranks of the machine may need.
  package final class MPICommunicator: Communicator {
    package let rank: Int
    package let count: Int
    /// Name and version of the library.
    package let library: String
    private let moved = Mutex(Traffic())
    package var traffic: Traffic { moved.withLock { $0 } }
    private let steps = Atomic<UInt32>(0)
    package var progress: UInt32 { steps.load(ordering: .relaxed) }
    private let waited = Mutex(0.0)
    package var secondsWaited: Double { waited.withLock { $0 } }

    /// Joins the ranks. A process does this once.
    package init() throws(DistributionError) {
      var (rank, count): (Int32, Int32) = (0, 1)
      try MPICommunicator.check(zn_mpi_start(&rank, &count), "start")
      (self.rank, self.count) = (Int(rank), Int(count))
      library = MPICommunicator.text(zn_mpi_library_version)
    }

    /// Leaves the ranks, when all work is done.
    package func finish() throws(DistributionError) { try MPICommunicator.check(zn_mpi_finish(), "finish") }

    package func broadcast(_ bytes: UnsafeMutableRawBufferPointer, from root: Int) throws {
      for start in stride(from: 0, to: bytes.count, by: 1 << 30) {
        let count = min(bytes.count - start, 1 << 30)
        try wait("broadcast") {
          zn_mpi_broadcast(bytes.baseAddress.map { $0 + start }, Int32(count), Int32(root), &$0)
        }
      }
      moved.withLock {
        // The library forwards along a tree; what is counted is what each rank has and gets.
        if rank == root { $0.sent += bytes.count * (count - 1) } else { $0.received += bytes.count }
      }
    }

    package func exchange(
      _ parts: UnsafeRawBufferPointer, counts: [Int], into received: UnsafeMutableRawBufferPointer,
      receivedCounts: [Int]
    ) throws {
      let (sent, got) = (Blocks(counts), Blocks(receivedCounts))
      precondition(sent.total <= parts.count && got.total <= received.count, "parts beyond their memory")
      // MPI reads the counts until the operation ends.
      try withExtendedLifetime((sent, got)) {
        try wait("exchange") {
          zn_mpi_exchange(
            parts.baseAddress, sent.counts.pointer, sent.offsets.pointer, received.baseAddress,
            got.counts.pointer, got.offsets.pointer, &$0)
        }
      }
      moved.withLock {
        $0.sent += sent.total - counts[rank]
        $0.received += got.total - receivedCounts[rank]
      }
    }

    package func gather(
      _ part: UnsafeRawBufferPointer, into parts: UnsafeMutableRawBufferPointer, counts: [Int]
    ) throws {
      let blocks = Blocks(counts)
      precondition(
        part.count == counts[rank] && blocks.total <= parts.count, "parts beyond their memory")
      try withExtendedLifetime(blocks) {
        try wait("gather") {
          zn_mpi_gather(
            part.baseAddress, Int32(part.count), parts.baseAddress, blocks.counts.pointer,
            blocks.offsets.pointer, &$0)
        }
      }
      moved.withLock {
        $0.sent += part.count * (count - 1)
        $0.received += blocks.total - part.count
      }
    }

    package func barrier() throws { try wait("wait for all ranks") { zn_mpi_barrier(&$0) } }

    /// Counts and offsets in MPI's type.
    private struct Blocks {
      let counts: AlignedBuffer<Int32>
      let offsets: AlignedBuffer<Int32>
      let total: Int

      init(_ counts: [Int]) {
        total = counts.reduce(0, +)
        precondition(total <= Int(Int32.max), "2 GiB or more in one call")
        self.counts = AlignedBuffer(counts.map { Int32($0) })
        var offset = 0
        offsets = AlignedBuffer(
          counts.map { count in
            defer { offset += count }
            return Int32(offset)
          })
      }
    }

    /// Starts an operation and waits for its end.
    private func wait(_ operation: String, _ start: (inout zn_mpi_request) -> Int32) throws {
      steps.add(1, ordering: .relaxed)
      let began = Date()
      defer {
        steps.add(1, ordering: .relaxed)
        waited.withLock { $0 -= began.timeIntervalSinceNow }
      }
      var request = zn_mpi_request()
      try MPICommunicator.check(start(&request), operation)
      var done: Int32 = 0
      var tries = 0
      while true {
        try MPICommunicator.check(zn_mpi_test(&request, &done), operation)
        if done != 0 { return }
        tries += 1
        if tries > 200 { usleep(UInt32(min(500, 20 + tries / 10))) }
      }
    }

    private static func check(_ code: Int32, _ operation: String) throws(DistributionError) {
      guard code != 0 else { return }
      throw DistributionError.library(operation: operation, detail: text { zn_mpi_error_text(code, $0) })
    }

    private static func text(_ fill: (UnsafeMutablePointer<CChar>) -> Void) -> String {
      var bytes = [CChar](repeating: 0, count: 512)
      fill(&bytes)
      return String(decoding: bytes.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
  }
#endif
