"""Makes the first inputs of the fuzzers, which are valid files of every kind: make_seeds.py FOLDER CONVERT. CONVERT is the
built zhinao-convert, which makes .zhinao files."""

import base64, gzip, json, os, random, struct, subprocess, sys, zlib

folder, convert = sys.argv[1], sys.argv[2]
random.seed(1)


def put(kind, name, content):
    os.makedirs(f"{folder}/{kind}", exist_ok=True)
    with open(f"{folder}/{kind}/{name}", "wb") as f:
        f.write(content if isinstance(content, bytes) else content.encode())


def safetensors(tensors, metadata=None):
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def floats(*shape):
    count = 1
    for n in shape:
        count *= n
    return ("F32", list(shape), struct.pack(f"<{count}f", *(random.gauss(0, 0.1) for _ in range(count))))


H, I, V = 32, 32, 300
config = {
    "architectures": ["ZhinaoForCausalLM"], "model_type": "zhinao", "vocab_size": V, "hidden_size": H,
    "intermediate_size": I, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": False, "torch_dtype": "float32", "eos_token_id": 259, "use_flash_attn": False,
}
vocabulary = "\n".join(f"{base64.b64encode(bytes([i])).decode()} {i}" for i in range(256))
vocabulary += "\n" + "\n".join(f"{base64.b64encode(t.encode()).decode()} {256 + i}" for i, t in enumerate(["he", "ll", "hell"]))
quantization = {"bits": 4, "group_size": 32, "damp_percent": 0.01, "desc_act": False, "sym": True, "true_sequential": True, "static_groups": False, "model_name_or_path": None, "model_file_base_name": None}
llama = {**config, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}}
llama.pop("use_flash_attn")

put("safetensors", "two", safetensors({"a": floats(2, 3), "b": ("BF16", [4], b"\0" * 8)}, {"format": "pt"}))
put("safetensors", "types", safetensors({t: (t, [1], b"\1" * n) for t, n in [("F64", 8), ("F16", 2), ("I64", 8), ("I32", 4), ("U8", 1), ("BOOL", 1)]}))
put("safetensors", "empty", safetensors({"a": ("F32", [0], b"")}))

weights = {
    "model.embed_tokens.weight": floats(V, H), "model.layers.0.input_layernorm.weight": floats(H),
    "model.layers.0.self_attn.qkv_proj.weight": floats(3 * H, H), "model.layers.0.self_attn.qkv_proj.bias": floats(3 * H),
    "model.layers.0.self_attn.o_proj.weight": floats(H, H), "model.layers.0.post_attention_layernorm.weight": floats(H),
    "model.layers.0.mlp.gate_proj.weight": floats(I, H), "model.layers.0.mlp.up_proj.weight": floats(I, H),
    "model.layers.0.mlp.down_proj.weight": floats(H, I), "model.norm.weight": floats(H), "lm_head.weight": floats(V, H),
}
model = f"{folder}/model"
os.makedirs(f"{model}/vocab", exist_ok=True)
open(f"{model}/config.json", "w").write(json.dumps(config))
open(f"{model}/vocab/360.tiktoken", "w").write(vocabulary)
open(f"{model}/model.safetensors", "wb").write(safetensors(weights, {"format": "pt"}))
os.makedirs(f"{folder}/packed", exist_ok=True)
subprocess.run([convert, model, "-o", f"{folder}/packed/float.zhinao", "--quiet"], check=True)

