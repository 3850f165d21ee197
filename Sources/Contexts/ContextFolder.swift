import Files
import Foundation
import Synchronization
import Transformer

/// A folder of saved contexts with a limit of bytes: what was used least recently goes first. All models and adapters of a process
/// share one; each finds what fits it by its ``ContextIdentity``.
package final class ContextFolder: Sendable {
  /// What the folder holds and what it was good for since the process began.
  package struct Statistics: Equatable, Sendable {
    package var files = 0
    package var bytes = 0
    package var limitBytes = 0
    /// Prompts that began with a saved context.
    package var hits = 0
    /// Tokens of prompts that came from files.
    package var loadedTokens = 0
    package var saved = 0
    /// Files removed for the limit.
    package var evicted = 0
    /// Files that are damaged, or no saved contexts.
    package var skipped = 0
  }

  private struct Entry {
    var path: String
    var identity: ContextIdentity
    var tokens: [UInt32]
    var byteCount: Int
    /// In the order of uses.
    var lastUse: Int
  }

  private struct State {
    var entries: [Entry] = []
    var clock = 0
    var statistics = Statistics()
  }

  static let fileSuffix = ".zhctx"
  package let path: String
  package let limitBytes: Int
  private let state: Mutex<State>
  private let log: @Sendable (String) -> Void

  /// Makes the folder if it is not there, and reads the headers and tokens of its files. One that cannot be used is named and left
  /// as it is.
  /// - Parameter log: called with what a person who runs a server wants to know; from any thread.
  /// - Throws: ``FileError`` when the folder cannot be made or read.
  package init(path folder: String, limitBytes: Int, log: @escaping @Sendable (String) -> Void) throws {
    path = PathParts.withoutTrailingSlashes(folder)
    self.limitBytes = limitBytes
    self.log = log
    do {
      // What people ask a server is nobody else's business.
      try FileManager.default.createDirectory(
        atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    } catch {
      throw FileError(.cannotWrite, path: path, reason: .cannotCreate(error.localizedDescription))
    }
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: path) } catch {
      throw FileError(.cannotOpen, path: path, detail: "cannot be listed: \(error.localizedDescription)")
    }
    var found: [(entry: Entry, time: Double)] = []
    var skipped = 0
    for name in names.sorted() where name.bytes.hasSuffix(ContextFolder.fileSuffix) {
      let file = "\(path)/\(name)"
      do {
        let context = try SavedContext(path: file)
        let attributes = try FileManager.default.attributesOfItem(atPath: file)
        let time = (attributes[.modificationDate] as? Date)?.timeIntervalSince1970 ?? 0
        found.append(
          (
            Entry(
              path: file, identity: context.header.identity, tokens: context.tokens,
              byteCount: context.byteCount, lastUse: 0), time
          ))
      } catch {
        skipped += 1
        log("warning: \(error); the file is skipped")
      }
    }
    for name in names {
      // NAME.zhctx.PID.tmp of a process that was killed.
      guard let stem = name.bytes.dropping(suffix: ".tmp"),
        let dot = stem.utf8.lastIndex(of: UInt8(ascii: ".")),
        String(stem[..<dot]).bytes.hasSuffix(ContextFolder.fileSuffix)
      else { continue }
      OutputLock.removeAbandoned(prefix: String(stem[..<dot]), inFolder: path)
    }
    found.sort { $0.time < $1.time }
    var state = State()
    for (index, one) in found.enumerated() {
      var entry = one.entry
      entry.lastUse = index
      state.entries.append(entry)
    }
    state.clock = found.count
    state.statistics.skipped = skipped
    self.state = Mutex(state)
    makeRoom(for: 0, sparing: [])
  }

  package var statistics: Statistics {
    state.withLock {
      var statistics = $0.statistics
      statistics.files = $0.entries.count
      statistics.bytes = $0.entries.reduce(0) { $0 + $1.byteCount }
      statistics.limitBytes = limitBytes
      return statistics
    }
  }

  /// Names, with the reason, the files that none of `identities` can use. They stay, and count for the limit.
  package func reportStrangers(beside identities: [ContextIdentity]) {
    let strangers = state.withLock { state in state.entries.filter { !identities.contains($0.identity) } }
    for stranger in strangers {
      let obstacles = identities.compactMap { stranger.identity.obstacle(to: $0) }
      // The nearest identity says most: the same model before another one.
      let reason =
        obstacles.first {
          if case .otherModel = $0 { false } else { true }
        } ?? obstacles.first
      if let reason {
        log("warning: \(SavedContextError(reason, path: stranger.path)); the file is skipped")
      }
    }
  }

  // MARK: Use

  /// The file that has most of a prompt's first tokens.
  package func longestPrefix(of prompt: ArraySlice<Int>, identity: ContextIdentity)
    -> (path: String, count: Int)?
  {
    state.withLock { state in
      var best: (path: String, count: Int)?
      for entry in state.entries where entry.identity == identity {
        let count = zip(entry.tokens, prompt).prefix { Int($0) == $1 }.count
        if count > best?.count ?? 0 { best = (entry.path, count) }
      }
      return best
    }
  }

  /// Takes note that so many tokens of a prompt came from a file.
  package func used(_ path: String, tokens: Int) {
    state.withLock { state in
      state.clock += 1
      if let index = state.entries.firstIndex(where: { $0.path == path }) {
        state.entries[index].lastUse = state.clock
      }
      state.statistics.hits += 1
      state.statistics.loadedTokens += tokens
    }
    // For the next process: the order of uses is that of these times.
    utimes(path, nil)
    log("\(tokens) tokens of a prompt come from \(path)")
  }

  /// A file turned out to be unusable: it is not used again, and removed if its content is damaged.
  package func drop(_ path: String, because error: any Error) {
    state.withLock { state in
      state.entries.removeAll { $0.path == path }
      state.statistics.skipped += 1
    }
    if let error = error as? SavedContextError, !error.isMisfit {
      unlink(path)
      log("warning: \(error); the file is removed")
    } else {
      log("warning: \(error); the file is skipped")
    }
  }

  // MARK: Saving

  /// Fewer tokens are read again as fast as they are found.
  package static let leastTokens = 512

  /// Whether a text is worth a file: it has enough tokens that no file has. A text that grows is saved again when a quarter is new, so
  /// that writing costs a fixed share of reading.
  package func wants(_ tokens: ArraySlice<Int>, identity: ContextIdentity) -> Bool {
    let known = longestPrefix(of: tokens, identity: identity)?.count ?? 0
    return tokens.count - known >= max(ContextFolder.leastTokens, tokens.count / 4)
  }

  /// Saves the beginning of a cache; files that it makes superfluous, and those that the limit has no room for, are removed.
  /// - Parameters: see ``SavedContextWriter/write(to:tokens:of:planes:identity:generator:isCancelled:copied:)``.
  package func save(
    _ tokens: [Int], of cache: KVCache, planes: [CachePlane], identity: ContextIdentity, generator: String,
    isCancelled: @escaping () -> Bool, copied: () -> Void
  ) {
    let ids = tokens.map { UInt32($0) }
    let byteCount = SavedContextWriter.byteCount(
      tokens: tokens.count, layers: cache.layerCount, planes: planes, identity: identity, generator: generator
    )
    guard byteCount <= limitBytes else {
      return log(
        "a context of \(tokens.count) tokens is not saved: it takes \(ByteCount.text(byteCount)), more than "
          + "--context-cache-limit")
    }
    let superfluous = state.withLock { state in
      state.entries.filter { $0.identity == identity && ids.starts(with: $0.tokens) }.map(\.path)
    }
    makeRoom(for: byteCount, sparing: superfluous)
    let file = "\(path)/\(ContextFolder.name(ids, identity))\(ContextFolder.fileSuffix)"
    let start = ContinuousClock.now
    do {
      guard
        try SavedContextWriter.write(
          to: file, tokens: tokens, of: cache, planes: planes, identity: identity, generator: generator,
          isCancelled: isCancelled, copied: copied) != nil
      else { return }
    } catch {
      return log("warning: a context is not saved: \(error)")
    }
    state.withLock { state in
      state.clock += 1
      state.entries.removeAll { superfluous.contains($0.path) || $0.path == file }
      state.entries.append(
        Entry(path: file, identity: identity, tokens: ids, byteCount: byteCount, lastUse: state.clock))
      state.statistics.saved += 1
    }
    for path in superfluous where path != file { unlink(path) }
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    log(
      "\(tokens.count) tokens saved to \(file): \(ByteCount.text(byteCount)) in "
        + "\((seconds * 10).rounded() / 10) s")
  }

  /// The same tokens of the same model have the same name.
  private static func name(_ tokens: [UInt32], _ identity: ContextIdentity) -> String {
    var bytes = Array(
      "\(identity.fingerprint) \(identity.adapters) \(identity.arithmetic) \(identity.encoding) \(identity.revision)\n"
        .utf8)
    for token in tokens { withUnsafeBytes(of: token.littleEndian) { bytes += $0 } }
    return String(bytes.withUnsafeBytes { Checksum.sha256($0) }.prefix(32))
  }

  /// Removes the files used least recently until there is room for `byteCount` more bytes; those in `sparing` do not count.
  private func makeRoom(for byteCount: Int, sparing: [String]) {
    let victims = state.withLock { state in
      var counted = state.entries.filter { !sparing.contains($0.path) }.sorted { $0.lastUse < $1.lastUse }
      var total = counted.reduce(byteCount) { $0 + $1.byteCount }
      var victims: [String] = []
      while total > limitBytes, !counted.isEmpty {
        let victim = counted.removeFirst()
        total -= victim.byteCount
        victims.append(victim.path)
      }
      state.entries.removeAll { victims.contains($0.path) }
      state.statistics.evicted += victims.count
      return victims
    }
    for victim in victims {
      // Caches that use its pages keep them.
      unlink(victim)
      log("\(victim) is removed: it was used least recently, and \(ByteCount.text(limitBytes)) are the limit")
    }
  }
}
