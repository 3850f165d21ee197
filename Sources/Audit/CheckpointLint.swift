import Architecture
import AutoGPTQ
import Files
import Foundation
import JSON
import Models
import Safetensors
import Tensors
import Tokenization

/// What is wrong with a checkpoint, and which engines will load it if it is quantized, found without computing anything.
package struct CheckpointLint: Sendable {
  package enum Severity: String, Sendable { case error, warning }
  package struct Finding: Equatable, Sendable {
    package var severity: Severity
    /// A short name of the kind of finding, for programs.
    package var rule: String
    package var text: String
  }
  package struct Verdict: Sendable {
    package var engine: String
    /// Nil: it loads.
    package var obstacle: String?
    package var remark: String
  }
  package let path: String
  package private(set) var findings: [Finding] = []
  package private(set) var engines: [Verdict] = []
  /// What can be put right in the configuration files without touching a weight.
  package private(set) var repairs: [CheckpointRepair] = []

  package var hasErrors: Bool { findings.contains { $0.severity == .error } }

  package init(path: String) throws {
    self.path = path
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue else {
      throw FileError(.cannotOpen, path: path, detail: "no such folder; lint checks folders")
    }
    let files = FolderFiles(path)
    var model = try files.modelConfiguration()
    let sources = try QuantizationSources(files)
    if let contradiction = sources.contradiction {
      add(.error, Discrepancy.Fact.quantization.rawValue, contradiction.description)
    }
    add(model.discrepancies)
    let table: TensorTable
    do { table = try TensorTable(path: path) } catch let error as DiagnosedError {
      add(.error, "shards", error.description)
      if let quantization = sources.configuration { judge(model, quantization, facts: Facts()) }
      return
    }
    add(table.discrepancies)
    model.naming = TensorNaming(table.names, family: model.family)
    do {
      if model.family.kind == .decoder, let discrepancy = try TiedHead(model, table).discrepancy {
        add([discrepancy])
      }
    } catch let error as DiagnosedError { add(.error, "tied-head", error.description) }
    do {
      if let discrepancy = try StoredQuantization(sources.configuration, table).discrepancy {
        add([discrepancy])
      }
    } catch let error as DiagnosedError {
      add(.error, Discrepancy.Fact.quantization.rawValue, error.description)
    }
    guard let quantization = sources.configuration,
      table.names.contains(where: { $0.bytes.hasSuffix(".qweight") })
    else {
      shapes(table, TensorIndex(model))
      tensors(table, TensorIndex(model))
      vocabulary(files, model)
      return
    }
    let namesMarlin = sources.sources.contains { $0.settings["is_marlin_format"] != nil }
    if namesMarlin {
      repairs.append(.dropMarlinKey)
      add(
        .warning, "is_marlin_format",
        "is_marlin_format is present, and GPTQModel 7 rejects this key even if it is false"
      )
    }
    var facts = modules(table, TensorIndex(model), quantization)
    facts.namesMarlin = namesMarlin
    facts.namesBlocks = sources.sources.contains { $0.settings["block_name_to_quantize"] != nil }
    tensors(table, TensorIndex(model))
    vocabulary(files, model)
    judge(model, quantization, facts: facts)
  }

  package var json: JSONValue {
    [
      "path": .string(path), "passed": .bool(!hasErrors),
      "findings": .array(
        findings.map {
          ["severity": .string($0.severity.rawValue), "rule": .string($0.rule), "text": .string($0.text)]
        }),
      "engines": .array(
        engines.map {
          [
            "engine": .string($0.engine), "loads": .bool($0.obstacle == nil),
            "obstacle": $0.obstacle.map { .string($0) } ?? .null, "remark": .string($0.remark),
          ]
        }),
    ]
  }

  private mutating func add(_ discrepancies: [Discrepancy]) {
    for found in discrepancies { add(.warning, found.fact.rawValue, found.description) }
  }

  private mutating func add(_ severity: Severity, _ rule: String, _ text: String) {
    findings.append(Finding(severity: severity, rule: rule, text: text))
  }

  /// What engines ask about, gathered over all modules.
  private struct Facts {
    var shortGroups: String?
    var isActOrder = false
    var contradictsZeroFormat = false
    var marlinShape: String?
    var namesMarlin = false
    /// Whether transformers is told where the blocks are, which of encoders it does not find out.
    var namesBlocks = false
    /// Modules whose settings are not the checkpoint's, or that are in floats.
    var differing: String?
    /// A width of codes, or a group size, that vLLM's Marlin kernels do not take.
    var marlinSettings: String?
    var asymmetric: String?
    /// What GGUF has no type for.
    var ggufSettings: String?

    mutating func add(
      _ name: String, shape: (out: Int, in: Int), groupSize: Int, _ settings: QuantizeConfiguration,
      of checkpoint: QuantizeConfiguration
    ) {
      var usual = checkpoint
      usual.rules = ModuleRules()
      if settings != usual { differing = differing ?? "\(name) has other settings than the checkpoint" }
      if settings.bits != 4 && settings.bits != 8 {
        marlinSettings = marlinSettings ?? "takes 4 and 8 bits, \(name) has \(settings.bits)"
      } else if ![-1, 32, 64, 128].contains(settings.groupSize) {
        marlinSettings =
          marlinSettings ?? "takes groups of 32, 64, 128 or a row, \(name) has \(settings.groupSize)"
      }
      if !settings.isSymmetric { asymmetric = asymmetric ?? name }
      if settings.bits == 8 && !settings.isSymmetric {
        ggufSettings = ggufSettings ?? "GGUF has no type for 8 bits asymmetric"
      } else if settings.groupSize > 0 && settings.groupSize % 32 != 0 {
        ggufSettings = ggufSettings ?? "GGUF takes groups of multiples of 32"
      }
      if shape.in % groupSize != 0 {
        shortGroups = shortGroups ?? "\(name) has \(shape.in) inputs in groups of \(groupSize)"
      }
      if shape.out % 64 != 0 || shape.in % 128 != 0 {
        marlinShape = marlinShape ?? "\(name) is \(shape.out)x\(shape.in)"
      }
    }
  }

  // MARK: Modules

  private mutating func modules(
    _ table: TensorTable, _ index: TensorIndex, _ quantization: QuantizeConfiguration
  ) -> Facts {
    var facts = Facts()
    var contradictions: [String] = []
    for layer in 0..<index.configuration.hiddenLayers {
      for (_, modules) in index.stages {
        var orders: [(name: String, order: [Int32])] = []
        for kind in modules {
          let module = ModuleID(kind, layer: layer)
          let name = index.name(of: module)
          // A module kept in floats is no fault; a module with neither is named by its missing codes.
          if table["\(name).weight"] != nil && table["\(name).qweight"] == nil {
            facts.differing = facts.differing ?? "\(name) is in floats"
            continue
          }
          guard
            let (settings, p) = parameters(
              name, shape: index.shape(of: module), table: table, quantization: quantization)
          else { continue }
          if let warning = p.warning {
            contradictions.append(warning)
            propose(.zeroPointFormat(quantization.zeroPointFormat.other))
          }
          facts.add(
            name, shape: index.shape(of: module), groupSize: p.groupSize, settings, of: quantization)
          if !(p.groupIndex.indices.allSatisfy { Int(p.groupIndex[$0]) == $0 / p.groupSize }) {
            facts.isActOrder = true
            if !settings.descendingActivation {
              propose(.declareActOrder)
              add(
                .error, "g_idx",
                "\(name).g_idx is not in order, though desc_act is false: engines ignore it then")
            }
          }
          orders.append((name, p.groupIndex))
        }
        if let first = orders.first, let other = orders.first(where: { $0.order != first.order }) {
          add(
            .error, "g_idx",
            "\(other.name).g_idx differs from \(first.name)'s: engines fuse the two and use one order for both"
          )
        }
      }
    }
    if let first = contradictions.first {
      facts.contradictsZeroFormat = true
      add(.error, "zero-point-format", "\(first) (\(contradictions.count) modules)")
    }
    if let short = facts.shortGroups {
      add(.warning, "short-group", "\(short): the last group is shorter, which vLLM rejects")
    }
    return facts
  }

  /// The module's settings and what its tensors say; nil when they break a rule, which becomes a finding.
  private mutating func parameters(
    _ name: String, shape: (out: Int, in: Int), table: TensorTable, quantization: QuantizeConfiguration
  ) -> (QuantizeConfiguration, AutoGPTQModule.Parameters)? {
    do {
      let settings = try quantization.settings(of: name)
      let p = try AutoGPTQModule.parameters(
        name, from: table, configuration: settings, out: shape.out, in: shape.in)
      _ = try table.required("\(name).qweight", shape: [shape.in * settings.bits / 32, shape.out])
      return (settings, p)
    } catch let error as AutoGPTQError {
      add(.error, CheckpointLint.rule(of: error.part), error.description)
    } catch let error as CheckpointError {
      let part = AutoGPTQError.Part.allCases.first { error.tensor == "\(name).\($0.rawValue)" }
      add(.error, part.map(CheckpointLint.rule) ?? "shape", error.description)
    } catch let error as JSONFieldError {
      add(.error, "dynamic", error.description)
    } catch { add(.error, "module", "\(name): \(error)") }
    return nil
  }

  /// The rule that a fault of a module's tensor breaks.
  private static func rule(of part: AutoGPTQError.Part) -> String {
    switch part {
    case .scales: "scales"
    case .gIdx: "g_idx"
    case .qzeros: "zero-points"
    case .qweight: "shape"
    }
  }

  private mutating func propose(_ repair: CheckpointRepair) {
    if !repairs.contains(repair) { repairs.append(repair) }
  }

  // MARK: Other tensors

  /// The tensors of a model in floats are there and have their shapes. Those of the vocabulary have a rule of their own.
  private mutating func shapes(_ table: TensorTable, _ index: TensorIndex) {
    for tensor in index.required where ![.embedding, .head].contains(tensor.id.module.kind) {
      do { _ = try table.required(index.name(of: tensor.id), shape: tensor.shape) } catch {
        add(.error, "shape", "\(error)")
      }
    }
  }

  private mutating func tensors(_ table: TensorTable, _ index: TensorIndex) {
    let known = Set(
      (index.projections + [.head]).flatMap { module in
        AutoGPTQModule.suffixes.map { "\(index.name(of: module)).\($0)" }
      })
    for tensor in table.inFileOrder {
      if tensor.dtype.isFloat {
        if known.contains(tensor.name) { continue }
        if let problem = FiniteCheck.problem(tensor) { add(.error, "not-finite", problem) }
      } else if !known.contains(tensor.name), !isPositions(tensor.name, index) {
        add(
          .warning, "stray-tensor",
          "\(tensor.name) (\(tensor.dtype.rawValue)) belongs to no quantized module of this model")
      }
    }
    for id in [TensorID(.embedding), TensorID(.head)] {
      guard let tensor = table[index.name(of: id)], let expected = index.tensor(id)?.shape else { continue }
      if tensor.shape != expected {
        add(
          .error, "vocabulary",
          "\(tensor.name) has shape \(tensor.shape), the configuration says \(expected)")
      }
    }
  }

  /// The numbers 0, 1, 2, … that BERT checkpoints of transformers before 4.31 hold; nothing reads them.
  private func isPositions(_ name: String, _ index: TensorIndex) -> Bool {
    index.configuration.encoder != nil
      && (name.bytes.hasSuffix("embeddings.position_ids")
        || name.bytes.hasSuffix("embeddings.token_type_ids"))
  }

  // MARK: Tokens

  private mutating func vocabulary(_ files: FolderFiles, _ model: ModelConfiguration) {
    let tokenizer: any Tokenizer
    do { tokenizer = try TokenizerLoader.load(files) } catch {
      return add(.warning, "tokenizer", "\(error)")
    }
    add(tokenizer.discrepancies)
    let rows = model.vocabularySize
    if tokenizer.ordinaryTokenCount > rows {
      add(
        .error, "vocabulary",
        "the tokenizer has \(tokenizer.ordinaryTokenCount) ids, the model \(rows) rows: they do not belong together"
      )
    } else if tokenizer.tokenCount > rows {
      add(
        .warning, "vocabulary",
        "tokens were added at \(rows) to \(tokenizer.tokenCount - 1), but the embedding has only \(rows) rows: a prompt that "
          + "holds one of them is refused")
    }
    let generation = (try? files.generationConfiguration())?.eosTokenIDs ?? []
    for id in Set(model.eosTokenIDs + generation).sorted() where id >= tokenizer.tokenCount {
      add(
        .error, "vocabulary",
        "id \(id) ends a text, but the tokenizer stops at \(tokenizer.tokenCount - 1): its vocabulary is truncated"
      )
    }
    guard let end = tokenizer.specialTokens["<eod>"] else { return }
    if !model.eosTokenIDs.isEmpty && !model.eosTokenIDs.contains(end) {
      add(
        .error, "vocabulary",
        "the tokenizer's <eod> is \(end), config.json says \(model.eosTokenIDs): the vocabulary is not this model's, or truncated"
      )
    } else if !(model.eosTokenIDs + generation).contains(end) {
      repairs.append(.addStop(end))
      add(.warning, "stops", "<eod> (\(end)) is not a stop token, so answers may not end")
    }
  }

  // MARK: Engines

  private mutating func judge(_ model: ModelConfiguration, _ q: QuantizeConfiguration, facts: Facts) {
    let broken = findings.first { $0.severity == .error && $0.rule != "zero-point-format" }?.text
    let isZhinao = model.family.needsRemoteCode
    let remoteCode = isZhinao ? "needs the model's own code, or zhinao-convert --to stock" : ""
    let format: String? =
      facts.contradictsZeroFormat ? "the declared zero-point format is not the stored one" : nil
    func verdict(_ engine: String, _ obstacles: [String?], remark: String) {
      engines.append(Verdict(engine: engine, obstacle: obstacles.compactMap { $0 }.first, remark: remark))
    }
    if model.encoder != nil {
      // What was tried (Docs/search.md); of vLLM nothing is known.
      verdict("AutoGPTQ", ["does not know bert models"], remark: "")
      verdict("GPTQModel", ["does not know bert models"], remark: "")
      let blocks =
        facts.namesBlocks
        ? nil
        : "quantization_config has no block_name_to_quantize, without which optimum does not find an encoder's blocks"
      verdict("transformers", [broken, format, blocks], remark: "through GPTQModel and optimum")
      return verdict("llama.cpp", ["zhinao-convert writes no GGUF files of encoders"], remark: "")
    }
    let isV2 = q.zeroPointFormat == .v2
    verdict(
      "AutoGPTQ",
      [
        broken, format, isV2 ? "reads format v1 only, this is v2" : nil,
        facts.differing.map { "has one setting for all modules: \($0)" },
      ], remark: remoteCode)
    verdict(
      "GPTQModel", [broken, format, facts.namesMarlin ? "version 7 refuses the key is_marlin_format" : nil],
      remark: remoteCode)
    verdict(
      "transformers", [broken, format], remark: "through GPTQModel" + (isZhinao ? "; \(remoteCode)" : ""))
    let vllm = isZhinao ? "needs 360Zhinao's patch of vLLM, or zhinao-convert --to stock" : ""
    let grouped = facts.shortGroups.map { "\($0), which do not divide evenly" }
    verdict(
      "vLLM Marlin",
      [
        broken, format, facts.asymmetric.map { "takes symmetric quantization only, \($0) is not" },
        isV2 ? "reads format v1 only, this is v2" : nil, facts.marlinSettings,
        grouped, facts.marlinShape.map { "\($0), not a multiple of 64 outputs and 128 inputs" },
      ], remark: vllm)
    verdict("vLLM gptq", [broken, format, grouped], remark: vllm)
    verdict(
      "llama.cpp",
      [
        broken, facts.isActOrder ? "GGUF has no act-order" : nil,
        facts.ggufSettings,
      ], remark: "as GGUF: zhinao-convert FOLDER -o FILE.gguf")
  }
}