# The same model with Int4 tensors, as AutoGPTQ stores them.
quantized = {}
for name, entry in weights.items():
    shape = entry[1]
    if len(shape) != 2 or "layers" not in name:
        quantized[name] = entry
        continue
    n, k = shape
    base = name.removesuffix(".weight")
    word = lambda count, value=None: b"".join(struct.pack("<i", random.randint(-2**31, 2**31 - 1) if value is None else value) for _ in range(count))
    quantized[base + ".qweight"] = ("I32", [k // 8, n], word(k // 8 * n))
    quantized[base + ".qzeros"] = ("I32", [k // 32, n // 8], word(k // 32 * n // 8, 0x77777777))
    quantized[base + ".scales"] = ("F16", [k // 32, n], struct.pack("<e", 0.01) * (k // 32 * n))
    quantized[base + ".g_idx"] = ("I32", [k], b"".join(struct.pack("<i", i // 32) for i in range(k)))
open(f"{model}/model.safetensors", "wb").write(safetensors(quantized, {"format": "pt"}))
open(f"{model}/quantize_config.json", "w").write(json.dumps(quantization))
subprocess.run([convert, model, "-o", f"{folder}/packed/int4.zhinao", "--quiet"], check=True)

alphabet = [chr(c) for c in list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))] + [chr(256 + i) for i in range(68)]
tokenizer = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [{"id": 258, "content": "<|im_end|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": None, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
              "vocab": {**{c: i for i, c in enumerate(alphabet)}, "he": 256, "ll": 257}, "merges": ["h e", "l l"]},
}
put("tokenizer", "tiktoken", vocabulary)


def field(number, content):
    return bytes([number << 3 | 2, len(content)]) + content


def piece(text, score, kind):
    return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([0x18, kind]))


pieces = [piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3)] + [piece(f"<0x{b:02X}>", 0, 6) for b in range(256)]
pieces += [piece(text, -i, 1) for i, text in enumerate(["he", "ll", "\u2581he", "h", "e", "l", "o", "\u2581"])]
training = bytes([0x18, 2, 0x98, 2, 1])  # BPE, byte fallback
put("tokenizer", "sentencepiece", b"".join(pieces) + field(2, training) + field(3, bytes([0x20, 0])))
put("tokenizer", "json", json.dumps(tokenizer, ensure_ascii=False))
tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, tokenizer["pre_tokenizer"]]}
tokenizer["model"]["merges"] = [["h", "e"], ["l", "l"]]
put("tokenizer", "sequence", json.dumps(tokenizer, ensure_ascii=False))

# A byte with settings, the vocabulary, and a text after a byte that UTF-8 does not have.
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##s", "cat", "##nip", ".", "É", "中", "가", "a", "##a", "##aa", "1"]
special = lambda name: {"SpecialToken": {"id": name, "type_id": 0}}
sequence = lambda name: {"Sequence": {"id": name, "type_id": int(name == "B")}}
wordpiece = {
    "added_tokens": [{"id": i, "content": w, "special": True, "normalized": False} for i, w in enumerate(words[:5])] + [{"id": 17, "content": "Ünï", "normalized": True}],
    "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "post_processor": {"type": "TemplateProcessing", "single": [special("[CLS]"), sequence("A"), special("[SEP]")], "pair": [special("[CLS]"), sequence("A"), special("[SEP]"), sequence("B"), special("[SEP]")],
                       "special_tokens": {w: {"id": w, "ids": [i], "tokens": [w]} for i, w in enumerate(words[:5])}},
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {w: i for i, w in enumerate(words)}},
}
for number, text in enumerate(["The cats' catnip.", "ÜNÏ中가 [SEP]\u302e\u1b44\u0301x", "a" * 99 + "b " + "a" * 120]):
    for settings in (0x03, 0x2F, 0x37):
        put("wordpiece", f"vocabulary-{settings}-{number}", bytes([settings]) + "\n".join(words).encode() + b"\xfe" + text.encode())
        put("wordpiece", f"json-{settings}-{number}", bytes([settings]) + json.dumps(wordpiece, ensure_ascii=False).encode() + b"\xfe" + text.encode())
# Settings, a line with two percent signs, weights.
lora = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": True, "target_modules": ["qkv_proj", "q_proj", "up_proj", "lm_head"]}
pair = lambda module, out, width: {f"base_model.model.{module}.lora_A.weight": floats(2, width), f"base_model.model.{module}.lora_B.weight": floats(out, 2)}
layer = "model.layers.0."
for name, settings, entries in [
    ("fused", lora, pair(layer + "self_attn.qkv_proj", 64, 32) | pair(layer + "mlp.up_proj", 64, 32) | pair("lm_head", 300, 32)),
    ("split", {**lora, "rank_pattern": {"up_proj": 2}, "layers_to_transform": [0]}, pair(layer + "self_attn.q_proj", 32, 32) | pair(layer + "mlp.up_proj", 64, 32)),
    ("whole", {**lora, "modules_to_save": ["norm", "lm_head"]}, pair(layer + "self_attn.q_proj", 32, 32) | {"base_model.model.model.norm.weight": floats(32), "base_model.model.lm_head.weight": floats(300, 32)}),
    ("rows", {**lora, "trainable_token_indices": [5, 7]}, {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": floats(2, 32)}),
    ("embedding", {**lora, "target_modules": ["embed_tokens"]}, {"base_model.model.model.embed_tokens.lora_embedding_A": floats(2, 300), "base_model.model.model.embed_tokens.lora_embedding_B": floats(32, 2)}),
]:
    put("adapter", name, json.dumps(settings).encode() + b"\n%%\n" + safetensors(entries))
put("config", "zhinao", json.dumps(config))
put("config", "llama", json.dumps(llama))
put("config", "quantize", json.dumps(quantization))
put("config", "both", json.dumps({**llama, "quantization_config": {**quantization, "quant_method": "gptq"}}))
lines = '{"text": "hello world, hello"}\n{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "\\u4f60\\u597d"}]}\n{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}\n{"input_ids": [1, 2, 3, 4, 5, 6, 7, 8]}\n'
put("calibration", "jsonl", b"\0" + lines.encode())
put("calibration", "json", b"\1" + ("[" + ",".join(lines.strip().split("\n")) + "]").encode())
put("calibration", "text", b"\2" + "running text 你好 ".encode() * 5)
put("calibration", "gz", b"\3" + gzip.compress(lines.encode(), mtime=0))
turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "one", "weight": 0}, {"role": "user", "content": "more"}, {"role": "assistant", "content": "\u4e8c"}]
call = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]}
tuning = [
    {"messages": turns}, {"conversations": [{"from": "human", "value": "a"}, {"from": "observation", "value": "c"}, {"from": "gpt", "value": "b"}]},
    {"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]], "system": "f"}, {"query": "a", "response": "b"},
    {"prompt": "a", "completion": "b"}, {"prompt": turns[:2], "completion": turns[4:]}, {"text": "running text " * 9},
    {"input_ids": [5, 6, 7], "labels": [-100, 6, None]}, {"messages": [turns[1], call, {"role": "tool", "content": "x"}, turns[2]], "tools": [{"name": "f"}]},
]
lines = "\n".join(json.dumps(record) for record in tuning).encode()
for choice in range(0, 256, 4):
    put("tuning-data", f"jsonl{choice}", bytes([choice]) + lines)
put("tuning-data", "json", b"\x09" + json.dumps(tuning).encode())
put("tuning-data", "text", b"\x02" + "running text \u4f60\u597d ".encode() * 5)
put("tuning-data", "gz", b"\x03" + gzip.compress(lines, mtime=0))


def gguf(values, tensors):
    """values: (key, type, bytes); tensors: (name, dimensions fastest first, type, bytes)."""
    text = lambda t: struct.pack("<Q", len(t.encode())) + t.encode()
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    for key, kind, content in values:
        out += text(key) + struct.pack("<I", kind) + content
    data = b""
    for name, dims, kind, content in tensors:
        out += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(data))
        data += content + b"\0" * (-len(content) % 32)
    return out + b"\0" * (-len(out) % 32) + data


