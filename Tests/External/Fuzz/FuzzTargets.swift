import Adapters
import Architecture
import AutoGPTQ
import Calibration
import Contexts
import Conversion
import Evaluation
import Files
import Foundation
import GGUF
import JSON
import Models
import PackedModel
import Retrieval
import Safetensors
import Tasks
import Templates
import Tensors
import Tokenization
import Transformer
import Tuning

/// Readers of files from strangers, each as a function of the file's bytes. A thrown error is the right answer to a bad
/// file; a trap, a crash of the sanitizer, a hang or unbounded memory is a finding.
enum FuzzTarget: String, CaseIterable {
  case safetensors, packed, gguf, tokenizer, wordpiece, config, calibration, template, corpus, index
  case tuningData = "tuning-data"
  case embedding, task, adapter, context

  func run(_ bytes: UnsafeRawBufferPointer) {
    do {
      switch self {
      case .safetensors: try FuzzTarget.safetensors(bytes)
      case .packed: try FuzzTarget.packed(bytes)
      case .gguf: try FuzzTarget.gguf(bytes)
      case .tokenizer: try FuzzTarget.tokenizer(bytes)
      case .wordpiece: try FuzzTarget.wordpiece(bytes)
      case .config: try FuzzTarget.config(bytes)
      case .calibration: try FuzzTarget.calibration(bytes)
      case .template: try FuzzTarget.template(bytes)
      case .corpus: try FuzzTarget.corpus(bytes)
      case .index: try FuzzTarget.index(bytes)
      case .embedding: try FuzzTarget.embedding(bytes)
      case .task: try FuzzTarget.task(bytes)
      case .tuningData: try FuzzTarget.tuningData(bytes)
      case .adapter: try FuzzTarget.adapter(bytes)
      case .context: try FuzzTarget.context(bytes)
      }
    } catch {
      // Every error must be able to say what is wrong.
      precondition(!"\(error)".isEmpty)
    }
  }

  private static let folder: String = {
    let base = FileManager.default.fileExists(atPath: "/dev/shm") ? "/dev/shm" : NSTemporaryDirectory()
    let path = "\(base)/zhinao-fuzz-\(ProcessInfo.processInfo.processIdentifier)"
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
  }()

