"""Checks an AutoGPTQ folder of a Zhinao model against an independent implementation.

usage: split_to_qwen2.py GPTQ_DIR QWEN2_DIR          rewrite with separate q, k, v, as a Qwen2 model
       split_to_qwen2.py --logits QWEN2_DIR OURS.safetensors [transformers|manual]

No engine knows model_type zhinao, but the decoder is Qwen2's with the rows of q, k and v interleaved by key/value head.
Quantization is per output row, so rows can be moved without touching a code. OURS is what `zhinao-verify logits` wrote.
`transformers` loads the folder through GPTQModel; `manual` dequantizes with numpy into a float Qwen2 model.
"""
import json, os, shutil, sys
import numpy as np
import torch
from safetensors.torch import load_file, save_file


def rows_of(cfg):
    """Output rows of q, k, v in the fused matrix."""
    nh, nkv = cfg["num_attention_heads"], cfg.get("num_key_value_heads", cfg["num_attention_heads"])
    hd = cfg.get("head_dim") or cfg["hidden_size"] // nh
    g = nh // nkv
    view = torch.arange((nh + 2 * nkv) * hd).view(nkv, g + 2, hd)
    return {"q_proj": view[:, :g].reshape(-1), "k_proj": view[:, g].reshape(-1), "v_proj": view[:, g + 1].reshape(-1)}


def load(folder):
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            tensors.update(load_file(os.path.join(folder, name)))
    return tensors


def split(source, target):
    cfg = json.load(open(os.path.join(source, "config.json")))
    q = json.load(open(os.path.join(source, "quantize_config.json")))
    bits, rows, out = q["bits"], rows_of(cfg), {}
    f = 32 // bits
    for name, t in load(source).items():
        if ".qkv_proj." not in name:
            out[name] = t
            continue
        for part, index in rows.items():
            new = name.replace("qkv_proj", part)
            if name.endswith("qzeros"):  # packed along outputs: heads are whole words
                words = index.view(-1, f)[:, 0] // f
                out[new] = t[:, words].contiguous()
            elif name.endswith("g_idx"):
                out[new] = t.clone()
            elif name.endswith("bias"):
                out[new] = t[index].contiguous()
            else:
                out[new] = t[:, index].contiguous()
    os.makedirs(target, exist_ok=True)
    cfg.pop("auto_map", None)
    cfg.update(model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    json.dump(cfg, open(os.path.join(target, "config.json"), "w"), indent=1)
    shutil.copy(os.path.join(source, "quantize_config.json"), target)
    save_file(out, os.path.join(target, "model.safetensors"), metadata={"format": "pt"})


def dequantized(folder):
    cfg = json.load(open(os.path.join(folder, "config.json")))
    q = json.load(open(os.path.join(folder, "quantize_config.json")))
    bits, shift = q["bits"], torch.arange(0, 32, q["bits"])
    tensors, out = load(folder), {}
    for name, t in tensors.items():
        if name.endswith(".qweight"):
            p = name[: -len(".qweight")]
            codes = ((t.unsqueeze(1) >> shift.view(1, -1, 1)) & (2**bits - 1)).flatten(0, 1)
            zeros = ((tensors[p + ".qzeros"].unsqueeze(2) >> shift) & (2**bits - 1)).flatten(1)
            if q["checkpoint_format"] == "gptq":
                zeros = zeros + 1
            g = tensors[p + ".g_idx"].long()
            out[p + ".weight"] = (tensors[p + ".scales"].float()[g] * (codes - zeros[g])).t().contiguous()
        elif not name.endswith((".qzeros", ".scales", ".g_idx")):
            out[name] = t.float()
    cfg.pop("quantization_config", None)
    return cfg, out


def compare(folder, ours, engine):
    ours = load_file(ours)
    if engine == "transformers":
        from transformers import AutoModelForCausalLM
        model = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", dtype=torch.float32)
    else:
        from transformers import Qwen2Config, Qwen2ForCausalLM
        cfg, tensors = dequantized(folder)
        model = Qwen2ForCausalLM(Qwen2Config(**{k: v for k, v in cfg.items() if k not in ("torch_dtype", "dtype", "auto_map")}))
        model.load_state_dict(tensors, strict=True)
        model = model.float()
    model.eval()
    with torch.no_grad():
        theirs = model(ours["input_ids"].long()[None]).logits[0].float()
    difference = (theirs - ours["logits"]).abs().max().item()
    print(json.dumps({"engine": engine, "max_abs_difference": difference, "max_abs_logit": theirs.abs().max().item()}))
    return difference


if __name__ == "__main__":
    if sys.argv[1] == "--logits":
        limit = 2e-4 if sys.argv[4:] == ["manual"] else 0.1
        sys.exit(0 if compare(sys.argv[2], sys.argv[3], (sys.argv[4:] or ["transformers"])[0]) <= limit else 1)
    split(sys.argv[1], sys.argv[2])
