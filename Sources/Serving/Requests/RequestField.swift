import JSON

/// A field of the requests of OpenAI, vLLM or llama.cpp, and what becomes of it here.
package struct RequestField: Sendable {
  package enum Endpoint: Sendable {
    case chat, completion
  }

  package enum Treatment: Equatable, Sendable {
    /// It does what the documentation of the fields says.
    case acts
    /// It cannot change the answer, so that any value is accepted. The text completes "it …".
    case ignored(String)
    /// It would change the answer, so that it is refused by name, unless it has one of the values that ask for nothing.
    case refused(String, unless: [JSONValue])
  }

  package let name: String
  /// The endpoints that know it.
  package let endpoints: [Endpoint]
  package let treatment: Treatment

  fileprivate init(_ name: String, _ endpoints: [Endpoint], _ treatment: Treatment) {
    self.name = name
    self.endpoints = endpoints
    self.treatment = treatment
  }

  private static let named = Dictionary(grouping: all, by: \.name)

  /// Refuses what is known and not done.
  /// - Returns: what the client should know of fields that are not known.
  static func check(_ fields: JSONFields, of endpoint: Endpoint) throws(JSONFieldError) -> [String] {
    var warnings: [String] = []
    for name in fields.object.keys where fields.isPresent(name) {
      guard let field = named[name]?.first(where: { $0.endpoints.contains(endpoint) }) else {
        let shown = String(String.UnicodeScalarView(name.unicodeScalars.prefix(60)))
        let what = named[name] == nil ? "not a known field" : "a field of the other endpoint"
        if warnings.count < 8 { warnings.append("\(shown) is \(what); it is ignored") }
        continue
      }
      guard case .refused(let reason, let harmless) = field.treatment else { continue }
      try fields.refuseUnsupported(
        name, because: reason, unless: { value in harmless.contains { $0.isSameRequest(as: value) } })
    }
    return warnings
  }
}

extension JSONValue {
  /// Whether both are equal, however their numbers are written.
  fileprivate func isSameRequest(as other: JSONValue) -> Bool {
    if let a = doubleValue, let b = other.doubleValue { return a == b }
    return self == other
  }
}

// MARK: - The table

extension RequestField {
  /// The fields of OpenAI's API, of vLLM's and llama.cpp's servers, and of the API demo of 360Zhinao.
  package static let all: [RequestField] =
    acting + ignored
    + refused.flatMap { group in
      group.fields.map { name, harmless in
        RequestField(name, [.chat, .completion], .refused(group.reason, unless: harmless))
      }
    }

  private static let acting: [RequestField] =
    [
      "model", "max_completion_tokens", "max_tokens", "max_new_tokens", "n_predict", "temperature",
      "do_sample",
      "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "logit_bias",
      "seed", "n", "stop", "stop_token_ids", "ignore_eos", "min_tokens", "include_stop_str_in_output",
      "skip_special_tokens", "bad_words", "allowed_token_ids", "truncate_prompt_tokens", "truncation_side",
      "prompt_logprobs", "logprobs", "return_tokens_as_token_ids", "return_token_ids", "stream",
      "stream_options",
      "allow_special_tokens", "add_special_tokens", "response_format", "tools", "tool_choice",
    ].map { RequestField($0, [.chat, .completion], .acts) }
    + [
      "messages", "top_logprobs", "add_generation_prompt", "continue_final_message", "documents",
      "enable_thinking", "reasoning_effort", "chat_template_kwargs",
    ].map { RequestField($0, [.chat], .acts) }
    + ["prompt", "best_of"].map { RequestField($0, [.completion], .acts) }
    + [
      // In a chat, vLLM puts the last message in front of the answer.
      RequestField("echo", [.completion], .acts),
      RequestField("echo", [.chat], .refused("it is for /v1/completions, not for chats", unless: [false])),
    ]

