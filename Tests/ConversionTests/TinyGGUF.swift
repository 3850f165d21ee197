import GGUF

/// GGUF files for tests of tokenizers.
enum TinyGGUF {
  /// A model of hardly any weights with `rows` tokens, around the fields of a tokenizer.
  static func write(_ fields: [(String, GGUFField)], rows: Int, to path: String) throws {
    let width = 32
    var plans = [
      GGUFTensorPlan("token_embd.weight", .q4_0, [rows, width]),
      GGUFTensorPlan("output_norm.weight", .f32, [width]),
    ]
    for (name, shape) in [
      ("attn_norm", [width]), ("attn_q", [width, width]), ("attn_k", [width, width]),
      ("attn_v", [width, width]),
      ("attn_output", [width, width]), ("ffn_norm", [width]), ("ffn_gate", [width, width]),
      ("ffn_up", [width, width]), ("ffn_down", [width, width]),
    ] {
      plans.append(GGUFTensorPlan("blk.0.\(name).weight", .f32, shape))
    }
    let number = { (name: String, value: Int) in ("llama.\(name)", GGUFField.uint32(UInt32(value))) }
    try GGUFWriter.write(
      to: path,
      fields: [
        ("general.architecture", .string("llama")), number("block_count", 1), number("context_length", 64),
        number("embedding_length", width), number("feed_forward_length", width),
        number("attention.head_count", 1),
      ] + fields, tensors: plans
    ) { plan, emit in
      try [UInt8](repeating: 0, count: plan.byteCount).withUnsafeBytes { try emit($0) }
    }
  }
}
