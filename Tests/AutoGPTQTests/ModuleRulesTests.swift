import AutoGPTQ
import JSON
import Testing

@Suite struct ModuleRulesTests {
  private static func configuration(_ fields: String) throws -> QuantizeConfiguration {
    try QuantizeConfiguration(
      JSONValue.parse(#"{"bits": 4, "group_size": 128, "sym": true, \#(fields)}"#),
      label: "quantize_config.json")
  }

  /// The first rule counts whose expression matches from the name's start.
  @Test func dynamicIsReadAsGPTQModelReadsIt() throws {
    let c = try Self.configuration(
      #"""
      "dynamic": {"-:.*layers\\.1\\..*": {}, "+:.*down_proj": {"bits": 8, "group_size": 32, "damp_percent": 0.1},
        ".*layers\\.(?!0\\.).*up_proj": {"sym": false, "desc_act": true}, ".*down.*": {"bits": 2}}
      """#)
    let down = try c.settings(of: "model.layers.0.mlp.down_proj")
    #expect(down.bits == 8 && down.groupSize == 32 && down.isSymmetric)
    let up = try c.settings(of: "model.layers.2.mlp.up_proj")
    #expect(up.bits == 4 && up.groupSize == 128 && !up.isSymmetric && up.descendingActivation)
    #expect(try c.settings(of: "model.layers.0.mlp.up_proj").isSymmetric)
    let error = #expect(throws: JSONFieldError.self) { try c.settings(of: "model.layers.1.mlp.up_proj") }
    #expect(error?.description.contains("model.layers.1.mlp.up_proj in floats") == true)
  }

  @Test(arguments: [
    (#""+:(": {}"#, "(", "expression"), (#""a": 3"#, "a", "object"), (#""a": {"bits": 5}"#, "a.bits", "5"),
    (#""a": {"group_size": 0}"#, "a.group_size", "0"),
    (#""a": {"group_size": 9223372036854775807}"#, "a.group_size", "9223372036854775807"),
    (#""a": {"pack_dtype": "int16"}"#, "a.pack_dtype", "int16"),
    (#""a": {"format": "marlin"}"#, "a.format", "marlin"), (#""a": {"sym": 1}"#, "a.sym", "true or false"),
  ])
  func rulesThatCannotBeFollowedAreNamed(rule: String, field: String, part: String) {
    let error = #expect(throws: JSONFieldError.self) { try Self.configuration(#""dynamic": {\#(rule)}"#) }
    #expect(error?.field.contains(field) == true && error?.description.contains(part) == true)
  }

  @Test func anEndlessExpressionIsNamed() throws {
    let c = try Self.configuration(#""dynamic": {"+:(.*)*(.*)*(.*)*(.*)*x": {"bits": 8}}"#)
    let error = #expect(throws: JSONFieldError.self) {
      try c.settings(of: String(repeating: "model.layers.0.", count: 20))
    }
    #expect(error?.description.contains("takes too long") == true)
  }

  /// AutoRound's own format: a name wins over expressions, which match anywhere; 16 bits are floats.
  @Test func extraConfigIsReadAsAutoRoundReadsIt() throws {
    let c = try Self.configuration(
      #"""
      "quant_method": "auto-round", "data_type": "int", "packing_format": "auto_round:auto_gptq",
      "extra_config": {"layers.0.*": {"bits": 8}, "model.layers.0.mlp.up_proj": {"bits": 2},
        "lm_head": {"bits": 16, "data_type": "float"}}
      """#)
    #expect(c.zeroPointFormat == .v1)
    #expect(try c.settings(of: "model.layers.0.mlp.up_proj").bits == 2)
    #expect(try c.settings(of: "model.layers.0.mlp.down_proj").bits == 8)
    #expect(try c.settings(of: "model.layers.1.mlp.down_proj").bits == 4)
    #expect(throws: JSONFieldError.self) { try c.settings(of: "lm_head") }
    let own = try Self.configuration(
      #""quant_method": "auto-round", "packing_format": "auto_round:exllamav2""#)
    #expect(own.zeroPointFormat == .v2)
  }

  @Test(arguments: [
    (#""quant_method": "auto-round", "packing_format": "auto_round:auto_awq""#, "packing_format"),
    (#""quant_method": "auto-round", "data_type": "mx_fp""#, "data_type"),
    (#""quant_method": "auto-round", "act_bits": 8"#, "act_bits"),
    (#""quant_method": "awq""#, "quant_method"),
  ])
  func otherPackingsAreNamed(fields: String, field: String) {
    let error = #expect(throws: JSONFieldError.self) { try Self.configuration(fields) }
    #expect(error?.field == field)
  }

  @Test func aKeyMeansOneModule() {
    #expect(ModuleRules.key(for: "a.b_proj", isExclusion: true) == #"-:^a\.b_proj$"#)
    #expect(ModuleRules.key(for: "a.b_proj", isExclusion: false) == #"+:^a\.b_proj$"#)
  }
}
