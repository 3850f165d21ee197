#!/usr/bin/env python3
"""Compares adapters beside a model, and merged into it, with PEFT on torch.

Makes PEFT adapters with random weights (ranks, alphas and rsLoRA of their own, norms that are trained as a whole) and checks:

- logits with the adapter beside the bf16 folder, the packed file and the GGUF file, against PEFT;
- the same beside a model in 8 and 4 bits, against PEFT on the floats that the codes stand for;
- the sum of two adapters, against PEFT's `add_weighted_adapter`;
- every weight after `--merge-lora`, against `merge_and_unload` in bf16.

An adapter that zhinao-tune trains, with all projections and norms, is read by PEFT and compared in the same way; --adapter gives one that is finished.

PEFT runs in double precision. Logits must be within 1e-4 of it, or within five times the error of torch's own fp32 where that is more (as with
SmolLM2, some of whose activations are large, and with sums that are one chain each); weights within one step of bf16.
Needs torch, transformers and peft from PyPI.

    Tests/External/Tuning/peft_parity.py [--model FOLDER] [--adapter FOLDER] [--bin .build/release]
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import peft
import torch
import transformers
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tensors(folder):
    found = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        found.update(load_file(path))
    return found


class Check:
    def __init__(self, tools, work):
        self.tools, self.work, self.failed = pathlib.Path(tools), pathlib.Path(work), 0

    def run(self, tool, *arguments):
        command = [str(self.tools / tool), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{done.stderr}")
        return done.stdout

    def logits(self, model, ids, *arguments):
        out = self.work / "logits.safetensors"
        self.run("zhinao-verify", "logits", model, "--ids", ",".join(map(str, ids)), "-o", out, *arguments)
        return load_file(out)["logits"]

    def row(self, name, value, bound):
        ok = value <= bound
        self.failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {name}: {value:.3g} (at most {bound:.3g})", flush=True)


def adapter(base, folder, seed, scale=0.02, **options):
    """A PEFT adapter with random weights, saved; returns the model with it."""
    torch.manual_seed(seed)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = (torch.randn(parameter.shape) * scale).to(parameter.dtype)
        elif "modules_to_save" in name:
            parameter.data = (parameter.data * (1 + 0.1 * torch.randn(parameter.shape))).float().to(parameter.dtype)
    # Files hold fp32, as after training; the values are exact in it.
    model.float().save_pretrained(folder)
    return model.double()


def load(folder, dtype=torch.float64):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double()


def distance(a, b):
    return (a.double() - b.double()).abs().max().item()


def steps(a, b, before):
    """How far a and b are apart in steps of bf16, at the size of the larger of the weight before and after."""
    size = torch.maximum(torch.maximum(a.float().abs(), b.float().abs()), before.float().abs())
    return ((a.float() - b.float()).abs() / torch.exp2(torch.floor(torch.log2(size.clamp_min(1e-38))) - 7)).max().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder that transformers loads (default: the test's tiny model, split)")
    parser.add_argument("--adapter", help="an adapter of it that zhinao-tune wrote (default: a few steps are trained)")
    parser.add_argument("--bin", default=ROOT / ".build/release")
    options = parser.parse_args()
    torch.set_num_threads(2)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as work:
        check = Check(options.bin, work)
        work = pathlib.Path(work)
        model = options.model
        if model is None:
            model = work / "stock"
            check.run(
                "zhinao-convert", ROOT / "Tests/Fixtures/tiny-zhinao-gqa", "-o", model, "--to", "stock")
        generator = torch.Generator().manual_seed(360)
        rows = load(model).config.vocab_size
        ids = torch.randint(0, min(rows, 3000), (40,), generator=generator).tolist()

        def bound(exact, folder, adapter=None):
            """What the logits may differ by."""
            single = load(folder, torch.float32)
            if adapter:
                single = peft.PeftModel.from_pretrained(single, adapter)
            return max(1e-4, 5 * distance(of(single, ids), exact))

        bare = of(load(model), ids)
        check.row("without an adapter", distance(check.logits(model, ids), bare), bound(bare, model))
        first = work / "first"
        tuned = adapter(
            load(model), first, 1, r=8, lora_alpha=16, use_rslora=True, rank_pattern={"k_proj": 4},
            alpha_pattern={"v_proj": 9}, target_modules=PROJECTIONS,
            modules_to_save=["input_layernorm", "norm"])
        expected = of(tuned, ids)
        print(f"the adapter changes logits by {distance(expected, bare):.3g}")
        limit = bound(expected, model, first)
        check.row("beside the folder", distance(check.logits(model, ids, "--lora", first), expected), limit)
        packed = work / "model.zhinao"
        check.run("zhinao-convert", model, "-o", packed)
        check.row("beside the packed file", distance(check.logits(packed, ids, "--lora", first), expected), limit)
        gguf = work / "model.gguf"
        check.run("zhinao-convert", model, "-o", gguf)
        check.row("beside the GGUF file", distance(check.logits(gguf, ids, "--lora", first), expected), limit)

        # A second one, of some modules, and PEFT's sum of both.
        second = work / "second"
        adapter(load(model), second, 2, r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
        third = work / "third"
        adapter(load(model), third, 3, r=2, lora_alpha=8, target_modules=["q_proj", "down_proj"])
        both = peft.PeftModel.from_pretrained(load(model), second, adapter_name="second")
        both.load_adapter(third, adapter_name="third")
        both.add_weighted_adapter(["second", "third"], [1.0, 0.5], "sum", combination_type="cat")
        both.set_adapter("sum")
        found = check.logits(model, ids, "--lora", second, "--lora", f"{third}:0.5")
        check.row("the sum of two", distance(found, of(both, ids)), limit)

        for bits in (8, 4):
            integers = work / f"int{bits}.zhinao"
            check.run(
                "zhinao-quantize", model, "-o", integers, "--bits", bits, "--method", "rtn", "--group-size", 32)
            floats = work / f"int{bits}-floats"
            check.run("zhinao-convert", integers, "-o", floats, "--dequantize", "--dtype", "float32")
            other = peft.PeftModel.from_pretrained(load(floats), first)
            found = check.logits(integers, ids, "--lora", first)
            expected = of(other, ids)
            check.row(f"beside {bits} bits", distance(found, expected), bound(expected, floats, first))

        # In bf16, as merge_and_unload computes it.
        before = tensors(model)
        merged = work / "merged"
        check.run("zhinao-convert", model, "-o", merged, "--merge-lora", first)
        found = tensors(merged)
        theirs = peft.PeftModel.from_pretrained(load(model, torch.bfloat16), first).merge_and_unload().state_dict()
        check.row("merged weights, in steps of bf16", max(steps(found[key], theirs[key], before[key]) for key in found), 1)
        expected = of(load(merged), ids)
        check.row("logits of the merged model", distance(check.logits(merged, ids), expected), bound(expected, merged))

        trained = options.adapter
        if not trained:
            data, trained = work / "data.jsonl", work / "trained"
            pairs = [("Hello", "Good day to you."), ("What is it?", "It is a test."), ("Why?", "Because it must be right.")]
            data.write_text("".join(
                json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}) + "\n"
                for q, a in pairs * 4))
            check.run(
                "zhinao-tune", model, "--data", data, "--output", trained, "--steps", 6, "--batch-size", 2, "--learning-rate", 5e-3,
                "--rslora", "--save-module", "norm", "--quiet")
        expected = of(peft.PeftModel.from_pretrained(load(model), trained), ids)
        print(f"the adapter of zhinao-tune changes logits by {distance(expected, bare):.3g}")
        found = check.logits(model, ids, "--lora", trained)
        check.row("an adapter of zhinao-tune", distance(found, expected), bound(expected, model, trained))
        check.row("its share of the change that is lost", distance(found, expected) / distance(expected, bare), 1e-2)
    sys.exit(check.failed > 0)


if __name__ == "__main__":
    main()
