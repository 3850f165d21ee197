#!/usr/bin/env python3
"""Time of 500 multiple-choice questions, 5-shot, beside lm-eval on transformers, in turns.

Every turn is a process of each engine, one after the other: zhinao-evaluate, which computes in fp32, lm-eval in fp32, and lm-eval in the type
of the checkpoint (`dtype=auto`, bf16 for SmolLM2). lm-eval runs with the batch size that is fastest on the first questions, out of --batches; its own `auto` would try batches of the longest context that the model
takes. For lm-eval only the evaluation is timed, without the start of Python and the reading of the model; for zhinao-evaluate the whole process.
Choices are letters, of which both compute one forward pass for each question. The accuracies and the predictions of both are printed too.

Needs what lm_eval_compare.py needs. Nothing else should run on the machine meanwhile; with two threads half an hour.

    speed.py --model /tmp/smollm2 [--turns 3] [--threads 2] [--output speed.json]
"""
import argparse, json, os, pathlib, platform, statistics, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import make_questions, tool  # noqa: E402

DTYPES = {"lm-eval fp32": "float32", "lm-eval auto": "auto"}


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if pathlib.Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def lm_eval(model, questions, dev, shots, dtype, batch, threads):
    words = [sys.executable, HERE / "harness.py", model, questions, dev, shots, "letters", dtype, batch]
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    if done.returncode:
        sys.exit(f"lm-eval failed: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def head(path, count):
    """A file with the first lines of another."""
    short = path.with_name(f"first-{count}.jsonl")
    short.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))
    return short


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a folder that transformers and zhinao-evaluate read")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", default="1,4,8,16", help="batch sizes of lm-eval to choose from (default: 1,4,8,16)")
    parser.add_argument("--trial", type=int, default=48, help="questions that choose the batch size (default: 48)")
    parser.add_argument("--engines", default="zhinao-evaluate,lm-eval fp32,lm-eval auto")
    parser.add_argument("--output", type=pathlib.Path)
    options = parser.parse_args()
    engines = [e.strip() for e in options.engines.split(",")]
    report = {"processor": processor(), "threads": options.threads, "questions": options.count, "shots": options.shots,
              "model": options.model.name, "batch": {}, "seconds": {e: [] for e in engines}, "processor_seconds": {e: [] for e in engines},
              "accuracy": {}}
    model = options.model.resolve()
    answers = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        questions, dev = make_questions.write(work, options.count)
        print(f"{report['processor']}, {options.threads} threads, {options.count} questions, {options.shots}-shot", flush=True)
        batches = options.batches.split(",")
        for name in [e for e in engines if e in DTYPES]:
            short = head(questions, options.trial)
            trials = {b: round(lm_eval(model, short, dev, options.shots, DTYPES[name], b, options.threads)["seconds"], 1) for b in batches}
            report["batch"][name] = min(trials, key=trials.get)
            print(f"{name}: batch {report['batch'][name]}; seconds of {options.trial} questions by batch: {trials}", flush=True)
        for turn in range(options.turns):
            for name in engines:
                if name in DTYPES:
                    found = lm_eval(model, questions, dev, options.shots, DTYPES[name], report["batch"][name], options.threads)
                    report["versions"] = found["versions"]
                else:
                    found = tool.run(model, questions, dev, options.shots, "letters", work, options.threads)
                report["seconds"][name].append(round(found["seconds"], 2))
                report["processor_seconds"][name].append(round(found["processor_seconds"], 2))
                report["accuracy"][name] = found["results"]["acc"]
                answers[name] = {i: item["predictions"]["acc"] for i, item in found["items"].items()}
                print(f"turn {turn + 1}: {name} {found['seconds']:.1f} s ({found['processor_seconds']:.1f} s of the cores), acc {found['results']['acc']:.3f}", flush=True)
    report["median"] = {name: statistics.median(times) for name, times in report["seconds"].items()}
    for name in engines:
        line = f"{name}: median {report['median'][name]:.1f} s"
        if name in DTYPES and "zhinao-evaluate" in engines:
            ratio = report["median"][name] / report["median"]["zhinao-evaluate"]
            report.setdefault("ratio", {})[name] = round(ratio, 2)
            same = sum(answers[name][i] == choice for i, choice in answers["zhinao-evaluate"].items())
            line += f", {ratio:.2f} times ours; {same} of {options.count} predictions the same"
        print(line)
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
