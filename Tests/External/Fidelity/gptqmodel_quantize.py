"""Quantizes with GPTQModel: gptqmodel_quantize.py FOLDER WINDOWS.jsonl OUTPUT SETTINGS-AS-JSON

SETTINGS are arguments of QuantizeConfig; the rest is as GPTQModel has it."""
import json, os, sys

os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
import gptqmodel

folder, windows, output, settings = sys.argv[1:5]
configuration = gptqmodel.QuantizeConfig(offload_to_disk=False, **json.loads(settings))
model = gptqmodel.GPTQModel.load(folder, configuration, device="cpu")
rows = [json.loads(line)["input_ids"] for line in open(windows, encoding="utf-8")]
model.quantize([{"input_ids": r, "attention_mask": [1] * len(r)} for r in rows], batch_size=1)
model.save(output)
