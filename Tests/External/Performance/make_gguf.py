"""Makes a Qwen2 model of random Q4_0 weights, with the head that llama-quantize would give it (Q6_K):
make_gguf.py LAYERS HIDDEN INNER HEADS VOCABULARY OUTPUT."""
import sys
import gguf, numpy as np

layers, hidden, inner, heads, vocabulary = map(int, sys.argv[1:6])
writer = gguf.GGUFWriter(sys.argv[6], "qwen2")
writer.add_context_length(4096), writer.add_embedding_length(hidden), writer.add_block_count(layers)
writer.add_feed_forward_length(inner), writer.add_head_count(heads), writer.add_head_count_kv(heads)
writer.add_layer_norm_rms_eps(1e-6), writer.add_rope_freq_base(10000.0), writer.add_file_type(2)
writer.add_tokenizer_model("none"), writer.add_vocab_size(vocabulary)
random = np.random.default_rng(1)
# Any codes will do; scales are of the size trained weights have.
scale = np.frombuffer(np.float16(0.002).tobytes(), np.uint8)


def matrix(name, rows, columns, type=gguf.GGMLQuantizationType.Q4_0):
    block, bytes = gguf.GGML_QUANT_SIZES[type]
    data = random.integers(0, 256, (rows, columns // block * bytes), dtype=np.uint8)
    view = data.reshape(rows, columns // block, bytes)
    view[:, :, :2] = scale
    if type == gguf.GGMLQuantizationType.Q6_K:
        view[:, :, -2:] = scale
    writer.add_tensor(name, data, raw_dtype=type)


def vector(name, count, value):
    writer.add_tensor(name, np.full(count, value, np.float32))


matrix("token_embd.weight", vocabulary, hidden)
for i in range(layers):
    for part in "qkv":
        matrix(f"blk.{i}.attn_{part}.weight", hidden, hidden)
        vector(f"blk.{i}.attn_{part}.bias", hidden, 0)
    matrix(f"blk.{i}.attn_output.weight", hidden, hidden)
    matrix(f"blk.{i}.ffn_gate.weight", inner, hidden)
    matrix(f"blk.{i}.ffn_up.weight", inner, hidden)
    matrix(f"blk.{i}.ffn_down.weight", hidden, inner)
    vector(f"blk.{i}.attn_norm.weight", hidden, 1), vector(f"blk.{i}.ffn_norm.weight", hidden, 1)
vector("output_norm.weight", hidden, 1)
matrix("output.weight", vocabulary, hidden, gguf.GGMLQuantizationType.Q6_K)
writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()
