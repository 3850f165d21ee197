"""Measures each row of Docs/performance.md: runs this toolchain and its peer in turns.

A function takes a Bench and yields rows: `id` (a key of catalogue.MEASUREMENTS), `here`, and with a peer `theirs` and
`ratio`, each as median, lowest and highest of the turns, and sometimes a `note`."""
import json, os, shutil, statistics, subprocess, time
from catalogue import MEASUREMENTS
from peers import HERE, ROOT, SHAPES, VOCABULARY

TINY = ROOT / "Sources/DemoModels/tiny-zhinao"
median = statistics.median


class Bench:
    def __init__(self, peers, runs, text):
        self.peers, self.runs, self.text = peers, runs, text

    def run(self, command, json_output=True):
        """Standard output (parsed), seconds, highest resident bytes."""
        start = time.monotonic()
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=self.peers.environment, cwd=self.peers.folder)
        out, error = process.communicate()
        seconds = time.monotonic() - start
        if process.returncode:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}: {error[-800:]}")
        return (json.loads(out) if json_output else out + error), seconds

    def ours(self, tool, *arguments, json_output=True):
        return self.run([self.peers.tool(tool), *arguments, *(["--json"] if json_output else [])], json_output)

    def python(self, script, *arguments, json_output=True):
        return self.run([self.peers.python, HERE / script, *arguments], json_output)

    def timed(self, command):
        """Seconds and highest resident bytes of a process of its own."""
        script = ("import json, resource, subprocess, sys, time; t = time.monotonic();"
                  "c = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode;"
                  "print(json.dumps([c, time.monotonic() - t, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))")
        (code, seconds, peak), _ = self.run([self.peers.python, "-c", script, *map(str, command)])
        if code:
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {code}")
        return seconds, peak

    def turns(self, work):
        """work() in turns, `runs` times: lists of what its parts gave."""
        found = [work() for _ in range(self.runs)]
        return list(zip(*found))

    # Models

    def packed(self, shape, head=4):
        def make(path):
            self.ours("zhinao-bench", "make-model", "--shape", shape, "--encoding", "int4", "--head-bits", head, "-o", path,
                      json_output=False)
        return self.peers.model(f"{shape}-h{head}.zhinao", make)

    def gguf(self, shape):
        layers, hidden, inner, heads = SHAPES[shape]
        return self.peers.model(f"{shape}.gguf", lambda path: self.python(
            "make_gguf.py", layers, hidden, inner, heads, VOCABULARY, path, json_output=False))

    def smollm2_gguf(self, type):
        smollm2 = self.peers.smollm2()
        convert = self.peers.source("llama-cpp-python") / "vendor/llama.cpp/convert_hf_to_gguf.py"
        f16 = self.peers.model("smollm2-f16.gguf", lambda path: self.run(
            [self.peers.python, convert, smollm2 / "hf", "--outtype", "f16", "--outfile", path], json_output=False))
        if type == "f16":
            return f16
        return self.peers.model(f"smollm2-{type}.gguf", lambda path: self.run(
            [self.peers.llama("llama-quantize"), f16, path, type.upper(), "2"], json_output=False))

    def smollm2_packed(self, *options):
        """Weights in bf16, or integers made by GPTQ."""
        name = "smollm2" + "".join(str(o).replace("--", "-") for o in options) + ".zhinao"
        source = self.peers.smollm2() / "zhinao"

        def make(path):
            if options:
                self.ours("zhinao-quantize", source, "--calibration", self.calibration(), "--samples", 32,
                          "--sequence-length", 512, "--preset", "autogptq", "-o", path, *options, json_output=False)
            else:
                self.ours("zhinao-convert", source, "-o", path, json_output=False)
        return self.peers.model(name, make)

    def calibration(self):
        """Token ids, the same for both sides."""
        path = self.peers.folder / "calibration.json"
        if not path.exists():
            text = open(self.text, encoding="utf-8").read()
            found, _ = self.run_with_input([self.peers.tool("zhinao-verify"), "tokenize", self.peers.smollm2() / "zhinao"],
                                           json.dumps({"text": text}) + "\n")
            ids = json.loads(found)["ids"]
            json.dump([{"input_ids": ids[i * 512:(i + 1) * 512]} for i in range(32)], open(path, "w"))
            json.dump(ids[-30720:], open(self.peers.folder / "evaluation.json", "w"))
        return path

    def run_with_input(self, command, text):
        done = subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True, check=True)
        return done.stdout, done.stderr


def summary(values):
    """Median, lowest, highest."""
    return [float(f"{v:.4g}") for v in (median(values), min(values), max(values))]


def row(id, here, theirs=None, **more):
    """A row of results from the figures of each turn."""
    found = {"id": id, "here": summary(here)}
    if theirs:
        measurement = MEASUREMENTS[id]
        found |= {"theirs": summary(theirs), "ratio": summary([measurement.ratio(o, t) for o, t in zip(here, theirs)])}
    return found | more


# Products and quantization

