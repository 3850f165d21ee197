import Compute
import JSON
import Tensors

/// What the calibration inputs of a stage look like, read off H = (2/n)·XᵀX: the facts that explain a singular Hessian or
/// a loss out of line.
package struct InputDiagnosis: Equatable, Sendable {
  package var tokens: Int
  package var channels: Int
  /// Channels that were zero in every token.
  package var dead: Excerpt<Int>
  /// Channels that are a multiple of an earlier one (correlation above 0.99999), with that one.
  package var twins: Excerpt<Twin>
  /// Channels whose energy is more than 100 times the median, strongest first, with that ratio.
  package var outliers: Excerpt<Outlier>
  /// Channels that keep more energy than twice the damping once all later ones are known; a numerical rank. Set by
  /// ``measureRank(_:order:dead:damping:)``.
  package var effectiveRank: Int?

  /// The first few of a list, and how many there are.
  package struct Excerpt<Element: Equatable & Sendable>: Equatable, Sendable {
    package let first: [Element]
    package let count: Int
    private static var most: Int { 16 }

    init(_ all: [Element]) {
      first = Array(all.prefix(Excerpt.most))
      count = all.count
    }

    init(first: [Element], count: Int) {
      self.first = first
      self.count = count
    }
  }

  package struct Twin: Equatable, Sendable {
    package var channel: Int
    package var of: Int
  }
  package struct Outlier: Equatable, Sendable {
    package var channel: Int
    package var ratio: Double
  }

  /// - Parameters:
  ///   - h: `[n, n]` row-major, upper triangle used, not damped.
  ///   - diagonal: H's.
  init(_ h: UnsafePointer<Float>, diagonal: [Float], tokens: Int, pool: WorkerPool) {
    self.tokens = tokens
    let n = diagonal.count
    channels = n
    dead = Excerpt(diagonal.indices.filter { diagonal[$0] == 0 })
    let living = diagonal.filter { $0 > 0 }.sorted()
    let median = living.isEmpty ? 0 : Double(living[living.count / 2])
    outliers = Excerpt(
      median == 0
        ? []
        : diagonal.indices.filter { Double(diagonal[$0]) > 100 * median }
          .map { Outlier(channel: $0, ratio: Double(diagonal[$0]) / median) }
          .sorted { ($1.ratio, $0.channel) < ($0.ratio, $1.channel) })
    twins = Excerpt(InputDiagnosis.twins(h, diagonal, pool))
  }

  private static func twins(_ h: UnsafePointer<Float>, _ diagonal: [Float], _ pool: WorkerPool) -> [Twin] {
    let n = diagonal.count
    // Row by row, the first later channel that repeats it; h_ij² = h_ii·h_jj holds exactly for multiples.
    let first = AlignedBuffer<Int32>(count: n)
    let h = SharedPointer(h)
    pool.runRanges(n, grain: 8) { rows in
      for i in rows {
        first[i] = -1
        guard diagonal[i] > 0 else { continue }
        let row = h + i * n
        let limit = diagonal[i] * 0.99998
        let found = diagonal.withUnsafeBufferPointer { d -> Int? in
          var start = i + 1
          while start < n {
            let end = min(n, start + 512)
            var hits: UInt32 = 0
            for j in start..<end {
              hits |= (row[j] * row[j] >= limit * d[j] ? 1 : 0) & (d[j] > 0 ? 1 : 0)
            }
            if hits != 0 { return (start..<end).first { d[$0] > 0 && row[$0] * row[$0] >= limit * d[$0] } }
            start = end
          }
          return nil
        }
        if let found { first[i] = Int32(found) }
      }
    }
    return (0..<n).compactMap { first[$0] >= 0 ? Twin(channel: Int(first[$0]), of: $0) : nil }
  }

  /// - Parameters:
  ///   - factor: R with R·Rᵀ = H + damping·1: R[c,c]² is what column c has left when the later ones are known.
  ///   - order: channel of each of the factor's columns; nil: the same.
  ///   - dead: whether each channel was always zero.
  mutating func measureRank(_ factor: CholeskyFactor, order: [Int]?, dead: [Bool], damping: Float) {
    let free = (0..<factor.order).count {
      factor[$0, $0] * factor[$0, $0] > 2 * damping && !dead[order?[$0] ?? $0]
    }
    effectiveRank = min(free, tokens)
  }

  package var json: JSONValue {
    [
      "tokens": .init(tokens), "channels": .init(channels),
      "effective_rank": effectiveRank.map { .init($0) } ?? .null,
      "dead": .array(dead.first.map { .init($0) }), "dead_count": .init(dead.count),
      "duplicates": .array(twins.first.map { ["channel": .init($0.channel), "of": .init($0.of)] }),
      "duplicate_count": .init(twins.count),
      "outliers": .array(
        outliers.first.map {
          ["channel": .init($0.channel), "energy_over_median": .init(($0.ratio * 10).rounded() / 10)]
        }), "outlier_count": .init(outliers.count),
    ]
  }

  /// Reads what ``json`` gives.
  init(_ fields: JSONFields) throws(JSONFieldError) {
    func objects(_ key: String) throws(JSONFieldError) -> [JSONFields] {
      var result: [JSONFields] = []
      for (index, value) in (fields[key]?.arrayValue ?? []).enumerated() {
        result.append(
          try JSONFields(
            value, document: fields.document, prefix: "\(fields.prefix)\(key)[\(index)]."))
      }
      return result
    }
    tokens = try fields.requiredInteger("tokens")
    channels = try fields.requiredInteger("channels")
    effectiveRank = try fields.integer("effective_rank")
    dead = Excerpt(
      first: try fields.integers("dead", in: 0 ... .max, most: .max) ?? [],
      count: try fields.requiredInteger("dead_count"))
    twins = Excerpt(
      first: try objects("duplicates").map { twin throws(JSONFieldError) in
        Twin(channel: try twin.requiredInteger("channel"), of: try twin.requiredInteger("of"))
      }, count: try fields.requiredInteger("duplicate_count"))
    outliers = Excerpt(
      first: try objects("outliers").map { outlier throws(JSONFieldError) in
        Outlier(
          channel: try outlier.requiredInteger("channel"),
          ratio: try outlier.requiredNumber("energy_over_median"))
      }, count: try fields.requiredInteger("outlier_count"))
  }

  /// Why H may be singular or ill-conditioned, a sentence each; empty when nothing stands out.
  package var reasons: [String] {
    var reasons: [String] = []
    if tokens < channels {
      reasons.append(
        "\(tokens) tokens for \(channels) channels limit the rank of H to \(tokens); use \((channels + tokens - 1) / max(1, tokens)) times the calibration text"
      )
    }
    if let first = dead.first.first {
      reasons.append("\(dead.count) channels are always zero (the first: \(first))")
    }
    if let first = twins.first.first {
      reasons.append(
        "\(twins.count) channels are multiples of others (the first: \(first.channel) of \(first.of))")
    }
    if let rank = effectiveRank, rank * 2 < channels {
      reasons.append("only \(rank) of \(channels) channels have independent variance above the damping")
    }
    if let first = outliers.first.first {
      reasons.append(
        "\(outliers.count) outlier channel\(outliers.count == 1 ? "" : "s") (the first: \(first.channel), with \(Int(first.ratio.rounded())) times the median energy)"
      )
    }
    return reasons
  }
}
