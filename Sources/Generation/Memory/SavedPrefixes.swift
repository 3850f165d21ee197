import Architecture
import Contexts
import Dispatch
import Foundation
import Synchronization
import Transformer

/// The saved contexts of an engine's model: where prompts find their beginnings, and where they are saved for the next process.
package final class SavedPrefixes: Sendable {
  package let folder: ContextFolder
  /// By ``GenerationRequest/variant``.
  package let identities: [ContextIdentity]
  private let configuration: DecoderConfiguration
  private let planes: [CachePlane]
  private let generator: String
  /// Files are written one after the other.
  private let queue = DispatchQueue(label: "zhinao-contexts")

  /// - Parameters:
  ///   - identities: of the model itself, then of each variant.
  ///   - type: of the caches.
  package init(
    folder: ContextFolder, identities: [ContextIdentity], configuration: DecoderConfiguration,
    type: KVCacheType, generator: String
  ) {
    (self.folder, self.identities, self.configuration) = (folder, identities, configuration)
    planes = type.planes(configuration)
    self.generator = generator
  }

  /// Fills a cache with more of a prompt's first tokens than it holds, if a file has them.
  /// - Parameter sequence: holds tokens of the prompt's beginning, perhaps none.
  func extend(_ sequence: CachedSequence, with prompt: [Int], variant: Int) {
    let identity = identities[variant]
    let wanted = prompt.dropLast().prefix(sequence.cache.capacity)
    guard let best = folder.longestPrefix(of: wanted, identity: identity),
      best.count >= sequence.tokens.count + CachePool.leastGain
    else { return }
    do {
      let context = try SavedContext(path: best.path)
      try context.check(identity, configuration: configuration)
      let before = sequence.tokens.count
      try sequence.load(context, prompt: prompt)
      if sequence.tokens.count > before { folder.used(best.path, tokens: sequence.tokens.count) }
    } catch {
      folder.drop(best.path, because: error)
    }
  }

  /// Saves what a sequence holds of a prompt, behind the caller's back, if it is worth it.
  func save(_ sequence: CachedSequence, promptTokens: Int) {
    let count = planes.wholeTokens(min(promptTokens, sequence.tokens.count))
    let identity = identities[sequence.cache.variant]
    guard sequence.saving?.isFinished ?? true, count >= ContextFolder.leastTokens,
      folder.wants(sequence.tokens[..<count], identity: identity)
    else { return }
    let job = SaveJob(tokenCount: count)
    sequence.saving = job
    let (tokens, cache) = (Array(sequence.tokens[..<count]), sequence.cache)
    queue.async { [self] in
      // What was written meanwhile may hold the same.
      guard folder.wants(tokens[...], identity: identity), job.begin() else { return job.cancel() }
      folder.save(
        tokens, of: cache, planes: planes, identity: identity, generator: generator,
        isCancelled: { job.isCancelled }, copied: { job.finish() })
      job.finish()
    }
  }

  /// Waits for files that are being written.
  package func finish() { queue.sync {} }
}

/// A cache's beginning on its way to a file: until it is copied, its tokens must stay.
final class SaveJob: Sendable {
  let tokenCount: Int
  private enum State { case waiting, running, finished }
  private let state = Mutex(State.waiting)
  private let wasCancelled = Atomic(false)
  private let done = DispatchSemaphore(value: 0)

  init(tokenCount: Int) { self.tokenCount = tokenCount }

  var isCancelled: Bool { wasCancelled.load(ordering: .relaxed) }
  var isFinished: Bool { state.withLock { $0 == .finished } }

  /// - Returns: false when it was cancelled before.
  func begin() -> Bool {
    state.withLock {
      guard $0 == .waiting else { return false }
      $0 = .running
      return true
    }
  }

  /// The cache is no longer needed.
  func finish() {
    let wasRunning = state.withLock { state in
      defer { state = .finished }
      return state == .running
    }
    if wasRunning { done.signal() }
  }

  /// Returns when the cache may change.
  func cancel() {
    wasCancelled.store(true, ordering: .relaxed)
    let isRunning = state.withLock {
      if $0 == .waiting { $0 = .finished }
      return $0 == .running
    }
    if isRunning {
      done.wait()
      // Whoever cancels again must not wait.
      done.signal()
    }
  }
}