def products(bench):
    def turn():
        ours = bench.ours("zhinao-bench", "kernels", "--repetitions", 3)[0]
        theirs = bench.python("products.py", "gemm")[0]
        rows = {r["name"].split(",")[0]: r for r in ours["rows"]}
        return (rows["x · Wᵀ"]["seconds"], min(theirs["numpy"], theirs["torch"]), rows["x · Wᵀ"]["ratio_to_peak"],
                rows["XᵀX"]["seconds"], min(theirs["numpy_gram"], theirs["torch_gram"]), rows["XᵀX"]["ratio_to_peak"],
                theirs["torch"], theirs["torch_gram"], rows["x · Wᵀ"]["ratio_to_burst"])
    ours, theirs, share, gram, their_gram, gram_share, torch, torch_gram, of_burst = bench.turns(turn)
    work = 2 * 2048 * 4096 * 11008 / 1e9
    yield row("product", [work / s for s in ours], [work / s for s in theirs], torch=float(f"{work / median(torch):.4g}"))
    yield row("product-peak", [100 * s for s in share], note=f"{100 * median(of_burst):.1f} % of the best milliseconds")
    work = 2048 * 11008 * 11009 / 1e9
    yield row("gram", [work / s for s in gram], [work / s for s in their_gram],
              torch=float(f"{work / median(torch_gram):.4g}"), note=f"{100 * median(gram_share):.0f} % of the peak")


def factor(bench):
    for order in (4096, 11008):
        def turn():
            ours = bench.ours("zhinao-bench", "kernels", "--repetitions", 1, "--order", order)[0]["rows"][2]["seconds"]
            return ours, bench.python("products.py", "factor", order)[0]["torch"]
        ours, theirs = bench.turns(turn)
        yield row(f"factor-{order}", ours, theirs)


def linear(bench):
    wheel = bench.peers.wheel("auto-gptq==0.7.1", "auto-gptq")

    def turn():
        ours = {r["shape"]: r["seconds"] for r in bench.ours("zhinao-bench", "quantize", "--tokens", 16384)[0]}
        theirs = {s: bench.python("autogptq_linear.py", wheel, s, 16384)[0]["seconds"] for s in ours if "+" not in s}
        return ours, theirs
    ours, theirs = bench.turns(turn)
    for shape in ours[0]:
        matrices = shape.count("+") + 1
        yield row(f"gptq-{shape}", [o[shape] for o in ours], [matrices * t[shape.split("+")[0]] for t in theirs])


def smollm2_quantization(bench):
    source, ids = bench.peers.smollm2(), bench.calibration()
    out, theirs_out = bench.peers.folder / "q.zhinao", bench.peers.folder / "q-gptqmodel"
    flat = bench.peers.folder / "calibration-flat.json"
    json.dump([i for row in json.load(open(ids)) for i in row["input_ids"]], open(flat, "w"))
    bench.peers.python

    def quantize(*options):
        return bench.timed([bench.peers.tool("zhinao-quantize"), source / "zhinao", "--calibration", ids, "--samples", 32,
                            "--sequence-length", 512, "--preset", "autogptq", "-o", out, "--overwrite", "--quiet", *options])

    def turn():
        ours, rounded = quantize(), quantize("--calibration-arithmetic", "bf16")
        theirs = bench.timed([bench.peers.python, HERE / "gptqmodel_smollm2.py", source / "hf", flat, 32,
                              512, theirs_out])
        shutil.rmtree(theirs_out, ignore_errors=True)
        return *ours, *rounded, *theirs
    ours, peak, rounded, rounded_peak, theirs, their_peak = bench.turns(turn)
    # GPTQModel's forward pass is in bf16, the type of the weights.
    yield row("smollm2-bf16", rounded, theirs)
    yield row("smollm2-fp32", ours, theirs)
    yield row("smollm2-memory", [max(o, r) / 1e9 for o, r in zip(peak, rounded_peak)], [t / 1e9 for t in their_peak])
    os.remove(out)


# Running

def generation(bench):
    bench.peers.build_llama()
    models = {"7b": (bench.packed("7b"), bench.gguf("7b")), "1.8b": (bench.packed("1.8b"), bench.gguf("1.8b")),
              "smollm2": (bench.smollm2_packed("--head-bits", "8"), bench.smollm2_gguf("q4_0"))}
    for name, (ours_file, theirs_file) in models.items():
        def turn():
            ours = bench.ours("zhinao-bench", ours_file, "--repetitions", 1)[0]
            found = json.loads(bench.run([bench.peers.llama("llama-bench"), "-m", theirs_file, "-t", 2, "-p", 512, "-n", 64,
                                          "-r", 1, "-o", "json"], json_output=False)[0].split("\n]")[0] + "\n]")
            prompt, new = (next(f["avg_ts"] for f in found if f[k]) for k in ("n_prompt", "n_gen"))
            return ours, prompt, new
        ours, prompt, new = bench.turns(turn)
        yield row(f"generation-{name}", [o["generation_tokens_per_second"] for o in ours], new)
        yield row(f"prompt-{name}", [o["prompt_tokens_per_second"] for o in ours], prompt)
        if f"bandwidth-{name}" in MEASUREMENTS:
            yield row(f"bandwidth-{name}", [100 * o["bandwidth_ratio"] for o in ours],
                      note=f"{median([o['measured_gb_per_second'] for o in ours]):.0f} GB/s")
        if f"byte-peak-{name}" in MEASUREMENTS:
            yield row(f"byte-peak-{name}", [100 * o["peak_ratio"] for o in ours],
                      note=f"{median([o['measured_gops'] for o in ours]):.0f} GOP/s")