  private static func file(_ name: String, _ bytes: UnsafeRawBufferPointer) -> String {
    let path = "\(folder)/\(name)"
    // A mapped file must not change under its reader: make a new one each time.
    unlink(path)
    let descriptor = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0o600)
    _ = write(descriptor, bytes.baseAddress, bytes.count)
    close(descriptor)
    return path
  }

  private static func safetensors(_ bytes: UnsafeRawBufferPointer) throws {
    let opened = try SafetensorsFile(path: file("model.safetensors", bytes))
    for tensor in opened.tensors {
      let content = opened.bytes(of: tensor)
      if let first = content.first, let last = content.last { precondition(Int(first) + Int(last) >= 0) }
      _ = FiniteCheck.firstNotFinite(content, dtype: tensor.dtype)
    }
  }

  /// The header's checksums are made right first, or nothing behind them would ever be reached.
  private static func packed(_ bytes: UnsafeRawBufferPointer) throws {
    var content = Array(bytes)
    func put<T: FixedWidthInteger>(_ value: T, at offset: Int) {
      withUnsafeBytes(of: value.littleEndian) {
        for (i, byte) in $0.enumerated() { content[offset + i] = byte }
      }
    }
    if content.count > 66 {
      let header = Int(content[12]) | Int(content[13]) << 8 | Int(content[14]) << 16
      put(UInt64(content.count), at: 16)
      if 64 + header <= content.count {
        put(content[64..<64 + header].withUnsafeBytes { Checksum.crc32($0) }, at: 24)
      }
      put(content[0..<28].withUnsafeBytes { Checksum.crc32($0) }, at: 28)
    }
    let path = content.withUnsafeBytes { file("model.zhinao", $0) }
    let opened = try PackedModelFile(path: path)
    _ = opened.problems()
    try run(OpenedModel(path: path, accepting: .all))
  }

  /// What a sentence-transformers folder says: up to four files, divided by the byte 1E.
  private static func embedding(_ bytes: UnsafeRawBufferPointer) throws {
    let parts = String(decoding: bytes, as: UTF8.self).bytes.split(separator: "\u{1E}")
    let names = [
      "modules.json", "1_Pooling/config.json", "config_sentence_transformers.json",
      "sentence_bert_config.json",
    ]
    var contents: [ByteText: [UInt8]] = [:]
    for (name, part) in zip(names, parts) { contents[name.bytes] = Array(part.utf8) }
    let configuration = try ModelConfiguration(
      [
        "model_type": "bert", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 16, "max_position_embeddings": 64,
      ], label: "config.json")
    let settings = try EmbeddingSettings(EmbeddedFiles(location: "m", contents: contents), configuration)
    precondition((1...64).contains(settings.maximumLength))
  }

  /// Everything a command does with a model file: whole values, tokenizer, a forward pass when it is small.
  private static func gguf(_ bytes: UnsafeRawBufferPointer) throws {
    let path = file("model.gguf", bytes)
    let opened = try GGUFFile(path: path)
    for (key, value) in opened.metadata {
      guard case .array = value else { continue }
      _ = try? opened.strings(key)
      _ = try? opened.integers(key)
    }
    for tensor in opened.tensors {
      let content = opened.bytes(of: tensor)
      if let first = content.first, let last = content.last { precondition(Int(first) + Int(last) >= 0) }
    }
    let model = try OpenedModel(path: path)
    _ = try ModelContents(model)
    let tokenizer = try? model.tokenizer()
    let exporter = GGUFExporter(try ModelContents(model))
    _ = try? exporter.plan(tokenizer: tokenizer)
    try run(model)
  }

  private static func run(_ model: OpenedModel) throws {
    if let tokenizer = try? model.tokenizer() { _ = tokenizer.encode("a  b") }
    if let c = model.configuration.encoder {
      guard c.layerCount <= 4, c.hiddenSize <= 256, c.vocabularySize <= 4000, c.intermediateSize <= 1024
      else {
        return
      }
      let encoder = try model.encoder()
      let ids = [0, c.vocabularySize - 1].prefix(c.positionCount)
      let (states, batch) = encoder.hiddenStates([(Array(ids), ids.map { _ in 0 })])
      if encoder.pooler != nil { _ = encoder.pooled(states, batch) }
      return
    }
    let decoder = try model.decoder()
    let c = decoder.configuration
    if c.layerCount <= 4 && c.hiddenSize <= 256 && c.vocabularySize <= 2000 && c.intermediateSize <= 1024 {
      let cache = decoder.makeCache(capacity: 4)
      let hidden = decoder.hiddenStates(
        [0, c.vocabularySize - 1, 1].filter { $0 < c.vocabularySize }, cache: cache)
      _ = decoder.logits(hidden, rows: 0..<1)
    }
  }

  private static func tokenizer(_ bytes: UnsafeRawBufferPointer) throws {
    let tokenizer: any Tokenizer
    switch bytes.first {
    case UInt8(ascii: "{"): tokenizer = try TokenizerLoader.load(file: file("tokenizer.json", bytes))
    // The first field of a SentencePiece file.
    case 0x0A:
      let contents: [ByteText: [UInt8]] = ["tokenizer.model": Array(bytes)]
      tokenizer = try TokenizerLoader.load(EmbeddedFiles(location: "m", contents: contents))
    default: tokenizer = try TokenizerLoader.load(file: file("vocabulary.tiktoken", bytes))
    }
    for text in ["Hello  world\n\n 123 don't <|im_end|> [br]", "智脑　你好，\u{1F600}e\u{301}   x"] {
      for specials in [SpecialTokens.recognized, .plain] {
        let ids = tokenizer.encode(text, specials: specials, addingAffixes: true)
        for id in ids { precondition(id >= 0 && id < tokenizer.tokenCount) }
        _ = try tokenizer.decode(ids, skippingSpecials: false)
      }
    }
  }

  /// A byte with settings, a vocabulary or `tokenizer.json`, and after a byte that UTF-8 does not have a text for it.
  private static func wordpiece(_ bytes: UnsafeRawBufferPointer) throws {
    guard let settings = bytes.first else { return }
    let parts = bytes.dropFirst().split(separator: 0xFE, maxSplits: 1, omittingEmptySubsequences: false)
    func flag(_ bit: UInt8) -> Bool { settings & bit != 0 }
    let accents = flag(4) ? "\(flag(8))" : "null"
    let configuration =
      #"{"do_lower_case": \#(flag(1)), "tokenize_chinese_chars": \#(flag(2)), "strip_accents": \#(accents)"#
      + (flag(16) ? #", "tokenizer_class": "PreTrainedTokenizerFast"}"# : "}")
    let tokenizer = try TokenizerLoader.load(
      EmbeddedFiles(
        location: "m",
        contents: [
          parts[0].first == UInt8(ascii: "{") ? "tokenizer.json" : "vocab.txt": Array(parts[0]),
          "tokenizer_config.json": Array(configuration.utf8),
        ]))
    guard let tokenizer = tokenizer as? WordPieceTokenizer else { return }
    let given = parts.count > 1 ? String(decoding: parts[1], as: UTF8.self) : ""
    for text in [given, "Hello  wörld\n\n 123 don't [SEP] 智脑　你好，\u{1F600}e\u{301}\u{302E}\u{1B44} x"] {
      for specials in [SpecialTokens.recognized, .plain] {
        let ids = tokenizer.encode(text, specials: specials, addingAffixes: true)
        for id in ids { precondition(id >= 0 && id < tokenizer.tokenCount) }
        _ = try tokenizer.decode(ids, skippingSpecials: false)
        for (truncation, side) in zip(Truncation.allCases, TruncationSide.allCases) {
          guard
            let cut = try? tokenizer.encode(
              text, pair: flag(32) ? given : nil, maximumLength: Int(settings >> 2), truncation: truncation,
              side: side, specials: specials)
          else { continue }
          precondition(cut.ids.count <= Int(settings >> 2) && cut.typeIDs.count == cut.ids.count)
        }
      }
    }
  }

  private static func config(_ bytes: UnsafeRawBufferPointer) throws {
    let json = try JSONValue.parse(bytes)
    _ = try? QuantizeConfiguration(json, label: "quantize_config.json")
    let configuration = try ModelConfiguration(json, label: "config.json")
    _ = configuration.decoder
  }

  private static func calibration(_ bytes: UnsafeRawBufferPointer) throws {
    guard let kind = bytes.first else { return }
    let name = ["a.jsonl", "a.json", "a.txt", "a.jsonl.gz"][Int(kind) % 4]
    let path = file(name, UnsafeRawBufferPointer(rebasing: bytes.dropFirst()))
    _ = try CalibrationSet.load(
      files: [CalibrationFile(path)], tokenizer: bytesTokenizer, template: .chatML(defaultSystem: nil),
      vocabularySize: 300,
      options: CalibrationOptions(sequenceLength: 8, samples: 4))
  }

  /// Training data. The first byte says how the file is named, how conversations are written and what is learned of them.
  private static func tuningData(_ bytes: UnsafeRawBufferPointer) throws {
    guard let choice = bytes.first.map(Int.init) else { return }
    let name = ["a.jsonl", "a.json", "a.txt", "a.jsonl.gz"][choice % 4]
    let path = file(name, UnsafeRawBufferPointer(rebasing: bytes.dropFirst()))
    let length = 24
    let dataset = try TuningDataset.load(
      files: [TuningFile(path, weight: choice & 4 == 0 ? nil : 1.5)], model: tuningModels[choice >> 3 & 3],
      options: TuningDataOptions(
        maximumLength: length, packing: choice & 32 == 0 ? .separate : .concat,
        trainedPart: choice >> 3 & 3 == 0 ? nil : [.assistant, .last, .all, .assistant][choice >> 6],
        validationFraction: choice & 128 == 0 ? 0 : 0.3, groupsByLength: choice & 64 == 0))
    for rows in [dataset.rows, dataset.validationRows] {
      for row in rows {
        precondition((1...length).contains(row.tokens.count) && row.labels.count == row.tokens.count)
        precondition(row.tokens.allSatisfy { (0..<300).contains($0) })
        precondition(row.labels.allSatisfy { (0..<300).contains($0 ?? 0) })
      }
    }
    let order = dataset.batches(epoch: choice, size: 3)
    precondition(order.reduce(0) { $0 + $1.count } == dataset.rowsPerEpoch)
    precondition(dataset.rows.isEmpty || Set(order.joined()).count == dataset.rows.count)
    _ = dataset.report.json.serialized() + dataset.digest
  }

  /// Models whose conversations are ChatML, are those of a template without and with marks of answers, or that have none.
  private static let tuningModels: [TuningModel] = {
    let usual =
      "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %} "
      + "{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}{{ tools }}"
    let marked =
      "{% for m in messages %}{% if m.role == 'assistant' %}A{% generation %}{{ m.content }}{% endgeneration %}"
      + "{% else %}U{{ m.content }}{% endif %}{% endfor %}"
    let templates: [ChatTemplate?] = [
      .chatML(defaultSystem: "x"), .own(ModelTemplate(source: usual, label: "usual")),
      .own(ModelTemplate(source: marked, label: "marked")), nil,
    ]
    return templates.map {
      TuningModel(
        tokenizer: bytesTokenizer, template: $0, endOfText: 0, stopTokens: [32], vocabularySize: 300)
    }
  }()

  /// Compiles and renders a template. Its bounds are the product's own, but for the number of steps, so that many inputs are
  /// tried in a second; an input that begins with an exclamation mark gets all of them.
  private static func template(_ bytes: UnsafeRawBufferPointer) throws {
    var limits = TemplateLimits()
    if bytes.first != UInt8(ascii: "!") { limits.steps = 200_000 }
    let template = try Template(String(decoding: bytes, as: UTF8.self), limits: limits)
    let rendering = try template.render(
      conversation + [.init("bos_token", .templateText("<s>")), .init("eos_token", .templateText("</s>"))],
      clock: TemplateClock(year: 2026, month: 11, day: 30, hour: 12))
    precondition(rendering.text.utf8.count == rendering.segments.reduce(0) { $0 + $1.text.utf8.count })
    precondition(rendering.generationRanges.allSatisfy { $0.upperBound <= rendering.text.utf8.count })
  }

  /// Data of tasks. The first byte says what the others are: comma-separated questions of C-Eval (`C`), CMMLU (`M`) or MMLU (`m`), lines of
  /// questions (`q`), items (`g`) or passages (`r`), or an answer and an expected one with a line feed between (anything else).
  private static func task(_ bytes: UnsafeRawBufferPointer) throws {
    guard let kind = bytes.first else { return }
    let rest = UnsafeRawBufferPointer(rebasing: bytes.dropFirst())
    switch kind {
    case UInt8(ascii: "C"), UInt8(ascii: "M"), UInt8(ascii: "m"):
      let header = kind == UInt8(ascii: "m") ? nil : kind == UInt8(ascii: "C")
      let items = try ChoiceTask.items(rest, path: "task.csv", subject: "s", header: header)
      try ask(items, .named("ceval")!)
    case UInt8(ascii: "q"):
      try JSONLines.forEach(rest, path: "task.jsonl") { fields, line in
        for task in ChoiceTask.all {
          if let item = try? task.item(fields, line, "task.jsonl", subject: nil, number: line) {
            try ask([item], task)
          }
        }
        return true
      }
    case UInt8(ascii: "g"):
      let task = try GenerationTask.generate(GenerationOptions(metrics: ["contains", "rouge_l"]))
      try JSONLines.forEach(rest, path: "task.jsonl") { fields, line in
        for set in LongBenchSet.all {
          _ = try? GenerationTask.item(fields, of: set, subject: set.name, id: "\(line)")
        }
        let item = try task.item(fields, GenerationOptions(template: "{question}{"), number: line)
        _ = try task.score(item.prompt, item)
        return true
      }
    case UInt8(ascii: "r"):
      try JSONLines.forEach(rest, path: "task.jsonl") { fields, _ in
        _ = try? RetrievalData.query(fields)
        _ = try RerankingData.row(fields)
        return true
      }
    default:
      let lines = rest.split(separator: UInt8(ascii: "\n"), maxSplits: 1, omittingEmptySubsequences: false)
      let texts = lines.map { String(decoding: $0, as: UTF8.self) }
      for metric in AnswerMetric.all where metric.name != AnswerMetric.regularExpression.name {
        let score = (try? metric.score(texts[0], [texts.last!], classes: [texts.last!, "a"])) ?? 0
        precondition((0...1.000_001).contains(score), "\(metric.name): \(score)")
      }
    }
  }

  /// Every prompt of the questions.
  private static func ask(_ items: [ChoiceItem], _ task: ChoiceTask) throws {
    let subject = ChoiceSubject(name: "s", title: "s", examples: Array(items.prefix(2)), items: items)
    for item in items.prefix(4) {
      for mode in task.modes {
        _ = try task.prompt(item, of: subject, shots: subject.examples.count, mode: mode)
      }
    }
  }

  private static func corpus(_ bytes: UnsafeRawBufferPointer) throws {
    if let json = try? JSONValue.parse(bytes) { _ = try? RerankerOptions(json, document: "reranker.json") }
    let corpus = try CorpusFile(path: file("corpus.jsonl", bytes))
    for index in 0..<corpus.count {
      let passage = try corpus.passage(index)
      precondition(!passage.id.isEmpty && passage.embedded.utf8.count <= bytes.count + 1)
    }
  }

  /// An index whose four files are in one input, with a line of two percent signs between them. Sizes and the checksum of the manifest
  /// are made right first, or nothing behind them would ever be reached.
  private static func index(_ bytes: UnsafeRawBufferPointer) throws {
    var parts: [[UInt8]] = []
    var rest = Array(bytes)[...]
    let mark = Array("\n%%\n".utf8)
    while parts.count < 3, let end = rest.firstRange(of: mark) {
      parts.append(Array(rest[..<end.lowerBound]))
      rest = rest[end.upperBound...]
    }
    parts.append(Array(rest))
    guard parts.count == 4, var manifest = try JSONValue.parse(parts[0]).objectValue else { return }
    let path = "\(folder)/index"
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    let names = ["passages.jsonl", "passages.offsets", "embeddings.safetensors"]
    manifest["files"] = .array(
      zip(names, parts[1...]).map { name, content in
        _ = content.withUnsafeBytes { file("index/\(name)", $0) }
        return ["name": .string(name), "bytes": .init(content.count), "sha256": ""]
      })
    manifest["checksum"] = nil
    let text = Array(JSONValue.object(manifest).serialized(indent: 2).utf8)
    manifest["checksum"] = .string(text.withUnsafeBytes { Checksum.sha256($0) })
    let whole = Array((JSONValue.object(manifest).serialized(indent: 2) + "\n").utf8)
    _ = whole.withUnsafeBytes { file("index/index.json", $0) }
    let index = try VectorIndex(path: path)
    _ = try index.problems()
    for place in Set([0, index.count / 2, index.count - 1]) { _ = try? index.passage(place) }
    let query = [Float](repeating: 0.5, count: 2 * index.dimensions)
    for hits in try index.search(query, queryCount: 2, top: 5) {
      precondition(hits.count == min(5, index.count) && hits.allSatisfy { $0.score.isFinite })
    }
  }

  /// An adapter's settings, a line of two percent signs, and its weights; beside a small model and merged into it.
  private static func adapter(_ bytes: UnsafeRawBufferPointer) throws {
    guard let end = bytes.firstRange(of: Array("\n%%\n".utf8)) else { return }
    let path = "\(folder)/adapter"
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    _ = file("adapter/adapter_config.json", UnsafeRawBufferPointer(rebasing: bytes[..<end.lowerBound]))
    _ = file("adapter/adapter_model.safetensors", UnsafeRawBufferPointer(rebasing: bytes[end.upperBound...]))
    let adapter = try LoRAAdapter(path: path)
    let model = try adaptedModel.get()
    if let decoder = try? model.decoder(adapters: [
      AppliedAdapter(adapter), AppliedAdapter(adapter, factor: 0.5),
    ]) {
      let hidden = decoder.hiddenStates(windows: [[0, 299, 1]])
      _ = decoder.logits(hidden, rows: 0..<3)
    }
    let merged = try ModelContents(model).merging(adapter)
    for entry in merged.entries { _ = try entry.rowMajorBytes() }
  }

  /// A saved context, whose checksums are made right first: read in full, and used by a small model if it fits it.
  private static func context(_ bytes: UnsafeRawBufferPointer) throws {
    var content = Array(bytes)
    func put<T: FixedWidthInteger>(_ value: T, at offset: Int) {
      withUnsafeBytes(of: value.littleEndian) {
        for (i, byte) in $0.enumerated() { content[offset + i] = byte }
      }
    }
    func crc(_ range: Range<Int>) -> UInt32 { content[range].withUnsafeBytes { Checksum.crc32($0) } }
    func putDigits(_ crc: UInt32, after name: String, in header: Range<Int>) {
      guard let place = content[header].firstRange(of: Array("\"\(name)\":\"".utf8))?.upperBound,
        place + 8 <= header.upperBound
      else { return }
      let digits = String(crc, radix: 16)
      content.replaceSubrange(
        place..<place + 8, with: Array((String(repeating: "0", count: 8 - digits.utf8.count) + digits).utf8))
    }
    func padded(_ count: Int) -> Int { (count + 4095) / 4096 * 4096 }
    if content.count > 64 {
      let end = 64 + (Int(content[12]) | Int(content[13]) << 8 | Int(content[14]) << 16)
      if end <= content.count {
        let json = try? JSONValue.parse(Array(content[64..<end]))
        // The table of a file of the fuzzer's sizes is one page.
        if let tokens = json?["tokens"]?.intValue, tokens > 0, tokens < 1 << 20 {
          let table = end + padded(4 * tokens)
          let data = table + 4096
          if data <= content.count {
            for (block, start) in stride(from: data, to: content.count, by: 1 << 20).enumerated() {
              put(crc(start..<min(content.count, start + (1 << 20))), at: table + 4 * block)
            }
            let blocks = (content.count - data + (1 << 20) - 1) >> 20
            putDigits(crc(end..<end + 4 * tokens), after: "tokens_crc32", in: 64..<end)
            putDigits(crc(table..<table + 4 * min(blocks, 1024)), after: "checksums_crc32", in: 64..<end)
          }
        }
        put(crc(64..<end), at: 24)
      }
      put(UInt64(content.count), at: 16)
      put(crc(0..<28), at: 28)
    }
    let path = content.withUnsafeBytes { file("context.zhctx", $0) }
    let context = try SavedContext(path: path)
    _ = context.problems()
    let model = try adaptedModel.get()
    try context.check(
      ContextIdentity(
        modelName: "m", fingerprint: context.header.identity.fingerprint,
        adapters: context.header.identity.adapters, arithmetic: context.header.identity.arithmetic,
        encoding: context.header.identity.encoding, revision: context.header.identity.revision),
      configuration: model.decoderConfiguration)
    guard let type = KVCacheType(rawValue: context.header.identity.encoding) else { return }
    let decoder = try model.decoder()
    let count = context.loadable(64)
    guard count > 0 else { return }
    let cache = decoder.makeCache(capacity: 80, type: type)
    try context.load(count, into: cache)
    let hidden = decoder.hiddenStates([0, 299], cache: cache)
    _ = decoder.logits(hidden, rows: 1..<2)
  }

  /// A Zhinao model of one layer.
  private static let adaptedModel = Result {
    let path = "\(folder)/base"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    let config = """
      {"model_type": "zhinao", "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
       "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
       "rope_theta": 10000.0, "tie_word_embeddings": false}
      """
    try AtomicFile.write(config, to: path + "/config.json")
    let index = TensorIndex(try ModelConfiguration(JSONValue.parse(Array(config.utf8)), label: "config.json"))
    let plans = index.required.map { TensorPlan(index.name(of: $0.id), .f32, $0.shape) }
    try SafetensorsWriter.write(to: path + "/model.safetensors", tensors: plans) { plan, emit in
      try [Float](repeating: 0.01, count: plan.byteCount / 4).withUnsafeBytes { try emit($0) }
    }
    return try OpenedModel(path: path)
  }

  private static let conversation: [TemplateMember] = {
    let json = """
      {"messages": [
         {"role": "system", "content": "Be brief."},
         {"role": "user", "content": [{"type": "text", "text": "一 <|im_end|> {{ x }}"}, {"type": "image"}]},
         {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"n": 2, "f": 1.5, "z": null}}}]},
         {"role": "tool", "content": "5"}, {"role": "user", "content": "Hi there's \\"x\\" e\\u0301\\u0000"}],
       "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
       "add_generation_prompt": true}
      """
    // swift-format-ignore: NeverUseForceTry
    return try! JSONValue.parse(Array(json.utf8)).objectValue!.members.map {
      TemplateMember($0.key, TemplateValue($0.value))
    }
  }()

  /// A Zhinao tokenizer whose tokens are the 256 bytes.
  private static let bytesTokenizer: any Tokenizer = {
    let lines = (0..<256).map { "\(Data([UInt8($0)]).base64EncodedString()) \($0)" }
    // swift-format-ignore: NeverUseForceTry
    return try! ZhinaoTokenizer(vocabulary: Array(lines.joined(separator: "\n").utf8), path: "bytes.tiktoken")
  }()
}
