"""Merges a LoRA adapter with PEFT and with zhinao-convert. The results may differ by one step of bf16."""
import rows as table
import workload

ENVIRONMENT = "torch"
PACKAGES = ["torch", "transformers", "safetensors", "numpy", "accelerate", "peft", "optimum"]


def steps(a, b, before):
    """How far a and b are apart in steps of bf16, at the size of the larger of the weight before and after. Where both
    cancel, what is left is the noise of two fp32 sums, which no number of bits of the result describes."""
    import torch
    size = torch.maximum(torch.maximum(a.float().abs(), b.float().abs()), before.float().abs())
    step = torch.exp2(torch.floor(torch.log2(size.clamp_min(1e-38))) - 7)
    return (a.float() - b.float()).abs() / step


def rows(work, name):
    import peft, torch, transformers
    from torch_common import tensors
    model = work["models"][name]
    torch.manual_seed(360)
    before = tensors(model["float_stock"])
    base = transformers.AutoModelForCausalLM.from_pretrained(model["float_stock"], dtype=torch.bfloat16)
    tuned = peft.get_peft_model(base, peft.LoraConfig(
        r=8, lora_alpha=16, use_rslora=True, rank_pattern={"k_proj": 4}, alpha_pattern={"v_proj": 9},
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
    for key, parameter in tuned.named_parameters():
        if "lora_" in key:
            parameter.data = torch.randn(parameter.shape) * 0.05
    adapter = f"{work['folder']}/{name}/adapter"
    tuned.save_pretrained(adapter)
    expected = tuned.merge_and_unload().state_dict()
    # Into the fused matrices, then split: the way of a fine-tuned Zhinao model.
    fused = workload.convert(model["source"], f"{work['folder']}/{name}/merged", "--merge-lora", adapter)
    found = tensors(workload.convert(fused, f"{work['folder']}/{name}/merged-stock", "--to", "stock"))
    distances = [steps(found[key], expected[key], before[key]) for key in found]
    worst, differing = max(d.max().item() for d in distances), sum((d > 0).sum().item() for d in distances)
    total = sum(d.numel() for d in distances)
    yield table.row(f"peft {peft.__version__}", "merge_and_unload in bf16", name,
                    note=f"{total} weights, {differing} differ, by at most {worst:.2f} bf16 steps",
                    ok=worst <= 1)
