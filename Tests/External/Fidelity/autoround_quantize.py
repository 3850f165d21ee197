"""Quantizes with AutoRound: autoround_quantize.py FOLDER WINDOWS.jsonl OUTPUT SETTINGS-AS-JSON

SETTINGS are arguments of AutoRound; the rest is as AutoRound has it. Writes the layout of AutoGPTQ."""
import json, os, pathlib, sys
import torch, transformers
from auto_round import AutoRound

folder, windows, output, settings = sys.argv[1:5]
rows = [json.loads(line)["input_ids"] for line in open(windows, encoding="utf-8")]
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
settings = {"batch_size": 8, "nsamples": len(rows), "seqlen": len(rows[0])} | json.loads(settings)
# Samples that it took before are batched by itself.
batches = [{"input_ids": torch.tensor([r]), "attention_mask": torch.ones(1, len(r), dtype=torch.long)} for r in rows]
round = AutoRound(model, tokenizer, dataset=batches, device_map="cpu", **settings)
round.quantize_and_save(output, format="auto_gptq")
# It may name a folder of its own within the output.
for inner in pathlib.Path(output).glob("*/config.json"):
    for file in inner.parent.iterdir():
        os.rename(file, pathlib.Path(output) / file.name)
