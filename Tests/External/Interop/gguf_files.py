"""Compares GGUF files, as the gguf package reads them, with the AutoGPTQ folder of the same integers and with each other."""
import json, os
import gguf
import numpy as np
from safetensors import safe_open


def autogptq(folder):
    """Codes [in, out], scales [groups, out] fp16 and zeros [groups, out] of each module of an AutoGPTQ folder."""
    tensors = {}
    for name in os.listdir(folder):
        if name.endswith(".safetensors"):
            with safe_open(f"{folder}/{name}", "np") as f:
                wanted = [k for k in f.keys() if k.endswith((".qweight", ".qzeros", ".scales"))]
                tensors.update({k: f.get_tensor(k) for k in wanted})
    settings = json.load(open(f"{folder}/quantize_config.json"))
    bits, offset = settings["bits"], settings["checkpoint_format"] == "gptq"

    def fields(words):
        """Each row of words as a stream of fields of `bits` bits."""
        stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
        return stream.reshape(len(words), -1, bits).astype(np.int64) @ (1 << np.arange(bits))

    for name in sorted(tensors):
        if name.endswith(".qweight"):
            module = name.removesuffix(".qweight")
            zeros = (fields(tensors[f"{module}.qzeros"]) + offset) & ((1 << bits) - 1)
            yield module, fields(tensors[name].T).T, tensors[f"{module}.scales"], zeros, settings


def blocks(tensor):
    """Scales fp16 bits [out, blocks], integers [out, in] and, for Q4_1, minima of a tensor of a GGUF file."""
    kind, data = tensor.tensor_type.name, tensor.data
    size = {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q8_0": 34}[kind]
    b = data.reshape(data.shape[0], -1, size)
    scale = b[..., 0:2].copy().view(np.uint16)[..., 0]
    minimum = b[..., 2:4].copy().view(np.float16)[..., 0] if kind == "Q4_1" else None
    if kind == "Q8_0":
        q = b[..., 2:].view(np.int8).astype(np.int64)
    else:
        nibbles = b[..., size - 16:]
        q = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.int64)
        if kind == "Q5_0":
            high = b[..., 2:6].copy().view(np.uint32)
            q |= ((high >> np.arange(32, dtype=np.uint32)) & 1).astype(np.int64) << 4
        q -= {"Q4_0": 8, "Q4_1": 0, "Q5_0": 16}[kind]
    return kind, scale, q.reshape(q.shape[0], -1), minimum


def fused_rows(heads, kv, dim, part):
    """Rows of q, k or v in the interleaved qkv_proj."""
    per = heads // kv
    if part == "q":
        return [(h // per * (per + 2) + h % per) * dim + i for h in range(heads) for i in range(dim)]
    return [(h * (per + 2) + per + (part == "v")) * dim + i for h in range(kv) for i in range(dim)]


def compare_codes(folder, path):
    """Every code and scale of the AutoGPTQ folder against the GGUF file, which the gguf package reads: types of the
    tensors, how many differ, and a sentence."""
    c = json.load(open(f"{folder}/config.json"))
    heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
    dim = c.get("head_dim") or c["hidden_size"] // heads
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    names = {"o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
             "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v"}
    codes_seen = scales_seen = wrong = 0
    kinds, worst = set(), 0.0
    for module, codes, scales, zeros, settings in autogptq(folder):
        layer, short = module.split(".")[2], module.split(".")[-1]
        group = settings["group_size"] if settings["group_size"] > 0 else codes.shape[0]
        if short == "qkv_proj":
            parts = [(f"attn_{p}", fused_rows(heads, kv, dim, p)) for p in "qkv"]
        else:
            order = list(range(codes.shape[1]))
            if c["model_type"] == "llama" and short in ("q_proj", "k_proj"):
                n = heads if short == "q_proj" else kv
                order = np.arange(n * dim).reshape(n, 2, dim // 2).swapaxes(1, 2).reshape(-1).tolist()
            parts = [(names[short], order)]
        for name, order in parts:
            kind, scale, q, minimum = blocks(tensors[f"blk.{layer}.{name}.weight"])
            kinds.add(kind)
            of_block = np.arange(q.shape[1] // 32) * 32 // group
            expected_scale = scales[:, order].view(np.uint16).T[:, of_block]
            zero = zeros[:, order].T[:, of_block].repeat(32, axis=1)
            expected = codes[:, order].T - (0 if kind == "Q4_1" else zero)
            wrong += int((expected != q).sum() + (expected_scale != scale).sum())
            codes_seen, scales_seen = codes_seen + q.size, scales_seen + scale.size
            if minimum is not None:
                s = scale.view(np.float16).astype(np.float64)
                exact = -s * zero[:, ::32]
                worst = max(worst, float((np.abs(minimum.astype(np.float64) - exact) / s).max()))
    note = f"{codes_seen} codes and {scales_seen} scales, {wrong or 'none'} differ"
    if worst:
        note += f", minima rounded by up to {worst:.1e} of a scale"
    return "+".join(sorted(kinds)), wrong, note


def same_tensors(a, b):
    """Whether two files hold the same tensors in the same types, bit for bit; how many."""
    x = {t.name: t for t in gguf.GGUFReader(a).tensors}
    y = {t.name: t for t in gguf.GGUFReader(b).tensors}
    same = sum(n in y and x[n].tensor_type == y[n].tensor_type and x[n].data.tobytes() == y[n].data.tobytes() for n in x)
    return same == len(x) == len(y), len(x)
