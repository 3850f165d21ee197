extension ModelFamily {
  /// 360Zhinao: a decoder whose queries, keys and values come from one matrix, interleaved by key head, with biases. The decoder
  /// is Qwen2's otherwise, so that stock engines load it in that layout.
  package static let zhinao = ModelFamily(
    name: "zhinao", modelClass: "ZhinaoForCausalLM", qkvLayout: .interleaved,
    defaults: Defaults(contextLength: 8192, qkvBias: .always, outputBias: .asConfigured, rotatesParts: true),
    gguf: nil, stockLayoutName: "qwen2",
    tensors: [
      .embedding("model.embed_tokens", gguf: "token_embd"),
      .norm(.inputNorm, "input_layernorm", gguf: "attn_norm"),
      .projection(.fusedQKV, [.fusedQKV, .hidden], .attentionInput, "self_attn.qkv_proj", gguf: nil),
      .bias(.fusedQKV, .fusedQKV, when: .qkvBias, "self_attn.qkv_proj", gguf: nil),
      .projection(
        .attentionOutput, [.hidden, .queries], .attentionOutput, "self_attn.o_proj", gguf: "attn_output"),
      .bias(.attentionOutput, .hidden, when: .outputBias, "self_attn.o_proj", gguf: "attn_output"),
      .norm(.postAttentionNorm, "post_attention_layernorm", gguf: "ffn_norm"),
      .projection(.gate, [.intermediate, .hidden], .feedForwardInput, "mlp.gate_proj", gguf: "ffn_gate"),
      .bias(.gate, .intermediate, when: .mlpBias, "mlp.gate_proj", gguf: "ffn_gate"),
      .projection(.up, [.intermediate, .hidden], .feedForwardInput, "mlp.up_proj", gguf: "ffn_up"),
      .bias(.up, .intermediate, when: .mlpBias, "mlp.up_proj", gguf: "ffn_up"),
      .projection(.down, [.hidden, .intermediate], .feedForwardOutput, "mlp.down_proj", gguf: "ffn_down"),
      .bias(.down, .hidden, when: .mlpBias, "mlp.down_proj", gguf: "ffn_down"),
      .norm(.finalNorm, "model.norm", gguf: "output_norm"),
      .head("lm_head", gguf: "output"),
    ])
}