  private static let ignored: [RequestField] = [
    (
      "only concerns who asks, how the request is recorded, or what it costs",
      [
        "user", "metadata", "store", "service_tier", "safety_identifier", "session_id", "request_id",
        "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
      ]
    ),
    (
      "only concerns how the answer is computed, which does not change it here",
      [
        "prediction", "cache_prompt", "n_cache_reuse", "id_slot", "stream_interval", "sse_ping_interval",
        "backend_sampling", "routed_experts_prompt_start",
      ]
    ),
    (
      "asks for reports beside the answer that the server does not make",
      ["timings_per_token", "return_progress", "verbose", "return_mm_kwargs"]
    ),
    (
      "concerns calls of tools, which the server leaves in the text",
      ["parallel_tool_calls", "parse_tool_calls"]
    ),
    ("concerns contexts that shift; here the context ends the answer", ["n_keep", "n_discard"]),
    ("changes nothing: no spaces stand between special tokens", ["spaces_between_special_tokens"]),
    (
      "only tunes a setting that is refused itself",
      [
        "mirostat_tau", "mirostat_eta", "dynatemp_exponent", "xtc_threshold", "dry_base",
        "dry_allowed_length",
        "dry_penalty_last_n", "dry_sequence_breakers", "adaptive_decay", "repeat_last_n",
      ]
    ),
  ].flatMap { reason, names in
    names.map { RequestField($0, [.chat, .completion], .ignored(reason)) }
  }

  private static let refused: [(reason: String, fields: [(name: String, harmless: [JSONValue])])] = [
    (
      "answers cannot be constrained",
      [
        ("structured_outputs", []), ("guided_json", []), ("guided_regex", []), ("guided_choice", []),
        ("guided_grammar", []), ("guided_decoding_backend", []), ("guided_whitespace_pattern", []),
        ("structural_tag", []), ("json_schema", []), ("grammar", [""]), ("grammar_lazy", [false]),
        ("grammar_triggers", [[]]), ("preserved_tokens", [[]]),
      ]
    ),
    (
      "answers are sampled token by token",
      [("use_beam_search", [false]), ("length_penalty", [1]), ("early_stopping", [false])]
    ),
    (
      "the server has no such sampler",
      [
        ("mirostat", [0]), ("dry_multiplier", [0]), ("xtc_probability", [0]), ("typical_p", [1]),
        ("dynatemp_range", [0]), ("top_n_sigma", [-1, 0]), ("adaptive_target", [-1]), ("min_keep", [0]),
        ("samplers", []), ("watermarking", [false]), ("logits_processors", [[]]), ("vllm_xargs", [[:]]),
        ("repetition_detection", []),
      ]
    ),
    (
      "its name here is repetition_penalty, which covers prompt and answer",
      [("repeat_penalty", [1])]
    ),
    ("its name here is n", [("n_cmpl", [1])]),
    ("its name here is logprobs", [("n_probs", [0])]),
    ("its name here is return_token_ids", [("return_tokens", [false])]),
    (
      "log probabilities are those of the likeliest tokens, before sampling",
      [("logprob_token_ids", []), ("post_sampling_probs", [false])]
    ),
    ("the model's own chat template is used", [("chat_template", []), ("chat_template_file", [])]),
    (
      "thoughts are part of the answer's text",
      [
        ("include_reasoning", [true]), ("reasoning_format", ["none", "auto"]), ("reasoning_control", [false]),
        ("thinking_token_budget", [-1]), ("reasoning_budget_tokens", [-1]),
      ]
    ),
    ("the model has no such setting", [("verbosity", ["medium"])]),
    ("the server makes no function calls", [("functions", [[]]), ("function_call", ["none", "auto"])]),
    ("the server does not connect to other servers", [("web_search_options", []), ("moderation", [])]),
    (
      "only text is read and written",
      [
        ("modalities", [["text"]]), ("audio", []), ("prompt_embeds", []), ("mm_processor_kwargs", [[:]]),
        ("media_io_kwargs", [[:]]), ("multimodal_data", []),
      ]
    ),
    ("text cannot be inserted, only continued", [("suffix", [""]), ("n_indent", [0])]),
    (
      "its members belong into the request itself",
      [("extra_body", [[:]]), ("options", [[:]]), ("parameters", [[:]]), ("sampling_params", [[:]])]
    ),
    ("an adapter is chosen by its name in model", [("lora", [[]])]),
    ("requests take turns", [("priority", [0])]),
    ("--request-timeout limits the time", [("t_max_predict_ms", [0, -1])]),
    ("all clients share the prefix cache", [("cache_salt", [])]),
    (
      "keys and values stay in this process",
      [("kv_transfer_params", [[:]]), ("ec_transfer_params", [[:]])]
    ),
    (
      "the response has no such member",
      [("return_prompt_text", [false]), ("return_token_offsets", [false]), ("response_fields", [[]])]
    ),
  ]
}
