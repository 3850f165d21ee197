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
  /// Where single modules differ. They hold for the names of the file that they were read from; ``json(toolVersion:dynamic:)`` leaves
  /// them out.
  package var rules = ModuleRules()
  /// Further members of `meta` that this toolchain writes: how scales were chosen and tokens weighted. No engine needs them.
  package var meta = JSONObject()
  private static let metaKeys = [
    "scale_search", "signed_scales", "token_weights", "error_propagation", "refinement_rounds",
  ]

  static let supportedBits = [2, 3, 4, 8]

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
    let isFromAutoRound = ["auto-round", "intel/auto-round"].contains(method)
    guard method == "gptq" || isFromAutoRound else {
      throw fields.refusal(
        "quant_method", "is \"\(method)\"; only gptq and auto-round in GPTQ's packing can be read")
    }
    bits = try Self.checked(
      bits: fields.integer("bits") ?? fields.integer("w_bit") ?? fields.requiredInteger("bits"), fields)
    groupSize = try Self.checked(
      groupSize: fields.integer("group_size") ?? fields.integer("q_group_size") ?? -1, fields)
    isSymmetric = try fields.bool("sym") ?? true
    descendingActivation = try fields.bool("desc_act") ?? false
    let meta = try fields.object("meta")
    staticGroups = try fields.bool("static_groups") ?? meta?.bool("static_groups") ?? false
    trueSequential = try fields.bool("true_sequential") ?? true
    dampPercent = try fields.number("damp_percent") ?? meta?.number("damp_percent") ?? 0.01
    if isFromAutoRound {
      zeroPointFormat = try Self.formatOfAutoRound(fields)
    } else {
      let format = try fields.string("checkpoint_format") ?? fields.string("format") ?? "gptq"
      guard let known = ZeroPointFormat(rawValue: format) else {
        throw fields.refusal("checkpoint_format", "is \"\(format)\"; supported are gptq and gptq_v2")
      }
      zeroPointFormat = known
    }
    if try fields.bool("is_marlin_format") == true {
      throw fields.refusal(
        "is_marlin_format", "is true: the weights are in one GPU's order; ask for the gptq format")
    }
    if let dynamic = try fields.object("dynamic"), !dynamic.object.isEmpty {
      rules = try ModuleRules(dynamic: dynamic)
    } else if isFromAutoRound, let extra = try fields.object("extra_config") {
      rules = try ModuleRules(extra: extra)
    }
    if let pack = try fields.string("pack_dtype"), pack != "int32" {
      throw fields.refusal("pack_dtype", "is \"\(pack)\"; only int32 is supported")
    }
    if fields.isPresent("rotation") {
      throw fields.refusal("rotation", "is set; rotated weights are not supported")
    }
    self.meta = JSONObject(
      Self.metaKeys.compactMap { key in meta?.object[key].map { (key, $0) } })
    let quantizer = meta?["quantizer"]
    let makers =
      quantizer?.arrayValue?.compactMap(\.stringValue) ?? [quantizer?.stringValue].compactMap { $0 }
    isFromGPTQModel = makers.contains { $0.lowercased().hasPrefix("gptqmodel") }
  }

  static func checked(bits: Int, _ fields: JSONFields) throws -> Int {
    guard supportedBits.contains(bits) else {
      throw fields.refusal("bits", "is \(bits); supported are 2, 3, 4, 8")
    }
    return bits
  }

  static func checked(groupSize: Int, _ fields: JSONFields) throws -> Int {
    guard groupSize == -1 || (1...(1 << 30)).contains(groupSize) else {
      throw fields.refusal("group_size", "is \(groupSize); expected -1 or a positive number")
    }
    return groupSize
  }

  /// How AutoRound's own format stores zero points: `packing_format` names the library whose packing it is.
  private static func formatOfAutoRound(_ fields: JSONFields) throws -> ZeroPointFormat {
    if let type = try fields.string("data_type"), type != "int" {
      throw fields.refusal("data_type", "is \"\(type)\"; only int can be read")
    }
    if let bits = try fields.integer("act_bits"), bits < 16 {
      throw fields.refusal("act_bits", "is \(bits): activations in integers are not supported")
    }
    let packing = try fields.string("packing_format") ?? fields.string("backend") ?? "auto_round"
    guard packing.bytes.hasPrefix("auto_round"),
      !["awq", "fp8", "llm_compressor", "nv_fp", "mx_fp"].contains(where: packing.bytes.contains)
    else {
      throw fields.refusal(
        "packing_format", "is \"\(packing)\"; only auto_round and auto_round:auto_gptq can be read")
    }
    return packing.bytes.contains("gptq") && !packing.bytes.contains("gptqmodel") ? .v1 : .v2
  }

  /// The settings of one module with codes.
  /// - Throws: ``JSONFieldError`` when a rule says that it has none.
  package func settings(of module: String) throws -> QuantizeConfiguration {
    rules.isEmpty ? self : try rules.settings(of: module, in: self)
  }

  /// The dictionary that AutoGPTQ, GPTQModel, transformers and vLLM read, AutoGPTQ 0.7.1's keys first but
  /// for `is_marlin_format`, whose presence GPTQModel 7 refuses.
  /// - Parameter dynamic: where single modules differ, in GPTQModel's terms; nil: nowhere.
  package func json(toolVersion: String, dynamic: JSONObject? = nil) -> JSONValue {
    var object = JSONObject([
      ("bits", .init(bits)), ("group_size", .init(groupSize)), ("damp_percent", .init(dampPercent)),
      ("desc_act", .bool(descendingActivation)), ("static_groups", .bool(staticGroups)),
      ("sym", .bool(isSymmetric)), ("true_sequential", .bool(trueSequential)), ("lm_head", false),
      ("model_name_or_path", nil), ("model_file_base_name", "model"), ("quant_method", "gptq"),
      ("checkpoint_format", .string(zeroPointFormat.rawValue)),
    ])
    var made = JSONObject([("quantizer", .array([.string("zhinao-toolchain:\(toolVersion)")]))])
    for (key, value) in meta.members { made[key] = value }
    object["meta"] = .object(made)
    if let dynamic { object["dynamic"] = .object(dynamic) }
    return .object(object)
  }
}
