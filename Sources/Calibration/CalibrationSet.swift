import Files
import JSON
import Tokenization

/// How calibration text becomes windows of ids.
package struct CalibrationOptions: Equatable, Sendable {
  package enum Packing: String, CaseIterable, Sendable {
    /// Each record gives its first `sequenceLength` ids; running text is cut into windows.
    case truncate
    /// Records are joined end to end and cut into full windows.
    case pack
  }
  package var sequenceLength: Int
  package var samples: Int
  /// Texts of an encoder, which are shorter than windows.
  package var encoderSamples: Int
  package var seed: UInt64
  package var packing: Packing
  package var contents: SpecialTokens
  package var format: CalibrationFormat

  package init(
    sequenceLength: Int = 512, samples: Int = 128, encoderSamples: Int = 1024, seed: UInt64 = 0,
    packing: Packing = .truncate, contents: SpecialTokens = .recognized, format: CalibrationFormat = .auto
  ) {
    self.encoderSamples = encoderSamples
    self.sequenceLength = sequenceLength
    self.samples = samples
    self.seed = seed
    self.packing = packing
    self.contents = contents
    self.format = format
  }
}

/// What calibration used of a file.
package struct CalibrationReport: Equatable, Sendable {
  /// Records that were left out, by reason, in the order in which the reasons came up.
  package struct LeftOut: Equatable, Sendable {
    /// `place` is that of the first record, for example `line 3`.
    package private(set) var reasons: [(problem: CalibrationProblem, place: String, count: Int)] = []

    package init() {}

    package mutating func add(_ problem: CalibrationProblem, place: String) {
      if let index = reasons.firstIndex(where: { $0.problem == problem }) {
        reasons[index].count += 1
      } else {
        reasons.append((problem, place, 1))
      }
    }

    package var count: Int { reasons.reduce(0) { $0 + $1.count } }

    package static func == (a: LeftOut, b: LeftOut) -> Bool {
      a.reasons.elementsEqual(b.reasons) { $0 == $1 }
    }
  }

  package struct Source: Equatable, Sendable {
    package var path: String
    /// Nil when no file has a weight.
    package var weight: Double?
    /// Windows that the weight asks for; the file may have fewer.
    package var windowsWanted: Int?
    package var format: CalibrationFormat
    package var kind: String
    /// Those that were read.
    package var records: Int
    package var leftOut = LeftOut()
    /// How many records have a field that says nothing here, by its name.
    package var unusedFields: [ByteText: Int] = [:]
    package var tokensFound: Int
    package var windowsUsed: Int
    package var tokensUsed: Int

    var json: JSONValue {
      let reasons = leftOut.reasons.map { reason -> JSONValue in
        [
          "reason": .string("\(reason.problem)"), "records": .init(reason.count),
          "first": .string(reason.place),
        ]
      }
      let unused = unusedFields.sorted { $0.key < $1.key }.map { ($0.key.text, JSONValue($0.value)) }
      let json: JSONValue = [
        "path": .string(path), "format": .string(format.rawValue), "kind": .string(kind),
        "records": .init(records), "left_out": .array(reasons), "unused_fields": .object(JSONObject(unused)),
        "tokens_found": .init(tokensFound), "windows_used": .init(windowsUsed),
        "tokens_used": .init(tokensUsed),
      ]
      guard let weight, let windowsWanted, var object = json.objectValue else { return json }
      object["weight"] = .init(weight)
      object["windows_wanted"] = .init(windowsWanted)
      return .object(object)
    }
  }
  package var sources: [Source]

  package init(sources: [Source]) { self.sources = sources }

  package var tokens: Int { sources.reduce(0) { $0 + $1.tokensUsed } }

  package var json: JSONValue { .array(sources.map(\.json)) }
}

