"""Kills zhinao-evaluate with SIGKILL at random moments, again and again, lets it finish, and compares results, samples and report with
those of an uninterrupted run. Times and what was run are left out of the comparison.

evaluate_kills.py MODEL [KILLS=10] [SEED=1] [OPTION ...]; uses .build/release and the data of the demo. Options go to zhinao-evaluate:
--compare OTHER."""

import json, os, random, shutil, signal, subprocess, sys, tempfile, time

root = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
tool = os.path.join(root, ".build/release/zhinao-evaluate")
data = os.path.join(root, "Sources/zhinao-evaluate/Resources/demo")
model = os.path.abspath(sys.argv[1])
kills = int(sys.argv[2]) if len(sys.argv) > 2 else 10
random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
options = sys.argv[4:]
decoder_tasks = {
    "choices": ["--task", f"choices={data}/choices", "--shots", "2"],
    "opencompass": ["--task", f"choices={data}/choices", "--shots", "1", "--mode", "string"],
    "generate": ["--task", f"generate={data}/generation", "--max-new-tokens", "64", "--metric", "edit_similarity"],
    "needle": ["--task", f"needle-en={data}/haystack/en.txt", "--task", f"needle-value-zh={data}/haystack/zh.txt",
               "--lengths", "400,700,1000"],
}
encoder_tasks = {
    "retrieval": ["--task", f"retrieval={data}/retrieval"],
    "reranking": ["--task", f"reranking={data}/reranking"],
}
is_encoder = json.load(open(f"{model}/config.json"))["model_type"] == "bert" if os.path.isdir(model) else False


def run(name, folder, timeout=None):
    command = [tool, model, *(encoder_tasks if is_encoder else decoder_tasks)[name], "--output", f"{folder}/r.json", "--samples",
               f"{folder}/s.jsonl", "--report", f"{folder}/r.md", "--quiet", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return False
    if process.returncode:
        sys.exit(f"FAILED: {name} ended with {process.returncode}: {errors}")
    return True


def result(folder):
    found = json.load(open(f"{folder}/r.json"))
    kept = {key: found.get(key) for key in ("results", "comparison", "n-samples", "configs", "data_files")}
    return json.dumps(kept, sort_keys=True), open(f"{folder}/s.jsonl", encoding="utf-8").read()


for name in encoder_tasks if is_encoder else decoder_tasks:
    with tempfile.TemporaryDirectory() as scratch:
        whole = f"{scratch}/whole"
        os.mkdir(whole)
        start = time.time()
        run(name, whole)
        seconds = time.time() - start
        expected = result(whole)
        done, rounds, moments = 0, 0, []
        while done < kills:
            rounds += 1
            folder = f"{scratch}/{rounds}"
            os.mkdir(folder)
            while not run(name, folder, timeout=random.uniform(0.02, seconds) if done < kills else None):
                done += 1
                journal = f"{folder}/r.json.journal" if os.path.isdir(f"{folder}/r.json.journal") else f"{folder}/r.md.journal"
                moments.append(sum(max(0, open(f"{journal}/{file}", "rb").read().count(b"\n") - 1)
                                   for file in os.listdir(journal) if file.endswith(".jsonl")) if os.path.isdir(journal) else 0)
                left = [file for file in os.listdir(folder) if file in ("r.json", "s.jsonl", "r.md")]
                if left and os.path.exists(f"{folder}/r.json"):
                    json.load(open(f"{folder}/r.json"))
                for file in left:
                    os.remove(f"{folder}/{file}")
            if result(folder) != expected:
                sys.exit(f"FAILED: {name}: another result after {done} kills")
            shutil.rmtree(folder)
        print(f"{name}: {seconds:.1f} s uninterrupted; {done} kills with {', '.join(map(str, moments))} items kept; the same results in all "
              f"{rounds} runs that ended", flush=True)
