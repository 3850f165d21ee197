"""Writes a model with the shapes of 360Zhinao-7B, a few layers, random weights and a small vocabulary, for times of a quantization.

shaped_model.py FOLDER [LAYERS]     needs numpy
"""

import json, os, shutil, struct, sys
import numpy

folder, layers = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
tiny = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "Sources", "DemoModels", "tiny-zhinao")
hidden, wide = 4096, 11008
os.makedirs(folder, exist_ok=True)
shutil.copytree(f"{tiny}/vocab", f"{folder}/vocab", dirs_exist_ok=True)
for name in ["tokenizer_config.json", "generation_config.json"]:
    shutil.copy(f"{tiny}/{name}", folder)
config = json.load(open(f"{tiny}/config.json"))
config.update(hidden_size=hidden, intermediate_size=wide, num_attention_heads=32, num_key_value_heads=32, num_hidden_layers=layers)
json.dump(config, open(f"{folder}/config.json", "w"), indent=1)

shapes = [("model.embed_tokens.weight", [config["vocab_size"], hidden])]
for layer in range(layers):
    name = f"model.layers.{layer}."
    shapes += [(name + "self_attn.qkv_proj.weight", [3 * hidden, hidden]), (name + "self_attn.qkv_proj.bias", [3 * hidden]),
               (name + "self_attn.o_proj.weight", [hidden, hidden]), (name + "mlp.gate_proj.weight", [wide, hidden]),
               (name + "mlp.up_proj.weight", [wide, hidden]), (name + "mlp.down_proj.weight", [hidden, wide]),
               (name + "input_layernorm.weight", [hidden]), (name + "post_attention_layernorm.weight", [hidden])]
shapes += [("model.norm.weight", [hidden]), ("lm_head.weight", [config["vocab_size"], hidden])]
header, offset = {}, 0
for name, shape in shapes:
    size = 2 * int(numpy.prod(shape))
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
    offset += size
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
random = numpy.random.default_rng(1)
with open(f"{folder}/model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    for name, shape in shapes:
        values = random.standard_normal(shape, dtype=numpy.float32) * numpy.float32(0.02)
        if "norm" in name:
            values += 1
        file.write((values.view(numpy.uint32) >> 16).astype("<u2").tobytes())
