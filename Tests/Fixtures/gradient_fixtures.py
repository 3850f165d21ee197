"""Gradients of a decoder's projections by torch, for TrainingTests: python3 gradient_fixtures.py

The model is tiny-zhinao-gqa in fp32. golden/gradients.safetensors has the token ids, the words that should follow them, the loss of each
token, and for every projection the gradient of the sum of the losses with respect to its output, [tokens, outputs].
"""
import json
import pathlib

import torch
from safetensors.torch import load_file, save_file

here = pathlib.Path(__file__).parent
model = here / "tiny-zhinao-gqa"
config = json.load(open(model / "config.json"))
weights = {}
for file in sorted(model.glob("*.safetensors")):
    weights.update({name: value.float() for name, value in load_file(file).items()})
hidden, heads, groups = (config[key] for key in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
size, shared = hidden // heads, heads // groups
generator = torch.Generator().manual_seed(360)
count = 16
ids = torch.randint(0, 2900, (count,), generator=generator)
targets = torch.randint(0, 2900, (count,), generator=generator)
taps = {}


def norm(x, name):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + config["rms_norm_eps"]) * weights[name]


def linear(x, name):
    y = torch.nn.functional.linear(x, weights[name + ".weight"], weights.get(name + ".bias"))
    y.retain_grad()
    taps[name] = y
    return y


def rotate(x):
    frequencies = 1.0 / config["rope_theta"] ** (torch.arange(0, size, 2).float() / size)
    angles = torch.arange(count).float()[:, None] * frequencies
    cosines, sines = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
    return x * cosines + torch.cat([-x[..., size // 2:], x[..., :size // 2]], -1) * sines


x = weights["model.embed_tokens.weight"][ids].requires_grad_(True)
for layer in range(config["num_hidden_layers"]):
    prefix = f"model.layers.{layer}."
    qkv = linear(norm(x, prefix + "input_layernorm.weight"), prefix + "self_attn.qkv_proj")
    qkv = qkv.view(count, groups, shared + 2, size)
    q = rotate(qkv[:, :, :shared].reshape(count, heads, size).transpose(0, 1))
    k = rotate(qkv[:, :, shared].transpose(0, 1)).repeat_interleave(shared, 0)
    v = qkv[:, :, shared + 1].transpose(0, 1).repeat_interleave(shared, 0)
    scores = q @ k.transpose(1, 2) / size**0.5
    probabilities = scores.masked_fill(torch.ones(count, count).triu(1).bool(), float("-inf")).softmax(-1)
    x = x + linear((probabilities @ v).transpose(0, 1).reshape(count, hidden), prefix + "self_attn.o_proj")
    y = norm(x, prefix + "post_attention_layernorm.weight")
    activated = torch.nn.functional.silu(linear(y, prefix + "mlp.gate_proj")) * linear(y, prefix + "mlp.up_proj")
    x = x + linear(activated, prefix + "mlp.down_proj")
logits = norm(x, "model.norm.weight") @ weights["lm_head.weight"].T
losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
losses.sum().backward()
result = {name: tap.grad for name, tap in taps.items()}
result.update({"ids": ids.int(), "targets": targets.int(), "losses": losses.detach()})
save_file({name: value.contiguous() for name, value in result.items()}, here / "golden/gradients.safetensors")
print({name: list(value.shape) for name, value in result.items()}, torch.__version__)
