"""Makes Tests/Fixtures/gguf: gguf_fixtures.py FOLDER. Needs numpy, gguf (0.19 made the files in the repository) and
safetensors. Everything is random with a fixed seed; the expected floats are those of gguf's own numpy code."""

import os, sys
import gguf
import numpy as np
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
random = np.random.default_rng(360)
Q = gguf.GGMLQuantizationType
TYPES = [Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K]


def halves(count):
    """Half-precision scales of every kind that is finite: ordinary, negative, subnormal, zero."""
    bits = random.integers(0x2000, 0x3400, count).astype(np.uint16)
    bits[::7] |= 0x8000
    bits[::11] &= 0x83FF
    bits[::13] = 0
    return bits.view(np.uint8).reshape(count, 2)


def random_blocks(kind, rows, columns):
    """Bytes of blocks with arbitrary codes and the scales above."""
    size, count = gguf.GGML_QUANT_SIZES[kind]
    n = rows * columns // size
    if kind == Q.F32:
        return random.standard_normal((rows, columns)).astype(np.float32)
    if kind == Q.F16:
        return random.standard_normal((rows, columns)).astype(np.float16)
    b = random.integers(0, 256, (n, count)).astype(np.uint8)
    scales = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2],
              Q.Q6_K: [208]}
    for place in scales.get(kind, []):
        b[:, place:place + 2] = halves(n)
    if kind == Q.BF16:
        b = (random.standard_normal((n, 1)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    return b.reshape(rows, -1)


def blocks():
    writer = gguf.GGUFWriter(f"{folder}/blocks.gguf", "test")
    expected = {}
    for kind in TYPES:
        data = random_blocks(kind, 3, 512)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        expected[kind.name] = np.ascontiguousarray(dequantize(data, kind).astype(np.float32))
    # Q8_0 the other way: floats and the bytes they become.
    floats = random.standard_normal((4, 64)).astype(np.float32) * np.array([[1], [1e-6], [300], [0]], np.float32)
    floats[0, :32] = np.arange(32) / 8 - 2  # halves to be rounded away from zero
    expected["q8.input"] = floats
    expected["q8.output"] = quantize(floats, Q.Q8_0)
    for kind in ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]:
        value = {"f": 1.5, "i": -3, "u": 200}[kind[0]]
        getattr(writer, f"add_{kind}")(f"test.{kind}", value)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "智脑")
    writer.add_array("test.strings", ["a", "", "é"])
    writer.add_array("test.numbers", [1, -2, 3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, f"{folder}/blocks.safetensors")


def permute(w, heads):
    """What llama.cpp's converter does to the rows of q and k."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def llama():
    """A llama model of random numbers with a byte-level vocabulary, and its tensors under Hugging Face's names."""
    hidden, inner, heads, kv, dim, vocabulary = 64, 96, 4, 2, 16, 280
    writer = gguf.GGUFWriter(f"{folder}/llama.gguf", "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(dim)
    characters = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    spelled = {b: chr(b) for b in characters}
    for byte in range(256):
        spelled.setdefault(byte, chr(256 + len(spelled) - len(characters)))
    tokens = [spelled[b] for b in range(256)] + ["he", "ll", "hell", "Ġhell", "Ġhe"]
    types = [1] * len(tokens)
    for text, kind in [("<|im_start|>", 3), ("<|im_end|>", 3), ("   ", 4)]:
        tokens.append(text)
        types.append(kind)
    while len(tokens) < vocabulary:
        tokens.append(f"[PAD{len(tokens)}]")
        types.append(5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["h e", "l l", "he ll", "Ġ hell", "Ġ he"])
    writer.add_bos_token_id(261)
    writer.add_eos_token_id(262)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ '<|im_start|>system\\nBe brief.<|im_end|>' }}")
    expected = {}

    def tensor(name, other, shape, kind, heads_of_rows=None):
        w = (random.standard_normal(shape) / 8).astype(np.float32)
        stored = permute(w, heads_of_rows) if heads_of_rows else w
        data = quantize(stored, kind)
        writer.add_tensor(name, data, raw_dtype=kind)
        floats = dequantize(data, kind).astype(np.float32).reshape(shape)
        if heads_of_rows:
            # Undone row by row, not by the inverse of the function above.
            half = dim // 2
            floats = floats[[h * dim + i % half * 2 + i // half for h in range(heads_of_rows) for i in range(dim)]]
        expected[other] = np.ascontiguousarray(floats)

    tensor("token_embd.weight", "model.embed_tokens.weight", (vocabulary, hidden), Q.Q8_0)
    tensor("output_norm.weight", "model.norm.weight", (hidden,), Q.F32)
    for name, other, shape, kind, n in [
        ("attn_norm", "input_layernorm", (hidden,), Q.F32, None),
        ("attn_q", "self_attn.q_proj", (heads * dim, hidden), Q.Q5_1, heads),
        ("attn_k", "self_attn.k_proj", (kv * dim, hidden), Q.F16, kv),
        ("attn_v", "self_attn.v_proj", (kv * dim, hidden), Q.Q4_0, None),
        ("attn_output", "self_attn.o_proj", (hidden, heads * dim), Q.Q5_0, None),
        ("ffn_norm", "post_attention_layernorm", (hidden,), Q.F32, None),
        ("ffn_gate", "mlp.gate_proj", (inner, hidden), Q.Q4_1, None),
        ("ffn_up", "mlp.up_proj", (inner, hidden), Q.BF16, None),
        ("ffn_down", "mlp.down_proj", (hidden, inner), Q.Q8_0, None),
    ]:
        tensor(f"blk.0.{name}.weight", f"model.layers.0.{other}.weight", shape, kind, n)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, f"{folder}/llama.safetensors")


blocks()
llama()
