"""Functions that the PyTorch engines share: perplexity, greedy answers, tensors of a folder."""
import glob, json
import torch
from safetensors.torch import load_file


def tensors(folder):
    found = {}
    for name in sorted(glob.glob(f"{folder}/*.safetensors")):
        found.update(load_file(name))
    return found


def same_bytes(a, b):
    """Whether two folders hold the same tensors, bit for bit; how many."""
    a, b = tensors(a), tensors(b)
    same = a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape
        and torch.equal(a[k].contiguous().view(torch.uint8), b[k].contiguous().view(torch.uint8)) for k in a)
    return same, len(a)


def perplexity(model, work, ids):
    """Windows on their own, tokens 2 to L scored, losses summed in double precision."""
    ids, total, count = json.load(open(ids)), 0.0, 0
    for start in range(0, len(ids) - work["window"] + 1, work["window"])[: work["windows"]]:
        window = torch.tensor([ids[start:start + work["window"]]])
        with torch.no_grad():
            logits = model(window).logits[0].float()
        loss = torch.nn.functional.cross_entropy(logits[:-1].double(), window[0, 1:], reduction="sum")
        total, count = total + loss.item(), count + window.shape[1] - 1
    return float(torch.tensor(total / count, dtype=torch.float64).exp())


def answers(model, prompts, stops, limit):
    """Greedy continuations, each up to and with its stop token."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False,
                             eos_token_id=stops, pad_token_id=stops[0], repetition_penalty=1.0)
        found.append(out[0, len(prompt):].tolist())
    return found


def largest_difference(model, golden):
    """Between the model's logits and a file of `zhinao-verify logits`; and the largest logit."""
    golden = load_file(golden)
    with torch.no_grad():
        logits = model(golden["input_ids"].long()[None]).logits[0].float()
    return (logits - golden["logits"]).abs().max().item(), logits.abs().max().item()


def stops(folder):
    return json.load(open(f"{folder}/generation_config.json"))["eos_token_id"]
