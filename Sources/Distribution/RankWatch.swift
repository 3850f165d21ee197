#if os(Linux)
  import Files
  import Foundation
  import Synchronization

  /// A thread of every rank that tells when another rank is gone, beside the work and without MPI, which may wait for a lost machine for
  /// ever.
  ///
  /// Every rank keeps a TCP connection to rank 0. Each second both ends send how far they are. A connection that closes means that a process
  /// has ended; one on which nothing comes for ``silence`` seconds, that a machine or a network has failed, or that a process was stopped. A
  /// rank that cannot go on sends rank 0 the reason, so that rank 0 can print it. Rank 0 finds ranks that others wait for (``SlowRanks``).
  package final class RankWatch: Sendable {
    /// What has happened to another rank.
    package enum Event: Equatable, Sendable {
      case ended(rank: Int)
      case silent(rank: Int, seconds: Int)
      /// It could not go on, and says why.
      case failed(rank: Int, message: String, exitCode: Int32)
      /// The others wait for it, and go on doing so.
      case slow(SlowRanks.Finding)
    }

    /// Seconds without a byte after which a rank is taken for lost.
    package static let silence = 15
    private static let welcome = UInt8(ascii: "w")
    private static let heartbeat = UInt8(ascii: "h")
    private static let farewell = UInt8(ascii: "b")
    private static let failure = UInt8(ascii: "e")
    private static let longestMessage = 1 << 16

    private let rank: Int
    private let hosts: [String]
    /// On rank 0 one for each other rank, on other ranks one to rank 0.
    private let sockets: [Int32]
    private let handler: @Sendable (Event) -> Void
    private let communicator: any Communicator
    private let isFinished = Atomic<Bool>(false)
    /// Set when the other end has said that it will close.
    private let farewells: Mutex<Set<Int>>

    /// The name of each rank's machine.
    package func host(of rank: Int) -> String { hosts[rank] }

    /// Connects the ranks. All of them call it.
    /// - Parameter handler: is called on the thread that watches, once but for slow ranks; on rank 0 for any other rank, elsewhere only for
    ///   rank 0.
    /// - Throws: ``DistributionError/cannotWatch(detail:)`` when the ranks do not reach rank 0 over TCP.
    package init(_ communicator: any Communicator, handler: @escaping @Sendable (Event) -> Void) throws {
      rank = communicator.rank
      self.handler = handler
      self.communicator = communicator
      farewells = Mutex([])
      hosts = try communicator.gather(text: ProcessInfo.processInfo.hostName)
      if communicator.isRoot {
        let listener = try Listener()
        defer { listener.close() }
        let token = (0..<16).map { _ in UInt8.random(in: 0...255) }
        _ = try communicator.broadcast(token + Array(listener.invitation.utf8))
        sockets = try listener.accept(communicator.count - 1, token: token)
      } else {
        let bytes = try communicator.broadcast(nil as [UInt8]?)
        sockets = [
          try Self.connect(
            to: String(decoding: bytes.dropFirst(16), as: UTF8.self), token: Array(bytes.prefix(16)),
            rank: rank)
        ]
      }
      try communicator.barrier()
      Thread.detachNewThread { [self] in watch() }
    }

    /// The rank at the other end of a socket.
    private func peer(_ place: Int) -> Int { rank == 0 ? place + 1 : 0 }

    /// Tells rank 0 why this rank cannot go on, and waits until rank 0 has said so and ended.
    package func report(_ message: String, exitCode: Int32) {
      guard rank > 0, let socket = sockets.first else { return }
      let text = Array(message.utf8.prefix(Self.longestMessage))
      isFinished.store(true, ordering: .sequentiallyConsistent)
      Self.send(
        [Self.failure, UInt8(truncatingIfNeeded: exitCode)] + Self.bytes(UInt32(text.count)) + text,
        to: socket)
      var byte: UInt8 = 0
      let start = Date()
      while -start.timeIntervalSinceNow < 10, let hasBytes = Self.waitForBytes(socket, seconds: 1) {
        if hasBytes, recv(socket, &byte, 1, 0) <= 0 || byte == Self.farewell { return }
      }
    }

    /// The work is done: connections that close from now on mean nothing. All ranks call it after a barrier.
    package func finish() {
      isFinished.store(true, ordering: .sequentiallyConsistent)
      for socket in sockets { Self.send([Self.farewell], to: socket) }
    }

    // MARK: Watching

    private struct Peer {
      var lastHeard = Date()
      var progress: UInt32 = 0
      var bytes: [UInt8] = []
    }

    private static func bytes(_ number: UInt32) -> [UInt8] {
      (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }

    private static func number(_ bytes: some Sequence<UInt8>) -> UInt32 {
      bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }

    private func watch() {
      var peers = sockets.map { _ in Peer() }
      var lastSent = Date.distantPast
      var lastRound = Date()
      var slow = SlowRanks()
      while !isFinished.load(ordering: .relaxed) {
        let now = Date()
        // This process was stopped, not the others.
        if now.timeIntervalSince(lastRound) > 5 {
          for place in peers.indices { peers[place].lastHeard = now }
        }
        lastRound = now
        if now.timeIntervalSince(lastSent) >= 1 {
          lastSent = now
          let progress = communicator.progress
          for (place, socket) in sockets.enumerated() where !saidFarewell(place) {
            Self.send([Self.heartbeat] + Self.bytes(progress), to: socket)
          }
          let seconds = ProcessInfo.processInfo.systemUptime
          if rank == 0, let found = slow.found([progress] + peers.map(\.progress), now: seconds) {
            handler(.slow(found))
          }
        }
        var list = sockets.enumerated().map { place, socket in
          pollfd(fd: saidFarewell(place) ? -1 : socket, events: Int16(POLLIN), revents: 0)
        }
        guard poll(&list, nfds_t(list.count), 250) >= 0 || errno == EINTR else { return }
        for place in list.indices where list[place].fd >= 0 {
          if list[place].revents != 0 { read(place, &peers[place]) }
          let seconds = Int(Date().timeIntervalSince(peers[place].lastHeard))
          if seconds >= Self.silence, !saidFarewell(place) {
            return report(.silent(rank: peer(place), seconds: seconds))
          }
        }
        if farewells.withLock({ $0.count }) == sockets.count { return }
      }
    }

    private func saidFarewell(_ place: Int) -> Bool { farewells.withLock { $0.contains(place) } }

    private func report(_ event: Event) {
      guard !isFinished.exchange(true, ordering: .sequentiallyConsistent) else { return }
      handler(event)
    }

    private func read(_ place: Int, _ peer: inout Peer) {
      var buffer = [UInt8](repeating: 0, count: 4096)
      let count = recv(sockets[place], &buffer, buffer.count, Int32(MSG_DONTWAIT))
      if count < 0 && (errno == EAGAIN || errno == EINTR) { return }
      guard count > 0 else {
        farewells.withLock { _ = $0.insert(place) }
        return report(.ended(rank: self.peer(place)))
      }
      peer.lastHeard = Date()
      peer.bytes += buffer[..<count]
      while let first = peer.bytes.first {
        switch first {
        case Self.heartbeat:
          guard peer.bytes.count >= 5 else { return }
          peer.progress = Self.number(peer.bytes[1..<5])
          peer.bytes.removeFirst(5)
        case Self.farewell:
          farewells.withLock { _ = $0.insert(place) }
          return
        case Self.failure:
          guard peer.bytes.count >= 6 else { return }
          let length = Int(Self.number(peer.bytes[2..<6]))
          guard peer.bytes.count >= 6 + min(length, Self.longestMessage) else { return }
          let message = String(decoding: peer.bytes[6...].prefix(length), as: UTF8.self)
          return report(
            .failed(rank: self.peer(place), message: message, exitCode: Int32(peer.bytes[1])))
        default: peer.bytes.removeFirst()
        }
      }
    }

    // MARK: Sockets

    /// As many bytes as the connection takes: one that takes none is found by its silence.
    private static func send(_ bytes: [UInt8], to socket: Int32) {
      _ = Foundation.send(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
    }

    /// - Returns: nil when the connection failed.
    private static func waitForBytes(_ socket: Int32, seconds: Int32) -> Bool? {
      var list = [pollfd(fd: socket, events: Int16(POLLIN), revents: 0)]
      let count = poll(&list, 1, 1000 * seconds)
      return count < 0 && errno != EINTR ? nil : count > 0
    }

    private static func failure(_ doing: String) -> DistributionError {
      .cannotWatch(detail: "\(doing): \(String(cString: strerror(errno)))")
    }

    /// Rank 0's end before there are connections.
    private struct Listener {
      private let socket: Int32
      private let port: UInt16

      init() throws {
        let socket = Foundation.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw RankWatch.failure("socket") }
        self.socket = socket
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafePointer(to: &address) {
          $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(socket, $0, size) == 0 }
        }
        guard isBound, listen(socket, 1024) == 0 else { throw RankWatch.failure("bind") }
        var length = size
        let isNamed = withUnsafeMutablePointer(to: &address) {
          $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(socket, $0, &length) == 0 }
        }
        guard isNamed else { throw RankWatch.failure("getsockname") }
        port = UInt16(bigEndian: address.sin_port)
      }

      func close() { _ = Foundation.close(socket) }

      /// The port and this machine's IPv4 addresses, those of other interfaces than loopback first.
      var invitation: String {
        var first: UnsafeMutablePointer<ifaddrs>?
        var addresses: [(text: String, isLoopback: Bool)] = []
        guard getifaddrs(&first) == 0 else { return "\(port) 127.0.0.1" }
        defer { freeifaddrs(first) }
        var next = first
        while let interface = next?.pointee {
          next = interface.ifa_next
          guard let address = interface.ifa_addr, address.pointee.sa_family == sa_family_t(AF_INET) else {
            continue
          }
          var text = [CChar](repeating: 0, count: Int(INET_ADDRSTRLEN))
          address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { address in
            var number = address.pointee.sin_addr
            _ = inet_ntop(AF_INET, &number, &text, socklen_t(text.count))
          }
          let name = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
          addresses.append((name, name.hasPrefix("127.")))
        }
        let sorted = addresses.filter { !$0.isLoopback } + addresses.filter(\.isLoopback)
        return ([String(port)] + sorted.map(\.text)).joined(separator: " ")
      }

      /// - Returns: the connections of ranks 1, 2 … Those that do not know the token are closed.
      func accept(_ count: Int, token: [UInt8]) throws -> [Int32] {
        var sockets = [Int32](repeating: -1, count: count)
        let start = Date()
        while let missing = sockets.firstIndex(of: -1) {
          guard -start.timeIntervalSinceNow < 30 else {
            throw DistributionError.cannotWatch(
              detail: "rank \(missing + 1) has not connected to TCP port \(port) of rank 0 within 30 seconds")
          }
          guard RankWatch.waitForBytes(socket, seconds: 1) == true else { continue }
          let connection = Foundation.accept(socket, nil, nil)
          guard connection >= 0 else { continue }
          _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
          let greeting = RankWatch.read(20, from: connection)
          let rank = greeting.count == 20 ? Int(RankWatch.number(greeting[16...])) : 0
          guard Array(greeting.prefix(16)) == token, rank > 0, rank <= count, sockets[rank - 1] < 0 else {
            _ = Foundation.close(connection)
            continue
          }
          RankWatch.send([RankWatch.welcome], to: connection)
          sockets[rank - 1] = connection
        }
        return sockets
      }
    }

    /// At most so many bytes, within five seconds.
    private static func read(_ count: Int, from socket: Int32) -> [UInt8] {
      var result: [UInt8] = []
      while result.count < count, waitForBytes(socket, seconds: 5) == true {
        var buffer = [UInt8](repeating: 0, count: count - result.count)
        let got = recv(socket, &buffer, buffer.count, 0)
        guard got > 0 else { break }
        result += buffer[..<got]
      }
      return result
    }

    /// - Parameter invitation: of rank 0's listener. An address that leads elsewhere does not answer the token.
    private static func connect(to invitation: String, token: [UInt8], rank: Int) throws -> Int32 {
      let words = invitation.split(separator: " ")
      let start = Date()
      repeat {
        for text in words.dropFirst() {
          var address = sockaddr_in()
          address.sin_family = sa_family_t(AF_INET)
          address.sin_port = (words.first.flatMap { UInt16($0) } ?? 0).bigEndian
          guard inet_pton(AF_INET, String(text), &address.sin_addr) == 1 else { continue }
          let socket = Foundation.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
          guard socket >= 0 else { throw failure("socket") }
          // Bounds how long a connection is tried, too.
          var limit = timeval(tv_sec: 3, tv_usec: 0)
          setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
          let size = socklen_t(MemoryLayout<sockaddr_in>.size)
          let isConnected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Foundation.connect(socket, $0, size) == 0 }
          }
          if isConnected {
            send(token + bytes(UInt32(rank)), to: socket)
            if read(1, from: socket) == [welcome] { return socket }
          }
          close(socket)
        }
        usleep(100_000)
      } while -start.timeIntervalSinceNow < 25
      throw DistributionError.cannotWatch(
        detail: "rank 0 is not reached at \(words.dropFirst().joined(separator: ", "))")
    }
  }
#endif