/// Windows of token ids for calibration. No window is padded: every position that enters a Hessian is a token of the
/// text.
package struct CalibrationSet: Sendable {
  package var windows: [[Int]]
  package var report: CalibrationReport

  package init(windows: [[Int]], report: CalibrationReport) {
    self.windows = windows
    self.report = report
  }

  package var tokenCount: Int { windows.reduce(0) { $0 + $1.count } }

  /// SHA-256 of the windows, each as its length and its ids in 32 bits, little-endian: what quantization depends on.
  package var digest: String {
    var words: [UInt32] = []
    words.reserveCapacity(tokenCount + windows.count)
    for window in windows {
      words.append(UInt32(window.count))
      words += window.map { UInt32($0) }
    }
    return words.withUnsafeBytes { Checksum.sha256($0) }
  }

  /// Reads the files and chooses the windows.
  /// - Parameters:
  ///   - template: for conversations; nil when the model has none.
  ///   - vocabularySize: ids must be below it.
  package static func load(
    files: [CalibrationFile], tokenizer: any Tokenizer, template: ChatTemplate?, vocabularySize: Int,
    options: CalibrationOptions
  ) throws -> CalibrationSet {
    let pairs = tokenizer as? any PairTokenizer
    let affixes = tokenizer.affixes
    let affixCount = affixes.prefix.count + affixes.suffix.count
    if pairs != nil, options.sequenceLength < affixCount + 3 {
      throw CalibrationError(
        .noWindow(length: options.sequenceLength), path: files.map(\.path).joined(separator: ", "))
    }
    let abilities = template.map(TemplateAbilities.init)
    var candidates: [(source: Int, ids: [Int])] = []
    var sources: [CalibrationReport.Source] = []
    for (index, path) in files.map(\.path).enumerated() {
      var source = try CalibrationSource(
        ofFile: path, format: options.format, abilities: abilities, pairs: pairs != nil)
      // An encoder reads each window as a text of its own, with the tokens that open and close one.
      let wraps = pairs != nil && options.packing == .pack
      let encoding = Encoding(
        tokenizer: tokenizer, template: template, contents: options.contents,
        pairs: wraps ? nil : pairs, addsAffixes: !wraps, most: options.sequenceLength)
      let sequences = try source.sequences(path: path, keepingShort: options.packing == .pack) {
        record, place in
        let ids = try ids(of: record, encoding, path: path, place: place)
        if let bad = ids.first(where: { $0 < 0 || $0 >= vocabularySize }) {
          throw CalibrationError(
            .idOutOfVocabulary(place: place, id: bad, vocabularySize: vocabularySize), path: path)
        }
        return ids
      }
      let kinds = source.records.map(\.record.kind)
      sources.append(
        CalibrationReport.Source(
          path: path, weight: nil, windowsWanted: nil, format: source.format,
          kind: Set(kinds).sorted().joined(separator: "+"),
          records: kinds.count, leftOut: source.leftOut, unusedFields: source.unusedFields,
          tokensFound: sequences.reduce(0) { $0 + $1.count }, windowsUsed: 0, tokensUsed: 0))
      let isRunningText = kinds == ["text"] && pairs == nil
      var cut = options
      if wraps { cut.sequenceLength -= affixCount }
      candidates += windows(sequences, cutting: isRunningText, cut).map {
        (index, wraps ? affixes.prefix + $0 + affixes.suffix : $0)
      }
    }
    let weights = mixture(files)
    let samples = pairs == nil ? options.samples : options.encoderSamples
    if let weights {
      let wanted = CalibrationShares.shares(of: samples, weights: weights)
      for index in sources.indices {
        (sources[index].weight, sources[index].windowsWanted) = (weights[index], wanted[index])
      }
    }
    let chosen = choose(candidates, weights: weights, count: samples, seed: options.seed)
    guard !chosen.isEmpty else {
      let paths = files.map(\.path).joined(separator: ", ")
      throw CalibrationError(.noWindow(length: options.sequenceLength), path: paths)
    }
    for (source, ids) in chosen {
      sources[source].windowsUsed += 1
      sources[source].tokensUsed += ids.count
    }
    return CalibrationSet(windows: chosen.map(\.ids), report: CalibrationReport(sources: sources))
  }

  /// How records become ids.
  private struct Encoding {
    let tokenizer: any Tokenizer
    let template: ChatTemplate?
    let contents: SpecialTokens
    /// Of an encoder, where records are whole texts.
    let pairs: (any PairTokenizer)?
    let addsAffixes: Bool
    /// Longest text of an encoder, in ids.
    let most: Int

    func ids(_ text: String, pair: String?) throws -> [Int] {
      guard let pairs else {
        let first = tokenizer.encode(text, specials: contents, addingAffixes: addsAffixes)
        return try first + (pair.map { try ids($0, pair: nil) } ?? [])
      }
      return try pairs.encode(
        text, pair: pair, maximumLength: most, truncation: .longestFirst, side: .right, specials: contents
      ).ids
    }
  }

  private static func ids(of record: CalibrationRecord, _ encoding: Encoding, path: String, place: String)
    throws
    -> [Int]
  {
    switch record {
    case .ids(let ids): return ids
    case .text(let text): return try encoding.ids(text, pair: nil)
    case .pair(let text, let pair): return try encoding.ids(text, pair: pair)
    case .conversation(let conversation):
      guard let template = encoding.template else {
        throw CalibrationError(.noTemplate(place: place), path: path)
      }
      return try template.encode(
        conversation.prompt,
        tokenizer: encoding.tokenizer,
        contents: encoding.contents)
    }
  }

  /// Candidate windows, none shorter than two tokens.
  private static func windows(_ sequences: [[Int]], cutting: Bool, _ options: CalibrationOptions) -> [[Int]] {
    let length = options.sequenceLength
    func cut(_ ids: [Int]) -> [[Int]] {
      stride(from: 0, through: ids.count - length, by: length).map { Array(ids[$0..<$0 + length]) }
    }
    if options.packing == .pack || cutting {
      let joined = sequences.flatMap { $0 }
      // A text shorter than one window is used whole.
      return joined.count < length ? [joined].filter { $0.count >= 2 } : cut(joined)
    }
    return sequences.map { Array($0.prefix(length)) }.filter { $0.count >= 2 }
  }

  /// The weight of every file; nil when none has one.
  private static func mixture(_ files: [CalibrationFile]) -> [Double]? {
    files.contains { $0.weight != nil } ? files.map { $0.weight ?? 1 } : nil
  }

  /// `count` of the candidates, chosen by the seed, in their original order. With weights, each file gives its share.
  private static func choose(
    _ candidates: [(source: Int, ids: [Int])], weights: [Double]?, count: Int, seed: UInt64
  ) -> [(source: Int, ids: [Int])] {
    var generator = SeededGenerator(seed: seed)
    guard let weights else {
      return chosen(Array(candidates.indices), count: count, &generator).map { candidates[$0] }
    }
    let ofFile = weights.indices.map { file in candidates.indices.filter { candidates[$0].source == file } }
    let shares = CalibrationShares.shares(of: count, weights: weights, available: ofFile.map(\.count))
    return zip(ofFile, shares).flatMap { chosen($0, count: $1, &generator) }.map { candidates[$0] }
  }

  /// `count` of the indices, or all if there are no more, in their original order.
  private static func chosen(_ indices: [Int], count: Int, _ generator: inout SeededGenerator) -> [Int] {
    guard indices.count > count else { return indices }
    var order = indices
    for i in 0..<count { order.swapAt(i, i + Int(generator.next(below: UInt64(order.count - i)))) }
    return order.prefix(count).sorted()
  }
}

/// SplitMix64 (Steele, Lea, Flood 2014): a sequence that is the same on every machine and in every version.
package struct SeededGenerator {
  private var state: UInt64
  package init(seed: UInt64) { state = seed }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  package mutating func next(below bound: UInt64) -> UInt64 { next().multipliedFullWidth(by: bound).high }
}
