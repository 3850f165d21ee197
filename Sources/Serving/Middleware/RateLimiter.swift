import Synchronization

/// A bucket of requests for each client that fills as time passes.
package final class RateLimiter: Sendable {
  private struct Bucket {
    var requests: Double
    var updated: ContinuousClock.Instant
  }
  /// Requests a minute; also how many may come at once.
  private let perMinute: Double
  private let buckets = Mutex<[String: Bucket]>([:])
  /// Clients remembered; beyond it, those with full buckets are forgotten.
  private static let mostClients = 10_000

  package init(perMinute: Int) { self.perMinute = Double(perMinute) }

  /// Takes a request out of the client's bucket.
  /// - Returns: nil when there was one, otherwise the seconds until there is.
  package func take(client: String, now: ContinuousClock.Instant = .now) -> Int? {
    buckets.withLock { buckets in
      if buckets.count >= RateLimiter.mostClients, buckets[client] == nil {
        buckets = buckets.filter { filled($0.value, now).requests < perMinute }
        if buckets.count >= RateLimiter.mostClients { return 60 }
      }
      var bucket = filled(buckets[client] ?? Bucket(requests: perMinute, updated: now), now)
      defer { buckets[client] = bucket }
      guard bucket.requests >= 1 else {
        return max(1, Int(((1 - bucket.requests) / perMinute * 60).rounded(.up)))
      }
      bucket.requests -= 1
      return nil
    }
  }

  private func filled(_ bucket: Bucket, _ now: ContinuousClock.Instant) -> Bucket {
    let gained = max(0, (now - bucket.updated) / .seconds(60)) * perMinute
    return Bucket(requests: min(perMinute, bucket.requests + gained), updated: now)
  }
}
