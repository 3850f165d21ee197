import Files
import JSON

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
    let fields = try JSONFields(json, document: label)
    let method = try fields.string("quant_method") ?? fields.string("method") ?? "gptq"
    guard method == "gptq" else {
      throw fields.refusal("quant_method", "is \"\(method)\"; only gptq is supported")
    }
    bits = try fields.integer("bits") ?? fields.integer("w_bit") ?? fields.requiredInteger("bits")
    guard [2, 3, 4, 8].contains(bits) else {
      throw fields.refusal("bits", "is \(bits); supported are 2, 3, 4, 8")
    }
    groupSize = try fields.integer("group_size") ?? fields.integer("q_group_size") ?? -1
    guard groupSize == -1 || groupSize > 0 else {
      throw fields.refusal("group_size", "is \(groupSize); expected -1 or a positive number")
    }
    isSymmetric = try fields.bool("sym") ?? true
    descendingActivation = try fields.bool("desc_act") ?? false
    let meta = try fields.object("meta")
    staticGroups = try fields.bool("static_groups") ?? meta?.bool("static_groups") ?? false
    trueSequential = try fields.bool("true_sequential") ?? true
    dampPercent = try fields.number("damp_percent") ?? meta?.number("damp_percent") ?? 0.01
    let format = try fields.string("checkpoint_format") ?? fields.string("format") ?? "gptq"
    guard let known = ZeroPointFormat(rawValue: format) else {
      throw fields.refusal("checkpoint_format", "is \"\(format)\"; supported are gptq and gptq_v2")
    }
    zeroPointFormat = known
    if try fields.bool("is_marlin_format") == true {
      throw fields.refusal(
        "is_marlin_format", "is true: the weights are in one GPU's order; ask for the gptq format")
    }
    if let rules = try fields.object("dynamic"), !rules.object.isEmpty {
      throw fields.refusal("dynamic", "gives single modules other settings, which is not supported")
    }
    if let pack = try fields.string("pack_dtype"), pack != "int32" {
      throw fields.refusal("pack_dtype", "is \"\(pack)\"; only int32 is supported")
    }
    if fields.isPresent("rotation") {
      throw fields.refusal("rotation", "is set; rotated weights are not supported")
    }
    let quantizer = meta?["quantizer"]
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
