"""Ways to quantize a model. Each makes an output that zhinao-verify reads, and says what it ran."""
import json, pathlib, re, struct, subprocess

HERE = pathlib.Path(__file__).resolve().parent
EQUAL = {"desc_act": True, "static_groups": True, "act_group_aware": False, "damp_percent": 0.01}


class Preset:
    """This toolchain."""

    def __init__(self, name, options=()):
        self.preset, self.id, self.options = name, f"here-{name}", list(options)
        self.title = f"zhinao-quantize --preset {name}"

    def available(self, bench):
        said = " ".join(bench.tool("zhinao-quantize", "--help").split())
        known = re.search(r"values: (autogptq[^;)]*)", said)[1].split(", ")
        return self.preset in known or f"zhinao-quantize does not know --preset {self.preset}"

    def version(self, bench):
        return f"commit {bench.commit()}"

    def make(self, bench, model, windows, output, bits, group):
        bench.measured([bench.program("zhinao-quantize"), model.source, "--calibration", windows, "--samples", 100000,
                        "--sequence-length", 100000, "--preset", self.preset, "--bits", bits, "--group-size", group,
                        *self.options, "--gptq-output", output, "--overwrite", "--quiet"])
        return {"reference": str(model.source), "candidate": str(output)}


class GPTQModel:
    def __init__(self, id, title, settings):
        self.id, self.title, self.settings = id, title, settings

    def available(self, bench):
        return True

    def version(self, bench):
        return "GPTQModel " + bench.installed("gptqmodel")

    def make(self, bench, model, windows, output, bits, group):
        settings = {"bits": bits, "group_size": group} | self.settings
        bench.measured([bench.peers.python, HERE / "gptqmodel_quantize.py", model.stock, windows, output, json.dumps(settings)])
        return {"reference": str(model.stock), "candidate": str(output)}


class AutoRound:
    def __init__(self, iterations):
        self.id, self.title = f"autoround-{iterations}", f"AutoRound, {iterations} iterations"
        self.iterations = iterations

    def available(self, bench):
        return True

    def version(self, bench):
        return "AutoRound " + bench.installed("auto-round")

    def make(self, bench, model, windows, output, bits, group):
        settings = {"bits": bits, "group_size": group, "sym": True, "iters": self.iterations}
        bench.measured([bench.peers.python, HERE / "autoround_quantize.py", model.stock, windows, output, json.dumps(settings)])
        return {"reference": str(model.stock), "candidate": str(output)}


class Llama:
    """llama.cpp: matrices of the layers in one of its types with an importance matrix of the same text; the embedding and the
    head keep bf16, as they do with the others."""

    def __init__(self, kind):
        self.kind, self.id, self.title = kind, f"llama-{kind}", f"llama.cpp imatrix {kind}"

    def available(self, bench):
        return True

    def version(self, bench):
        return "llama.cpp of llama-cpp-python " + bench.peers.source("llama-cpp-python").name.split("-")[-1]

    def make(self, bench, model, windows, output, bits, group):
        output.mkdir(parents=True, exist_ok=True)
        bench.peers.build_llama("llama-imatrix", "llama-quantize")
        rows = [json.loads(line)["input_ids"] for line in open(windows)]
        text = output / "calibration.txt"
        text.write_text("".join(model.decoded(rows)), encoding="utf-8")
        threads = ["-t", "2"]
        bench.measured([bench.peers.llama("llama-imatrix"), "-m", model.gguf, "-f", text, "-o", output / "imatrix.gguf",
                        "-c", len(rows[0]), "--no-ppl", *threads])
        bench.measured([bench.peers.llama("llama-quantize"), "--imatrix", output / "imatrix.gguf", "--token-embedding-type",
                        "bf16", "--output-tensor-type", "bf16", model.gguf, output / "model.gguf", self.kind, "2"])
        floats = bench.converted(output / "model.gguf", output / "floats", "--dtype", "float32")
        return {"reference": str(model.stock), "candidate": str(floats), "gguf": str(output / "model.gguf")}


def all_methods(presets, iterations):
    return [*(Preset(p) for p in presets),
            GPTQModel("gptqmodel", "GPTQModel, its defaults", {}),
            GPTQModel("gptqmodel-equal", "GPTQModel, act-order with static groups, damp 0.01", EQUAL),
            *(Llama(kind) for kind in ("Q4_0", "Q4_K_M")),
            *(AutoRound(i) for i in iterations)]


def bits_per_weight(bench, made):
    """Of the quantized matrices: codes, scales and zero points."""
    if "gguf" in made:
        script = ("import gguf, sys\n"
                  "t = [t for t in gguf.GGUFReader(sys.argv[1]).tensors if t.name.startswith('blk.') and t.shape.size == 2]\n"
                  "t = [t for t in t if t.shape.min() > 1]\n"
                  "print(8 * sum(int(t.n_bytes) for t in t) / sum(int(t.n_elements) for t in t))\n"
                  "print('+'.join(sorted({t.tensor_type.name for t in t})))")
        said = subprocess.run([bench.peers.python, "-c", script, made["gguf"]], check=True, capture_output=True, text=True)
        bits, kinds = said.stdout.split()
        return {"bits_per_weight": round(float(bits), 3), "types": kinds}
    stored = weights = 0
    for path in pathlib.Path(made["candidate"]).glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for name, tensor in header.items():
            if name.endswith((".qweight", ".scales", ".qzeros")):
                start, end = tensor["data_offsets"]
                stored += end - start
            if name.endswith(".g_idx"):
                weights += tensor["shape"][0] * header[name.replace(".g_idx", ".qweight")]["shape"][1]
    return {"bits_per_weight": round(8 * stored / weights, 3)}
