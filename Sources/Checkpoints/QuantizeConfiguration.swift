import FileSupport

/// How the zero points of an AutoGPTQ checkpoint are stored.
package enum ZeroPointFormat: String, CaseIterable, Sendable {
  /// The field holds `zero - 1`.
  case v1 = "gptq"
  /// The field holds `zero`.
  case v2 = "gptq_v2"
}

/// What `quantize_config.json`, or `quantization_config` inside `config.json`, says (`Formats/autogptq-int4.md`).
package struct QuantizeConfiguration: Equatable, Sendable {
  package var bits: Int
  /// Inputs of one group; −1: the whole row.
  package var groupSize: Int
  package var isSymmetric: Bool
  package var descendingActivation: Bool
  package var staticGroups: Bool
  package var dampPercent: Double
  package var trueSequential: Bool
  package var zeroPointFormat: ZeroPointFormat
  /// Written by GPTQModel, whose asymmetric v1 files need a whole-word add (see the format's description).
  package var isFromGPTQModel: Bool

  package init(
    bits: Int = 4, groupSize: Int = 128, isSymmetric: Bool = true, descendingActivation: Bool = false,
    staticGroups: Bool = false, dampPercent: Double = 0.01, trueSequential: Bool = true,
    zeroPointFormat: ZeroPointFormat = .v1, isFromGPTQModel: Bool = false
  ) {
    self.bits = bits
    self.groupSize = groupSize
    self.isSymmetric = isSymmetric
    self.descendingActivation = descendingActivation
    self.staticGroups = staticGroups
    self.dampPercent = dampPercent
    self.trueSequential = trueSequential
    self.zeroPointFormat = zeroPointFormat
    self.isFromGPTQModel = isFromGPTQModel
  }

  package init(_ json: JSONValue, label: String) throws {
    guard let object = json.objectValue else {
      throw CheckpointError(path: label, detail: "is not a JSON object")
    }
    let fields = ConfigurationFields(object: object, label: label)
    let method = object["quant_method"]?.stringValue ?? object["method"]?.stringValue ?? "gptq"
    guard method == "gptq" else {
      throw fields.bad("quant_method", "is \"\(method)\"; only gptq is supported")
    }
    func whole(_ names: [String], default standard: Int?) throws -> Int {
      guard let name = names.first(where: fields.isPresent) else {
        guard let standard else { throw fields.bad(names[0], "is missing") }
        return standard
      }
      guard let value = object[name]?.intValue else { throw fields.bad(name, "is not a whole number") }
      return value
    }
    bits = try whole(["bits", "w_bit"], default: nil)
    guard [2, 3, 4, 8].contains(bits) else {
      throw fields.bad("bits", "is \(bits); supported are 2, 3, 4, 8")
    }
    groupSize = try whole(["group_size", "q_group_size"], default: -1)
    guard groupSize == -1 || groupSize > 0 else {
      throw fields.bad("group_size", "is \(groupSize); expected -1 or a positive number")
    }
    isSymmetric = try fields.flag("sym", true)
    descendingActivation = try fields.flag("desc_act", false)
    let meta = object["meta"]?.objectValue.map { ConfigurationFields(object: $0, label: label) }
    staticGroups = try fields.flag("static_groups", meta?.flag("static_groups", false) ?? false)
    trueSequential = try fields.flag("true_sequential", true)
    dampPercent = try fields.number("damp_percent", meta?.number("damp_percent", 0.01) ?? 0.01)
    let format = object["checkpoint_format"]?.stringValue ?? object["format"]?.stringValue ?? "gptq"
    guard let known = ZeroPointFormat(rawValue: format) else {
      throw fields.bad("checkpoint_format", "is \"\(format)\"; supported are gptq and gptq_v2")
    }
    zeroPointFormat = known
    if try fields.flag("is_marlin_format", false) {
      throw fields.bad(
        "is_marlin_format", "is true: the weights are in one GPU's order; ask for the gptq format")
    }
    if let rules = object["dynamic"]?.objectValue, !rules.isEmpty {
      throw fields.bad("dynamic", "gives single modules other settings, which is not supported")
    }
    if let pack = object["pack_dtype"]?.stringValue, pack != "int32" {
      throw fields.bad("pack_dtype", "is \"\(pack)\"; only int32 is supported")
    }
    if let rotation = object["rotation"], !rotation.isNull {
      throw fields.bad("rotation", "is set; rotated weights are not supported")
    }
    let quantizer = meta?.object["quantizer"]
    let makers =
      quantizer?.arrayValue?.compactMap(\.stringValue) ?? [quantizer?.stringValue].compactMap { $0 }
    isFromGPTQModel = makers.contains { $0.lowercased().hasPrefix("gptqmodel") }
  }

  /// The dictionary that AutoGPTQ, GPTQModel, transformers and vLLM read, AutoGPTQ 0.7.1's keys first but
  /// for `is_marlin_format`, whose presence GPTQModel 7 refuses.
  package func json(toolVersion: String) -> JSONValue {
    [
      "bits": .init(bits), "group_size": .init(groupSize), "damp_percent": .init(dampPercent),
      "desc_act": .bool(descendingActivation), "static_groups": .bool(staticGroups),
      "sym": .bool(isSymmetric),
      "true_sequential": .bool(trueSequential), "lm_head": false, "model_name_or_path": nil,
      "model_file_base_name": "model", "quant_method": "gptq",
      "checkpoint_format": .string(zeroPointFormat.rawValue),
      "meta": ["quantizer": .array([.string("zhinao-toolchain:\(toolVersion)")])],
    ]
  }
}

extension ModelFiles {
  /// The quantization of the checkpoint, or nil when its weights are floats. Looked up as AutoGPTQ and vLLM do.
  package func quantizeConfiguration() throws -> QuantizeConfiguration? {
    for name in ["quantize_config.json", "quant_config.json"] {
      if let json = try json(named: name) { return try QuantizeConfiguration(json, label: label(of: name)) }
    }
    guard let json = try json(named: "config.json")?["quantization_config"], !json.isNull else { return nil }
    return try QuantizeConfiguration(json, label: label(of: "config.json") + ": quantization_config")
  }
}
