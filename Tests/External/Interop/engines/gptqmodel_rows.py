"""Int4 in both directions: GPTQModel and transformers load our stock GPTQ folder, and this toolchain reads GPTQModel's output."""
import json, os
import rows as table
import workload

ENVIRONMENT = "torch"
PACKAGES = ["torch", "transformers", "tokenizers", "safetensors", "numpy", "accelerate", "optimum"]
BUILT = ["gptqmodel"]
# What GPTQModel is asked for: bits, group size, symmetric, act-order, format.
RECIPES = {"tiny": [(4, 64, True, False, "gptq"), (4, 64, False, False, "gptq"), (4, 64, False, False, "gptq_v2"),
                    (4, 64, True, True, "gptq"), (8, 64, True, False, "gptq"), (2, 32, False, False, "gptq"),
                    (3, 32, True, False, "gptq")],
           "smollm2": [(4, 64, True, False, "gptq"), (4, 64, False, False, "gptq"), (4, 64, True, True, "gptq")]}


def groups(work):
    """The small model at once; the other in some minutes each."""
    found = []
    if "tiny" in work["models"]:
        found.append([["tiny"], *(["tiny", *recipe] for recipe in RECIPES["tiny"])])
    if "smollm2" in work["models"]:
        found += [[["smollm2"]], *([["smollm2", *recipe]] for recipe in RECIPES["smollm2"])]
    return found


def rows(work, part):
    # It refuses machines with fewer than three cores otherwise.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    name, *recipe = part
    if recipe:
        yield theirs_here(work, name, work["models"][name], *recipe)
    else:
        yield from ours_there(work, name, work["models"][name])


def load(folder):
    """The transformers model within GPTQModel's wrapper. Its kernel for any CPU takes half precision when it loads; turned
    into fp32 afterwards, it computes in fp32."""
    import gptqmodel, torch
    backend = gptqmodel.BACKEND.TORCH
    return gptqmodel.GPTQModel.load(folder, device="cpu", backend=backend, dtype=torch.float16).model.float().eval()


def weights_differ(loaded, floats):
    """Largest difference between what the engine makes of its integers and our floats, in the type it makes them in; how
    many modules."""
    from torch_common import tensors
    ours, worst, count = tensors(floats), 0.0, 0
    for name, module in loaded.named_modules():
        if hasattr(module, "dequantize_weight"):
            weight = module.dequantize_weight().t()
            expected = ours[name + ".weight"].to(weight.dtype)
            worst = max(worst, (weight.float() - expected.float()).abs().max().item())
            count += 1
    return worst, count


def ours_there(work, name, model):
    import gptqmodel, torch, transformers
    import torch_common as common
    folder, ours = model["int4_stock"], model["int4"]
    floats = workload.convert(folder, folder + "-floats", "--dequantize", "--dtype", "float32")
    loaders = {
        f"GPTQModel {gptqmodel.__version__}": lambda: load(folder),
        f"transformers {transformers.__version__} + GPTQModel": lambda: transformers.AutoModelForCausalLM.from_pretrained(
            folder, device_map="cpu", dtype=torch.float32),
    }
    for engine, loader in loaders.items():
        loaded = loader().eval()
        difference, largest = common.largest_difference(loaded, ours["logits"])
        worst, count = weights_differ(loaded, floats)
        theirs = common.answers(loaded, [a["prompt_ids"] for a in ours["answers"]], common.stops(folder),
                                work["new_tokens"])
        same, tokens = table.agreement([a["ids"] for a in ours["answers"]], theirs, common.stops(folder))
        measured = common.perplexity(loaded, work, model["ids"])
        yield table.row(
            engine, "stock Int4 g64", name, logits=f"{difference:.1e} of {largest:.1f}", tokens=f"{same}/{tokens}",
            perplexity=table.compared(ours["perplexity"], measured),
            note=f"{count} dequantized matrices, largest difference {worst:.1e}" if count else "its kernels keep them packed",
            ok=worst == 0 and abs(measured / ours["perplexity"] - 1) < 1e-3)


def theirs_here(work, name, model, bits, group, symmetric, act_order, format):
    import gptqmodel
    import torch_common as common
    source = model["float_stock"] if name == "tiny" else work["smollm2_hf"]
    what = f"{bits} bits g{group} {'sym' if symmetric else 'asym'}{' act-order' if act_order else ''} {format}"
    folder = f"{work['folder']}/{name}/gptqmodel-{what.replace(' ', '-')}"
    if not os.path.exists(folder):
        quantize = gptqmodel.QuantizeConfig(bits=bits, group_size=group, sym=symmetric, desc_act=act_order,
                                            format=format, act_group_aware=False, offload_to_disk=False)
        quantizer = gptqmodel.GPTQModel.load(source, quantize, device="cpu")
        texts = [json.loads(line)["text"] for line in open(workload.TINY / "calibration.jsonl", encoding="utf-8")]
        samples = [quantizer.tokenizer(t)["input_ids"][:256] for t in texts[:16]]
        quantizer.quantize([{"input_ids": s, "attention_mask": [1] * len(s)} for s in samples], batch_size=1)
        quantizer.save(folder)
    loaded = load(folder)
    ids = f"{work['folder']}/{name}/gptqmodel-ids.json"
    text = (workload.TINY / "eval.en.txt").read_text(encoding="utf-8")
    packed = workload.convert(folder, folder + ".zhinao")
    line = workload.tool("zhinao-verify", "tokenize", packed, stdin=json.dumps({"text": text}) + "\n")
    json.dump(json.loads(line)["ids"][: work["window"] * work["windows"]], open(ids, "w"))
    theirs, ours = common.perplexity(loaded, work, ids), workload.perplexity(packed, ids)
    worst, count = weights_differ(loaded, workload.convert(packed, folder + "-floats", "--dequantize", "--dtype", "float32"))
    return table.row(
        f"GPTQModel {gptqmodel.__version__}", f"its own folder ({what}) to .zhinao", name,
        perplexity=table.compared(ours, theirs), note=f"{count} matrices, largest difference {worst:.1e}",
        ok=abs(theirs / ours - 1) < 1e-3 and count > 0 and worst == 0)