def opening(bench):
    file = bench.packed("7b")

    def turn():
        ours = bench.ours("zhinao-bench", file, "--repetitions", 1, "--prompt-tokens", 1, "--new-tokens", 1)[0]
        return ours["load_seconds"], ours["anonymous_bytes_after_load"]
    seconds, anonymous = bench.turns(turn)
    yield row("opening", [1000 * s for s in seconds], note=f"{max(anonymous) / 1e6:.0f} MB of anonymous memory")


def perplexity(bench):
    bench.peers.build_llama()
    bench.calibration()
    ids, windows = bench.peers.folder / "evaluation.json", 20
    pairs = {"bf16": (bench.smollm2_packed(), "exact", bench.smollm2_gguf("f16")),
             "int4": (bench.smollm2_packed("--head-bits", "8"), "fast", bench.smollm2_gguf("q4_0"))}
    for name, (ours_file, arithmetic, theirs_file) in pairs.items():
        def turn():
            ours = bench.ours("zhinao-verify", "perplexity", ours_file, "--ids", ids, "--window", 512, "--max-windows",
                              windows, "--arithmetic", arithmetic, "--quiet")[1]
            theirs = bench.run([bench.peers.llama("llama-perplexity"), "-m", theirs_file, "-f", bench.text, "-c", 512,
                                "--chunks", windows, "-t", 2], json_output=False)[1]
            return windows * 512 / ours, windows * 512 / theirs
        ours, theirs = bench.turns(turn)
        yield row(f"perplexity-{name}", ours, theirs)
    exact, fast = (bench.ours("zhinao-verify", "perplexity", bench.smollm2_packed("--head-bits", "16"), "--ids", ids, "--window",
                              512, "--max-windows", windows, "--arithmetic", a, "--quiet")[0]["perplexity"]
                   for a in ("exact", "fast"))
    yield row("fast-perplexity", [100 * (fast / exact - 1)])


# Files and text

def conversion(bench):
    def make(path):
        bench.ours("zhinao-bench", "make-model", "--shape", "7b", "--encoding", "bf16", "-o", path, json_output=False)
    source, folder = bench.peers.model("7b-bf16", make), bench.peers.folder
    out, copy, gguf = folder / "out.zhinao", folder / "copy", folder / "out.gguf"
    script = bench.peers.source("llama-cpp-python") / "vendor/llama.cpp/convert_hf_to_gguf.py"
    def make_stock(path):
        bench.ours("zhinao-convert", source, "--to", "stock", "-o", path, json_output=False)
        # Any vocabulary that llama.cpp knows; it fills the rest up.
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(bench.peers.smollm2() / "hf" / name, path)
    stock = bench.peers.model("7b-bf16-stock", make_stock)

    def seconds(command, *left):
        subprocess.run(["sync"], check=True)
        start = time.monotonic()
        bench.run(command, json_output=False)
        subprocess.run(["sync"], check=True)
        spent = time.monotonic() - start
        for path in left:
            shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        return spent

    def turn():
        return (seconds([bench.peers.tool("zhinao-convert"), source, "-o", out, "--quiet"], out),
                seconds(["cp", "-r", source, copy], copy))
    ours, copied = bench.turns(turn)
    yield row("conversion", ours, copied)
    wrapper = HERE / "convert_hf_to_gguf.py"
    theirs = [seconds([bench.peers.python, wrapper, script, stock, "--outtype", "bf16", "--outfile", gguf], gguf) for _ in range(2)]
    yield row("conversion-gguf", [median(ours)] * 2, theirs, note="two runs")
    shutil.rmtree(source), shutil.rmtree(stock)


def tokenizing(bench):
    ranks = ROOT / "Tests/Fixtures/cl100k_base.tiktoken"
    text = bench.peers.folder / "mixed.txt"
    parts = [open(TINY / f"eval.{l}.txt", encoding="utf-8").read().split("\n") for l in ("en", "zh")]
    parts.append([json.loads(line)["text"] for line in open(TINY / "calibration.jsonl", encoding="utf-8")])
    with open(text, "w", encoding="utf-8") as out:
        for i in range(max(map(len, parts))):
            out.write("".join(p[i] + "\n" for p in parts if i < len(p)))

    def turn():
        return (bench.ours("zhinao-bench", "tokenize", ranks, text)[0]["bytes_per_second"] / 1e6,
                bench.python("tiktoken_speed.py", ranks, text)[0]["bytes_per_second"] / 1e6)
    ours, theirs = bench.turns(turn)
    yield row("tokenizing", ours, theirs)


ALL = {f.__name__: f for f in (products, factor, linear, smollm2_quantization, generation, opening, perplexity, conversion,
                               tokenizing)}