def gguf_model(architecture, matrix_type, matrix_block):
    number = lambda key, n: (f"{architecture}.{key}", 4, struct.pack("<I", n))
    text = lambda t: struct.pack("<Q", len(t.encode())) + t.encode()
    string = lambda key, t: (key, 8, text(t))
    strings = lambda key, all: (key, 9, struct.pack("<IQ", 8, len(all)) + b"".join(map(text, all)))
    letters = [chr(c) for c in range(97, 123)] + ["ab", "Ġ", "<|im_start|>", "<|im_end|>", "  "]
    kinds = [1] * 28 + [3, 3, 4]
    values = [string("general.architecture", architecture), number("block_count", 1), number("context_length", 16),
              number("embedding_length", 32), number("feed_forward_length", 32), number("attention.head_count", 2),
              number("attention.head_count_kv", 1), (f"{architecture}.rope.freq_base", 6, struct.pack("<f", 1e4)),
              string("tokenizer.ggml.model", "gpt2"), string("tokenizer.ggml.pre", "qwen2" if architecture == "qwen2" else "smollm"),
              strings("tokenizer.ggml.tokens", letters), ("tokenizer.ggml.token_type", 9, struct.pack(f"<IQ{len(kinds)}i", 5, len(kinds), *kinds)),
              strings("tokenizer.ggml.merges", ["a b"]), ("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 29)),
              string("tokenizer.chat_template", "<|im_start|>system\\nhi<|im_end|>")]
    matrix = lambda name, n: (f"{name}.weight", [32, n], matrix_type, matrix_block * n)
    vector = lambda name, n=32: (name, [n], 0, struct.pack("<f", 0.5) * n)
    tensors = [matrix("token_embd", len(letters)), vector("output_norm.weight"), vector("blk.0.attn_norm.weight"),
               vector("blk.0.ffn_norm.weight"), matrix("blk.0.attn_q", 32), matrix("blk.0.attn_k", 16), matrix("blk.0.attn_v", 16),
               matrix("blk.0.attn_output", 32), matrix("blk.0.ffn_gate", 32), matrix("blk.0.ffn_up", 32), matrix("blk.0.ffn_down", 32)]
    if architecture == "qwen2":
        tensors += [vector("blk.0.attn_q.bias"), vector("blk.0.attn_k.bias", 16), vector("blk.0.attn_v.bias", 16)]
    return gguf(values, tensors)


scale = struct.pack("<e", 0.01)
for name, kind, block in [("q4_0", 2, scale + b"\x37" * 16), ("q4_1", 3, scale * 2 + b"\x37" * 16), ("q5_0", 6, scale + b"\x37" * 20),
                          ("q5_1", 7, scale * 2 + b"\x37" * 20), ("q8_0", 8, scale + b"\x37" * 32), ("f16", 1, scale * 32),
                          ("bf16", 30, b"\0\x3c" * 32), ("f32", 0, struct.pack("<f", 0.01) * 32)]:
    put("gguf", f"llama-{name}", gguf_model("llama", kind, block))
    put("gguf", f"qwen2-{name}", gguf_model("qwen2", kind, block))
put("gguf", "k-quants", gguf([("general.alignment", 4, struct.pack("<I", 32)), ("n", 9, struct.pack("<IQIQB", 9, 1, 0, 1, 7))], [
    ("a", [256], 12, b"\1" * 144), ("b", [256], 13, b"\1" * 176), ("c", [256], 14, b"\1" * 210)]))

# Templates of the project's own tests, and some that ask for more than they may have.
with open(os.path.join(os.path.dirname(__file__), "../../Fixtures/templates/sources.jsonl"), encoding="utf-8") as sources:
    for number, line in enumerate(sources):
        put("template", f"own-{number}", json.loads(line))
for name, hostile in {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}",
    "growing": "{% set ns = namespace(s='xx') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "recursion": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "nesting": "{{ " + "(" * 9999 + "1" + ")" * 9999 + " }}", "lists": "{{ " + "[" * 9999 + "]" * 9999 + " }}",
    "blocks": "{% if 1 %}" * 9999, "filters": "{{ 'a' " + "| upper " * 9999 + "}}", "chain": "{{ " + "1 + " * 99999 + "1 }}",
    "numbers": "{{ 9 ** 9 ** 9 }}", "widths": "{{ '%999999999d' % 1 }}{{ 'a'.center(999999999) }}{{ '{:>999999999}'.format(1) }}",
    "repeats": "{{ 'abc' * 999999999 }}{{ [1] * 999999999 }}", "replace": "{{ ('a' * 99999) | replace('', 'b' * 99999) }}",
    "recursive loop": "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}",
    "self": "{% set ns = namespace(a=[]) %}{% set ns.a = [ns] %}{{ ns.a }}{{ ns.a | tojson }}",
}.items():
    put("template", name, hostile)
    put("template", f"{name}, all steps", "!" + hostile)

