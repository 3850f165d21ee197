"""The rows of the table: each runs this toolchain and its peer in turns and yields what to show.

A row is a function of a Bench; it yields dictionaries: `work`, `here`, `peer` (texts), `ratios` (one for each turn: how many
times as fast as the peer, or whatever `measure` says), `least` (what the median must reach), `note`."""
import json, os, shutil, statistics, subprocess, time
from peers import HERE, ROOT, SHAPES, VOCABULARY

TINY = ROOT / "Sources/zhinao-quantize/Resources/tiny-zhinao"
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
                          "--sequence-length", 512, "-o", path, *options, json_output=False)
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


def per(values, digits=1):
    """Median and range."""
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def row(work, here, peer, ratios, least, note="", digits=2):
    return {"work": work, "here": here, "peer": peer, "ratio": median(ratios), "ratios": [round(r, 4) for r in ratios],
            "least": least, "note": note}


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
    yield row("fp32 product 2048×4096×11008", f"{per([work / s for s in ours], 0)} GFLOP/s",
              f"numpy {per([work / s for s in theirs], 0)}, torch {work / median(torch):.0f}",
              [t / o for o, t in zip(ours, theirs)], 1.0)
    yield row("the same, of the peak of registers before and after", f"{per([100 * s for s in share])} %", "", share, 0.88,
              f"{100 * median(of_burst):.1f} % of the best milliseconds")
    work = 2048 * 11008 * 11009 / 1e9
    yield row("XᵀX, X 2048×11008", f"{per([work / s for s in gram], 0)} GFLOP/s",
              f"numpy {per([work / s for s in their_gram], 0)}, torch {work / median(torch_gram):.0f}",
              [t / o for o, t in zip(gram, their_gram)], 1.2, f"{100 * median(gram_share):.0f} % of the peak")


def factor(bench):
    for order in (4096, 11008):
        def turn():
            ours = bench.ours("zhinao-bench", "kernels", "--repetitions", 1, "--order", order)[0]["rows"][2]["seconds"]
            return ours, bench.python("products.py", "factor", order)[0]["torch"]
        ours, theirs = bench.turns(turn)
        yield row(f"upper factor of H⁻¹, n = {order}", f"{per(ours, 2)} s", f"torch, three steps: {per(theirs, 2)} s",
                  [t / o for o, t in zip(ours, theirs)], 2.5)


def linear(bench):
    wheel = bench.peers.wheel("auto-gptq==0.7.1", "auto-gptq")

    def turn():
        ours = {r["shape"]: r["seconds"] for r in bench.ours("zhinao-bench", "quantize", "--tokens", 16384)[0]}
        theirs = {s: bench.python("autogptq_linear.py", wheel, s, 16384)[0]["seconds"] for s in ours if "+" not in s}
        return ours, theirs
    ours, theirs = bench.turns(turn)
    for shape in ours[0]:
        single = shape.split("+")[0]
        times = 2 if "+" in shape else 1
        yield row(f"GPTQ of {shape}, 16,384 tokens", f"{per([o[shape] for o in ours], 2)} s",
                  f"AutoGPTQ 0.7.1: {per([times * t[single] for t in theirs], 1)} s",
                  [times * t[single] / o[shape] for o, t in zip(ours, theirs)], 5 if times > 1 else 3)


def smollm2_quantization(bench):
    source, ids = bench.peers.smollm2(), bench.calibration()
    out, theirs_out = bench.peers.folder / "q.zhinao", bench.peers.folder / "q-gptqmodel"
    flat = bench.peers.folder / "calibration-flat.json"
    json.dump([i for row in json.load(open(ids)) for i in row["input_ids"]], open(flat, "w"))
    bench.peers.python

    def quantize(*options):
        return bench.timed([bench.peers.tool("zhinao-quantize"), source / "zhinao", "--calibration", ids, "--samples", 32,
                            "--sequence-length", 512, "-o", out, "--overwrite", "--quiet", *options])

    def turn():
        ours, rounded = quantize(), quantize("--calibration-arithmetic", "bf16")
        theirs = bench.timed([bench.peers.python, HERE / "gptqmodel_smollm2.py", source / "hf", flat, 32,
                              512, theirs_out])
        shutil.rmtree(theirs_out, ignore_errors=True)
        return *ours, *rounded, *theirs
    ours, peak, rounded, rounded_peak, theirs, their_peak = bench.turns(turn)
    work = "SmolLM2-135M, 32 × 512, g128 sym, end to end"
    # GPTQModel's forward pass is in bf16, the type of the weights.
    for name, seconds, least in [("forward pass in bf16", rounded, 5), ("in fp32", ours, 5)]:
        yield row(f"{work}, {name}", f"{per(seconds)} s", f"GPTQModel: {per(theirs)} s",
                  [t / o for o, t in zip(seconds, theirs)], least)
    yield row("the same, resident memory (GPTQModel's over ours)", f"{max(median(peak), median(rounded_peak)) / 1e9:.2f} GB",
              f"{median(their_peak) / 1e9:.2f} GB", [t / max(o, r) for o, r, t in zip(peak, rounded_peak, their_peak)], 2)
    os.remove(out)


# Running

