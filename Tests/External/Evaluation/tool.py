"""`zhinao-evaluate` on the questions of make_questions.py."""
import json, pathlib, resource, subprocess, time

ROOT = pathlib.Path(__file__).resolve().parents[3]
EVALUATE = ROOT / ".build/release/zhinao-evaluate"


def children():
    """Seconds that processes which ended have run on all cores."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(model, questions, dev, shots, style, work, threads, arithmetic="exact"):
    """As harness.evaluate; `seconds` is the whole process with the reading of the model."""
    work = pathlib.Path(work)
    result, samples = work / "result.json", work / "samples.jsonl"
    command = [EVALUATE, model, "--task", f"choices={questions}", "--mode", "lm-eval", "--style", style, "--shots", shots,
               *(["--examples", dev] if shots else []), "--output", result, "--samples", samples, "--overwrite", "--threads", threads,
               "--arithmetic", arithmetic]
    start, processor = time.perf_counter(), children()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=work)
    seconds, processor = time.perf_counter() - start, children() - processor
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr[-2000:]}")
    found = json.loads(result.read_text())["results"]["choices"]
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    items = {row["id"]: row["details"] for row in rows}
    return {"results": {name.split(",")[0]: value for name, value in found.items() if name.startswith("acc") and name.endswith(",none")
                        and name.count("_stderr") + name.count("_interval") == 0},
            "seconds": seconds, "processor_seconds": processor, "items": items}
