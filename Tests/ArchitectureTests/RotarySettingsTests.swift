import Architecture
import Files
import JSON
import Testing

/// What two spellings of one setting amount to. Expected values are those of transformers 5.24's `AutoConfig`.
@Suite struct RotarySettingsTests {
  private static let plain: JSONValue = ["rope_type": "default", "rope_theta": 1e6]
  private static let linear: JSONValue = ["type": "linear", "factor": 2.0]

  @Test(
    arguments: [
      // rope_scaling replaces rope_parameters whole, theta included.
      (
        [("rope_parameters", plain), ("rope_scaling", linear)], 1e4, .linear(factor: 2), "rope_scaling counts"
      ),
      (
        [("rope_parameters", plain), ("rope_scaling", linear), ("rope_theta", 5e5)], 5e5, .linear(factor: 2),
        "not 1000000.0"
      ),
      ([("rope_parameters", plain), ("rope_scaling", nil)], 1e6, .none, nil),
      ([("rope_parameters", plain), ("rope_scaling", [:])], 1e6, .none, nil),
      ([("rope_parameters", plain), ("rope_scaling", plain)], 1e6, .none, nil),
      (
        [("rope_parameters", plain), ("rope_theta", 5e5)], 1e6, .none,
        "rope_parameters.rope_theta is 1000000.0"
      ),
      ([("rope_parameters", ["rope_type": "default"]), ("rope_theta", 5e5)], 5e5, .none, nil),
      ([("rope_parameters", ["rope_type": "default"])], 1e4, .none, nil),
      (
        [("rope_scaling", ["type": "linear", "rope_type": "default", "factor": 2.0])], 1e4, .none,
        "rope_type is \"default\" and rope_scaling.type is \"linear\""
      ),
      ([("rope_scaling", ["factor": 2.0])], 1e4, .none, "factor has no effect, because rope_type is missing"),
      (
        [("rope_scaling", ["rope_type": "linear", "type": "linear", "factor": 2.0])], 1e4, .linear(factor: 2),
        nil
      ),
    ] as [([(String, JSONValue)], Double, RotaryParameters.Scaling, String?)])
  func oneOfTwoSpellingsCounts(
    changes: [(String, JSONValue)], theta: Double, scaling: RotaryParameters.Scaling, note: String?
  ) throws {
    let c = try ConfigurationTests.configuration(changes)
    #expect(c.ropeTheta == theta && c.ropeScaling == scaling)
    let found = c.discrepancies.map(\.description)
    #expect(found.isEmpty == (note == nil), "\(found)")
    if let note { #expect(found.contains { $0.bytes.contains(note) }, "\(found)") }
    #expect(c.discrepancies.allSatisfy { $0.fact == .rotary })
  }

  @Test(
    arguments: [
      (
        [("rope_parameters", plain), ("rope_scaling", ["type": "yarn", "factor": 4.0])], "rope_scaling.type"
      ),
      ([("rope_parameters", ["rope_type": "yarn", "factor": 4.0])], "rope_parameters.rope_type"),
      ([("rope_parameters", ["full_attention": plain])], "rope_parameters.full_attention"),
      ([("rope_scaling", ["type": "linear"])], "rope_scaling.factor"),
      ([("rope_scaling", "linear")], "rope_scaling"),
      ([("partial_rotary_factor", 0.5)], "partial_rotary_factor"),
      (
        [("rope_parameters", ["rope_theta": 1e4, "partial_rotary_factor": 0.5])],
        "rope_parameters.partial_rotary_factor"
      ),
    ] as [([(String, JSONValue)], String)])
  func whatIsNotComputedIsRefusedByName(changes: [(String, JSONValue)], field: String) {
    let error = #expect(throws: JSONFieldError.self) { try ConfigurationTests.configuration(changes) }
    #expect(error?.field == field)
  }

  @Test func llama3KeepsTheContextOfItsOwnObject() throws {
    let c = try ConfigurationTests.configuration([
      (
        "rope_scaling",
        [
          "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64,
        ]
      ), ("original_max_position_embeddings", 32),
    ])
    #expect(
      c.ropeScaling == .llama3(factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 64))
    #expect(c.discrepancies.count == 1)
  }

  @Test func dtypeCountsBeforeTorchDtype() throws {
    let c = try ConfigurationTests.configuration([("dtype", "float16"), ("torch_dtype", "bfloat16")])
    #expect(c.declaredType == .f16 && c.discrepancies.map(\.fact) == [.elementType])
    let older = try ConfigurationTests.configuration([("dtype", nil), ("torch_dtype", "bfloat16")])
    #expect(older.declaredType == .bf16 && older.discrepancies.isEmpty)
  }

  /// Qwen2's window is on only with its switch, and then also without a size.
  @Test(
    arguments: [
      ([("use_sliding_window", true), ("max_window_layers", 0)], false),
      ([("use_sliding_window", true), ("max_window_layers", 1), ("sliding_window", 512)], false),
      ([("use_sliding_window", true), ("max_window_layers", 2)], true),
      ([("use_sliding_window", true), ("max_window_layers", 0), ("sliding_window", nil)], true),
      ([("use_sliding_window", true), ("max_window_layers", 0), ("sliding_window", 8192)], true),
      ([("use_sliding_window", false), ("max_window_layers", 0), ("sliding_window", 512)], true),
      ([("layer_types", ["full_attention", "sliding_attention"])], false),
      ([("layer_types", ["full_attention", "full_attention"])], true),
    ] as [([(String, JSONValue)], Bool)])
  func windowsThatNarrowNothingAreAccepted(changes: [(String, JSONValue)], isAccepted: Bool) {
    let all = [("model_type", "qwen2"), ("max_position_embeddings", 8192)] + changes
    #expect(((try? ConfigurationTests.configuration(all)) != nil) == isAccepted)
  }
}