put("task", "ceval", 'Cid,question,A,B,C,D,answer\n0,"a, ""b""\n c",1,2,3,4,B\r\n')
put("task", "cmmlu", 'M,Question,A,B,C,D,Answer\n0,q,1,2,3,4,A\n')
put("task", "mmlu", 'mq,1,2,3,4,A\n')
put("task", "own", 'q{"question": "q", "choices": ["a", "b"], "answer": "B", "subject": "s", "id": 1}\n')
put("task", "hellaswag", 'q{"activity_label": "a", "ctx_a": "b [title] c", "ctx_b": "d", "endings": ["e", "f [g]"], "label": "1"}\n')
put("task", "arc", 'q{"question": {"stem": "q", "choices": [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]}, "answerKey": "2"}\n')
put("task", "generation", 'g{"question": "q", "answers": ["a"], "context": "c", "input": "i", "all_classes": ["a"], "length": 5, "max_tokens": 3}\n')
put("task", "reranking", 'r{"query": ["q"], "positive": ["p"], "negative": []}\n')
put("task", "answer", 'x#### 1,234 the cat. sat\n段落3 Paragraph 3 #### 1234')
put("corpus", "two", '{"_id": "a", "title": "T", "text": "one"}\n\n{"_id": 2, "text": "two", "metadata": {"x": [1]}}\r\n')
put("corpus", "reranker", '{"type": "head", "position": -5, "final_norm": true, "max_len": 96}')
passages = b'{"_id": "a", "title": "", "text": "one"}\n{"_id": "b", "title": "", "text": "two"}\n'
offsets = struct.pack("<3Q", 0, passages.index(b"\n") + 1, len(passages))
for kind, vectors in [
    ("fp32", {"embeddings": floats(2, 4)}), ("fp16", {"embeddings": ("F16", [2, 4], b"\0\x3c" * 8)}),
    ("int8", {"scales": floats(2), "embeddings": ("I8", [2, 4], bytes(range(8)))}),
]:
    manifest = {
        "format": "zhinao-vector-index", "format_version": 1, "generator": "g", "passages": 2, "empty_passages": 0, "truncated_passages": 0,
        "settings": {"dimensions": 4, "vector_type": kind, "normalize": True, "max_length": 8, "passage_prompt": "", "query_prompt": "", "plain_text": False, "arithmetic": "exact"},
        "model": {"path": "m", "fingerprint": "f"}, "corpus": {"name": "c", "bytes": 1, "sha256": ""}, "files": [],
    }
    put("index", kind, b"\n%%\n".join([json.dumps(manifest).encode(), passages, offsets, safetensors(vectors)]))