def generation(bench):
    bench.peers.build_llama()
    models = {"7B": (bench.packed("7b"), bench.gguf("7b"), 1.1, 0.88),
              "1.8B": (bench.packed("1.8b"), bench.gguf("1.8b"), 1.1, 0.88),
              "SmolLM2": (bench.smollm2_packed("--head-bits", "8"), bench.smollm2_gguf("q4_0"), 1.5, None)}
    for name, (ours_file, theirs_file, least, share) in models.items():
        def turn():
            ours = bench.ours("zhinao-bench", ours_file, "--repetitions", 1)[0]
            found = json.loads(bench.run([bench.peers.llama("llama-bench"), "-m", theirs_file, "-t", 2, "-p", 512, "-n", 64,
                                          "-r", 1, "-o", "json"], json_output=False)[0].split("\n]")[0] + "\n]")
            prompt, new = (next(f["avg_ts"] for f in found if f[k]) for k in ("n_prompt", "n_gen"))
            return ours, prompt, new
        ours, prompt, new = bench.turns(turn)
        generated = [o["generation_tokens_per_second"] for o in ours]
        prompts = [o["prompt_tokens_per_second"] for o in ours]
        yield row(f"generation, {name}, 64 after 16", f"{per(generated)} tok/s", f"llama.cpp Q4_0: {per(new)}",
                  [o / t for o, t in zip(generated, new)], least)
        if share:
            yield row(f"the same, of the read bandwidth", f"{per([100 * o['bandwidth_ratio'] for o in ours])} %", "",
                      [o["bandwidth_ratio"] for o in ours], share,
                      f"{median([o['measured_gb_per_second'] for o in ours]):.0f} GB/s")
        yield row(f"prompt of 512, {name}", f"{per(prompts)} tok/s", f"llama.cpp Q4_0: {per(prompt)}",
                  [o / t for o, t in zip(prompts, prompt)], 2)
        if name == "7B":
            yield row("the same, of the peak of byte products", f"{per([100 * o['peak_ratio'] for o in ours])} %", "",
                      [o["peak_ratio"] for o in ours], 0.6, f"{median([o['measured_gops'] for o in ours]):.0f} GOP/s")


def opening(bench):
    bench.peers.build_llama()
    ours_file, theirs_file = bench.packed("7b"), bench.gguf("7b")

    def turn():
        ours = bench.ours("zhinao-bench", ours_file, "--repetitions", 1, "--prompt-tokens", 1, "--new-tokens", 1)[0]
        theirs = bench.run([bench.peers.llama("llama-bench"), "-m", theirs_file, "-t", 2, "-p", 0, "-n", 1, "-r", 1,
                            "--no-warmup", "-o", "json"], json_output=False)[1]
        return ours["load_seconds"], ours["anonymous_bytes_after_load"], theirs
    seconds, anonymous, theirs = bench.turns(turn)
    yield row("opening a 7B file, milliseconds", f"{per([1000 * s for s in seconds])} ms",
              f"llama.cpp, process with one token: {median(theirs):.1f} s", [50 / (1000 * s) for s in seconds], 1,
              f"ratio: 50 ms over it; {max(anonymous) / 1e6:.0f} MB of anonymous memory")


def perplexity(bench):
    bench.peers.build_llama()
    bench.calibration()
    ids, windows = bench.peers.folder / "evaluation.json", 20
    pairs = {"bf16, exact": (bench.smollm2_packed(), "exact", bench.smollm2_gguf("f16"), "F16", 1.0),
             "Int4, fast": (bench.smollm2_packed("--head-bits", "8"), "fast", bench.smollm2_gguf("q4_0"), "Q4_0", 1.3)}
    for name, (ours_file, arithmetic, theirs_file, type, least) in pairs.items():
        def turn():
            ours = bench.ours("zhinao-verify", "perplexity", ours_file, "--ids", ids, "--window", 512, "--max-windows",
                              windows, "--arithmetic", arithmetic, "--quiet")[1]
            theirs = bench.run([bench.peers.llama("llama-perplexity"), "-m", theirs_file, "-f", bench.text, "-c", 512,
                                "--chunks", windows, "-t", 2], json_output=False)[1]
            return windows * 512 / ours, windows * 512 / theirs
        ours, theirs = bench.turns(turn)
        yield row(f"perplexity, SmolLM2, {name}", f"{per(ours, 0)} tok/s", f"llama-perplexity {type}: {per(theirs, 0)}",
                  [o / t for o, t in zip(ours, theirs)], least, "whole processes")
    exact, fast = (bench.ours("zhinao-verify", "perplexity", bench.smollm2_packed("--head-bits", "16"), "--ids", ids, "--window",
                              512, "--max-windows", windows, "--arithmetic", a, "--quiet")[0]["perplexity"]
                   for a in ("exact", "fast"))
    yield row("perplexity of fast over exact, Int4", f"{fast:.3f}", f"exact: {exact:.3f}", [1.003 / (fast / exact)], 1,
              f"{100 * (fast / exact - 1):+.2f} %; ratio: 1.003 over it")


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
    yield row("7B bf16 folder → .zhinao", f"{per(ours)} s", f"cp and sync: {per(copied)} s",
              [t / o for o, t in zip(ours, copied)], 0.8)
    wrapper = HERE / "convert_hf_to_gguf.py"
    theirs = [seconds([bench.peers.python, wrapper, script, stock, "--outtype", "bf16", "--outfile", gguf], gguf) for _ in range(2)]
    yield row("the same, convert_hf_to_gguf", f"{median(ours):.1f} s", f"{per(theirs)} s",
              [t / median(ours) for t in theirs], 5, "two runs, after ours")
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
    yield row("tokenizing Chinese and English, cl100k ranks, one thread", f"{per(ours, 0)} MB/s",
              f"tiktoken: {per(theirs)} MB/s", [o / t for o, t in zip(ours, theirs)], 4)


ALL = {f.__name__: f for f in (products, factor, linear, smollm2_quantization, generation, opening, perplexity, conversion,
                               tokenizing)}
