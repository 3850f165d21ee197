"""Loads the generated tokenizer.json with Hugging Face's `tokenizers` and compares ids and texts of every golden case of tiktoken."""
import json, os, shutil
import rows as table
import workload

ENVIRONMENT = "torch"
PACKAGES = ["tokenizers", "transformers", "torch", "safetensors", "numpy"]
GOLDEN = workload.ROOT / "Tests/Fixtures/golden"
VOCABULARIES = {"tiny": workload.TINY / "vocab/360.tiktoken", "micro": GOLDEN / "micro.tiktoken",
                "cl100k": workload.ROOT / "Tests/Fixtures/cl100k_base.tiktoken"}


def model_of(vocabulary, folder):
    """The smallest model that has the vocabulary: one layer of zeros."""
    import numpy
    from safetensors.numpy import save_file
    size = sum(1 for line in open(vocabulary, "rb") if line.strip()) + 11
    os.makedirs(f"{folder}/vocab", exist_ok=True)
    shutil.copy(vocabulary, f"{folder}/vocab/360.tiktoken")
    layer = "model.layers.0."
    shapes = {"model.embed_tokens.weight": [size, 32], "model.norm.weight": [32], "lm_head.weight": [size, 32],
              layer + "input_layernorm.weight": [32], layer + "post_attention_layernorm.weight": [32],
              layer + "self_attn.qkv_proj.weight": [96, 32], layer + "self_attn.qkv_proj.bias": [96],
              layer + "self_attn.o_proj.weight": [32, 32], layer + "mlp.gate_proj.weight": [32, 32],
              layer + "mlp.up_proj.weight": [32, 32], layer + "mlp.down_proj.weight": [32, 32]}
    save_file({k: numpy.zeros(s, numpy.float16) for k, s in shapes.items()}, f"{folder}/model.safetensors")
    json.dump({"architectures": ["ZhinaoForCausalLM"], "model_type": "zhinao", "hidden_act": "silu", "hidden_size": 32,
               "intermediate_size": 32, "num_attention_heads": 1, "num_key_value_heads": 1, "num_hidden_layers": 1,
               "rms_norm_eps": 1e-6, "vocab_size": size, "torch_dtype": "float16"}, open(f"{folder}/config.json", "w"))
    return folder


def groups(work):
    return [list(VOCABULARIES)]


def rows(work, name):
    import tokenizers, transformers
    folder = f"{work['folder']}/tokenizer-{name}"
    stock = workload.convert(model_of(VOCABULARIES[name], folder), folder + "-stock", "--to", "stock")
    plain = tokenizers.Tokenizer.from_file(f"{stock}/tokenizer.json")
    auto = transformers.AutoTokenizer.from_pretrained(stock)
    readers = {
        f"tokenizers {tokenizers.__version__}": (
            lambda text: plain.encode(text, add_special_tokens=False).ids,
            lambda ids: plain.decode(ids, skip_special_tokens=False)),
        f"transformers {transformers.__version__} AutoTokenizer": (
            lambda text: auto(text, add_special_tokens=False)["input_ids"],
            lambda ids: auto.decode(ids, skip_special_tokens=False)),
    }
    for reader, (encode, decode) in readers.items():
        encoded = decoded = texts = lists = 0
        wrong = []
        for file in (f"tokenizer-{name}.jsonl", f"tokenizer-{name}-decode.jsonl"):
            if not (GOLDEN / file).exists():
                continue
            for line in open(GOLDEN / file, encoding="utf-8"):
                case = json.loads(line)
                lists, good = lists + 1, decode(case["ids"]) == case["decoded"]
                decoded += good
                if "text" in case:
                    texts, same = texts + 1, encode(case["text"]) == case["ids"]
                    encoded, good = encoded + same, good and same
                if not good:
                    wrong.append(repr(case.get("text", case["ids"]))[:40])
        yield table.row(reader, "tokenizer.json", name, tokens=f"{encoded}/{texts} texts, {decoded}/{lists} decoded",
                        note="; ".join(wrong[:5]), ok=not wrong)
