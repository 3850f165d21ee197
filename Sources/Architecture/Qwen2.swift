extension ModelFamily {
  /// Qwen2 and Qwen2.5: queries, keys and values always have biases, the output projection never.
  package static let qwen2 = ModelFamily(
    name: "qwen2", modelClass: "Qwen2ForCausalLM", qkvLayout: .separate,
    defaults: Defaults(
      contextLength: 8192, qkvBias: .always, outputBias: .never,
      switchedWindow: SwitchedWindow(size: 4096, firstLayer: 28)),
    gguf: GGUFDialect(architecture: "qwen2"),
    tensors: [
      .embedding("model.embed_tokens", gguf: "token_embd"),
      .norm(.inputNorm, "input_layernorm", gguf: "attn_norm"),
      .projection(.query, [.queries, .hidden], .attentionInput, "self_attn.q_proj", gguf: "attn_q"),
      .bias(.query, .queries, when: .qkvBias, "self_attn.q_proj", gguf: "attn_q"),
      .projection(.key, [.keys, .hidden], .attentionInput, "self_attn.k_proj", gguf: "attn_k"),
      .bias(.key, .keys, when: .qkvBias, "self_attn.k_proj", gguf: "attn_k"),
      .projection(.value, [.keys, .hidden], .attentionInput, "self_attn.v_proj", gguf: "attn_v"),
      .bias(.value, .keys, when: .qkvBias, "self_attn.v_proj", gguf: "attn_v"),
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
