"""Writes SmolLM2-135M-Instruct as hf/ (Llama) and zhinao/ (fused qkv, tiktoken vocabulary): make_smollm2.py FILE.gguf FOLDER

The result is a real model in the Zhinao layout. q, k and v get biases of zero. tiktoken requires ranks from 0 with the special
tokens after them, so rows of the embedding change places: ordinary tokens in the order of their ids, bytes that have no token of their own
on unused rows, then the eleven special tokens (those that SmolLM2 has on its own rows).
"""
import base64, json, os, sys
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

SPECIALS = ["<pad>", "<unk>", "<mask>", "<eod>", "<eop>", "[space2]", "[space3]", "[space4]", "[space8]",
            "<|im_start|>", "<|im_end|>"]
SAME = {"<eod>": "<|endoftext|>", "<|im_start|>": "<|im_start|>", "<|im_end|>": "<|im_end|>"}


def alphabet():
    """Characters that stand for bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in kept]
    return {chr(b): b for b in kept} | {chr(256 + i): b for i, b in enumerate(others)}


def vocabulary(document, size):
    """Tokens by rank, and the row of the old embedding for every row of the new one."""
    specials = {t["content"]: t["id"] for t in document["added_tokens"] if t["special"]}
    characters = alphabet()
    tokens, rows = [], []
    for text, id in sorted(document["model"]["vocab"].items(), key=lambda entry: entry[1]):
        if text not in specials and all(c in characters for c in text):
            tokens.append(bytes(characters[c] for c in text))
            rows.append(id)
    known = set(tokens)
    for byte in range(256):
        if bytes([byte]) not in known:
            tokens.append(bytes([byte]))
            rows.append(None)
    rows += [specials.get(SAME.get(name)) for name in SPECIALS]
    spare = [i for i in range(size) if i not in set(rows)]
    rows = [row if row is not None else (spare.pop(0) if spare else max(specials.values())) for row in rows]
    return tokens, rows + spare


def interleaved(q, k, v, heads, kv_heads):
    """Rows of q, k, v by key/value head: its queries, its key, its value."""
    size = q.shape[0] // heads
    parts = [t.view(kv_heads, -1, size, *t.shape[1:]) for t in (q, k, v)]
    return torch.cat(parts, 1).reshape(-1, *q.shape[1:]).contiguous()


def main(gguf, folder):
    source, name = os.path.split(os.path.abspath(gguf))
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32).to(torch.bfloat16)
    c = model.config
    if hasattr(c, "quantization_config"):  # it is dequantized by now
        del c.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    model.save_pretrained(f"{folder}/hf")
    tokenizer.save_pretrained(f"{folder}/hf")
    tokens, rows = vocabulary(json.load(open(f"{folder}/hf/tokenizer.json")), c.vocab_size)
    old, new = model.state_dict(), {}
    for key, tensor in old.items():
        if ".q_proj." in key:
            k, v = (old[key.replace("q_proj", p)] for p in ("k_proj", "v_proj"))
            fused = interleaved(tensor, k, v, c.num_attention_heads, c.num_key_value_heads)
            new[key.replace("q_proj", "qkv_proj")] = fused
            new[key.replace("q_proj.weight", "qkv_proj.bias")] = torch.zeros(fused.shape[0], dtype=torch.bfloat16)
        elif ".k_proj." not in key and ".v_proj." not in key:
            new[key] = tensor.contiguous()
    embedding = old["model.embed_tokens.weight"]
    new["model.embed_tokens.weight"] = embedding[rows].contiguous()
    new["lm_head.weight"] = old.get("lm_head.weight", embedding)[rows].contiguous()
    os.makedirs(f"{folder}/zhinao/vocab", exist_ok=True)
    save_file(new, f"{folder}/zhinao/model.safetensors", {"format": "pt"})
    with open(f"{folder}/zhinao/vocab/360.tiktoken", "wb") as file:
        for rank, token in enumerate(tokens):
            file.write(base64.b64encode(token) + b" %d\n" % rank)
    first = len(tokens)
    config = {key: getattr(c, key) for key in (
        "hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers",
        "num_key_value_heads", "rms_norm_eps")}
    config |= {"architectures": ["ZhinaoForCausalLM"], "model_type": "zhinao", "hidden_act": "silu", "bias": False,
               "rope_theta": float(c.rope_parameters["rope_theta"]), "tie_word_embeddings": False,
               "torch_dtype": "bfloat16", "vocab_size": len(rows), "pad_token_id": first, "eos_token_id": first + 3}
    json.dump(config, open(f"{folder}/zhinao/config.json", "w"), indent=1)
    stops = {"eos_token_id": [first + 3, first + 10], "pad_token_id": first, "do_sample": False}
    json.dump(stops, open(f"{folder}/zhinao/generation_config.json", "w"), indent=1)


main(*sys.argv[1:3])
