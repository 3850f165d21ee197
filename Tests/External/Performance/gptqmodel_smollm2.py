"""Quantizes SmolLM2 with GPTQModel: gptqmodel_smollm2.py HF_FOLDER IDS.json SAMPLES LENGTH OUTPUT."""
import json, sys, time
start = time.perf_counter()
import gptqmodel

folder, ids, samples, length, output = sys.argv[1], json.load(open(sys.argv[2])), *map(int, sys.argv[3:5]), sys.argv[5]
ids = ids["ids"] if isinstance(ids, dict) else ids
configuration = gptqmodel.QuantizeConfig(bits=4, group_size=128, sym=True, desc_act=False, act_group_aware=False,
                                         offload_to_disk=False)
model = gptqmodel.GPTQModel.load(folder, configuration, device="cpu")
rows = [ids[i * length:(i + 1) * length] for i in range(samples)]
model.quantize([{"input_ids": r, "attention_mask": [1] * len(r)} for r in rows], batch_size=1)
model.save(output)
