"""Runs the bf16 stock folder as transformers' Qwen2ForCausalLM in fp32 and without remote code."""
import rows as table

ENVIRONMENT = "torch"
PACKAGES = ["torch", "transformers", "tokenizers", "safetensors", "numpy", "accelerate", "gguf"]


def rows(work, name):
    import torch, transformers
    import torch_common as common
    engine = f"transformers {transformers.__version__}"
    model = work["models"][name]
    folder, ours = model["float_stock"], model["float"]
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    difference, largest = common.largest_difference(loaded, ours["logits"])
    theirs = common.answers(loaded, [a["prompt_ids"] for a in ours["answers"]], common.stops(folder),
                            work["new_tokens"])
    same, count = table.agreement([a["ids"] for a in ours["answers"]], theirs, common.stops(folder))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    framed = [tokenizer.apply_chat_template([{"role": "user", "content": p}], add_generation_prompt=True)
              for p in model["prompts"]]
    framed = [f if isinstance(f, list) else f["input_ids"] for f in framed]
    template = framed == [a["prompt_ids"] for a in ours["answers"]]
    measured = common.perplexity(loaded, work, model["ids"])
    yield table.row(
        engine, f"stock bf16, {type(loaded).__name__}, fp32", name, logits=f"{difference:.1e} of {largest:.1f}",
        tokens=f"{same}/{count}", perplexity=table.compared(ours["perplexity"], measured),
        note="the chat template gives our ids" if template else "CHAT TEMPLATE DIFFERS",
        ok=difference <= 2e-4 and same == count and template and abs(measured / ours["perplexity"] - 1) < 1e-4)