# What sentence-transformers folders say, old and new spellings.
modules = json.dumps([
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}])
for number, pooling in enumerate([
        {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "include_prompt": True},
        {"embedding_dimension": 32, "pooling_mode": ["mean"]}]):
    put("embedding", f"{number}", "\x1e".join([
        modules, json.dumps(pooling), json.dumps({"prompts": {"query": "q: "}, "default_prompt_name": "query"}),
        json.dumps({"max_seq_length": 48, "do_lower_case": False})]).encode())


def padded(content, size=4096):
    return content + b"\0" * (-len(content) % size)


def context(encoding, planes, layers=1, tokens=32):
    """A saved context (Formats/saved-context.md) of the fuzzer's model of one layer; planes: (name, count, unit_bytes, unit_tokens),
    the last 16 unless given."""
    planes = [(*plane, 16)[:4] for plane in planes]
    data = b"".join(
        padded(os.urandom(tokens // unit * size if unit else size))
        for _ in range(layers) for _, count, size, unit in planes for _ in range(count))
    ids = struct.pack(f"<{tokens}I", *range(tokens))
    table = b"".join(struct.pack("<I", zlib.crc32(data[i:i + (1 << 20)])) for i in range(0, len(data), 1 << 20))
    header = json.dumps({
        "format": "zhinao-context", "generator": "g", "model": {"name": "m", "fingerprint": "f"},
        "adapters": [{"digest": "d", "factor": 1}], "arithmetic": "exact", "arithmetic_revision": 1,
        "cache": {"encoding": encoding, "layers": layers, "planes": [
            {"name": n, "count": c, "unit_tokens": u, "unit_bytes": b} for n, c, b, u in planes]},
        "tokens": tokens, "tokens_crc32": f"{zlib.crc32(ids):08x}", "block_bytes": 1 << 20,
        "checksums_crc32": f"{zlib.crc32(table):08x}"}, separators=(",", ":")).encode()
    header += b" " * (-(64 + len(header) + 1) % 4096) + b"\n"
    body = header + padded(ids) + padded(table) + data
    preamble = b"\x89ZHC\r\n\x1a\n" + struct.pack("<HHIQI", 1, 0, len(header), 64 + len(body), zlib.crc32(header))
    return (preamble + struct.pack("<I", zlib.crc32(preamble))).ljust(64, b"\0") + body


for encoding, size in [("f32", 4), ("f16", 2), ("int8", 1)]:
    planes = [("keys", 1, 256 * size), ("values", 1, 256 * size)]
    if size == 1:
        planes += [("key_scales", 1, 64), ("value_scales", 1, 64)]
    put("context", encoding, context(encoding, planes))
put("context", "int4", context(
    "int4", [("first_keys", 1, 2048, 0), ("first_values", 1, 2048, 0), ("codes", 1, 1344, 64)], tokens=128))
put("context", "layers", context("f16", [("keys", 2, 512), ("values", 3, 512)], layers=2, tokens=16))
