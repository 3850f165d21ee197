"""Runs jobs on several ranks of this machine and compares with one process, byte for byte; kills ranks and continues.

ranks.py TOOLS MODEL CALIBRATION [--launcher openmpi|mpich] [--kills N] [--seed N] [--quick] [--text FILE] [OPTION ...]

TOOLS is the folder of programs that were built with the trait MPI for the launcher's library. --text is what perplexity and compare read.
Other options go to zhinao-quantize.
"""

import argparse, hashlib, json, os, random, shutil, signal, subprocess, sys, tempfile, time

parser = argparse.ArgumentParser()
parser.add_argument("tools")
parser.add_argument("model")
parser.add_argument("calibration")
parser.add_argument("--launcher", default="openmpi", choices=["openmpi", "mpich"])
parser.add_argument("--kills", type=int, default=15)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--quick", action="store_true", help="one set of options, no stopped rank")
parser.add_argument("--text")
arguments, options = parser.parse_known_args()
random.seed(arguments.seed)
scratch = tempfile.mkdtemp()
SHARDS = 4
# No message may take longer: a rank counts as lost after 15 seconds of silence.
LIMIT = 30
failures = []


def check(holds, what):
    print(("ok      " if holds else "FAILED  ") + what, flush=True)
    if not holds:
        failures.append(what)


def launch(ranks):
    if ranks == 0:
        return []
    if arguments.launcher == "mpich":
        # Otherwise it kills the other ranks at once, before rank 0 can say why.
        return ["mpiexec.mpich", "-disable-auto-cleanup", "-n", str(ranks)]
    return ["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)]


def tool(name):
    return os.path.join(arguments.tools, name)


def quantize(output, *more):
    return [tool("zhinao-quantize"), arguments.model, "--calibration", arguments.calibration, "--samples", "16",
            "--sequence-length", "128", "--shards", str(SHARDS), "-o", output, *options, *more]


def digest(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()


def run(command, **environment):
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=900)
    if result.returncode != 0:
        check(False, f"{' '.join(command)}: {result.stderr[-2000:]}")
    return result


def descendants(process):
    """The ranks of a launcher: its descendants that run a program of ours."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(name))
        except OSError:
            pass
    found, waiting = [], [process]
    while waiting:
        for child in children.get(waiting.pop(), []):
            waiting.append(child)
            try:
                if os.path.basename(os.readlink(f"/proc/{child}/exe")).startswith("zhinao-"):
                    found.append(child)
            except OSError:
                pass
    return sorted(found)


def same_files():
    sets = [[]] if arguments.quick else [[], ["--preset", "best"], ["--preset", "autogptq"], ["--no-sym", "--bits", "3"],
                                         ["--error-propagation", "--refinement-rounds", "2"], ["--no-true-sequential"],
                                         ["--method", "rtn"]]
    for number, more in enumerate(sets):
        expected = f"{scratch}/one-{number}.zhinao"
        run(quantize(expected, *more))
        want = digest(expected)
        for ranks, threads, isa in [(2, 1, ""), (4, 1, ""), (3, 2, ""), (4, 1, "avx2")]:
            output = f"{scratch}/ranks-{number}-{ranks}-{threads}{isa}.zhinao"
            start = time.time()
            run(launch(ranks) + quantize(output, *more, "--threads", str(threads)),
                **({"ZHINAO_ISA": isa} if isa else {}))
            check(os.path.exists(output) and digest(output) == want,
                  f"{' '.join(more) or 'defaults'}: {ranks} ranks x {threads} threads {isa} as one process "
                  f"({time.time() - start:.1f} s)")


def same_results():
    model = f"{scratch}/one-0.zhinao"
    for command in [["perplexity", model], ["compare", arguments.model, model]]:
        results = []
        for ranks in [0, 1, 2, 4]:
            result = run(launch(ranks) + [tool("zhinao-verify"), *command, "--text", arguments.text, "--window", "128",
                                          "--max-windows", "40", "--json"])
            values = json.loads(result.stdout)
            values.pop("seconds")
            results.append(values)
        check(all(values == results[0] for values in results), f"{command[0]} on 1, 2 and 4 ranks")


def normalized(value):
    """Without what tells runs apart: times, speeds, commands, and tokens that ran, which depend on what each rank has kept."""
    if isinstance(value, dict):
        drop = ("second", "time", "date", "rate", "per_s", "start", "end", "command", "tokens_run", "machine", "folder", "path")
        return {key: normalized(item) for key, item in value.items() if not any(word in key for word in drop)}
    return [normalized(item) for item in value] if isinstance(value, list) else value


def same_items():
    """Choices, vectors, an index, and an adapter of three steps."""
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "Sources")
    demo, search = f"{root}/zhinao-evaluate/Resources/demo", f"{root}/DemoModels/tiny-search"
    texts = f"{scratch}/texts.txt"
    with open(texts, "w") as file:
        for line in open(f"{search}/corpus.jsonl"):
            file.write(json.loads(line)["text"].replace("\n", " ") + "\n")
    found = {}
    for ranks in [0, 1, 2, 4]:
        threads = ["--threads", "1"]
        out = f"{scratch}/items-{ranks}"
        os.makedirs(out)
        run(launch(ranks) + [tool("zhinao-evaluate"), arguments.model, "--task", f"choices={demo}/choices/test.jsonl", "--examples",
                             f"{demo}/choices/dev.jsonl", "--shots", "2", "--output", f"{out}/results.json",
                             "--samples", f"{out}/samples.jsonl", *threads])
        # Standard input reaches rank 0 only.
        command = launch(ranks) + [tool("zhinao-search"), "embed", f"{search}/encoder", "-o", f"{out}/vectors.npy", *threads]
        subprocess.run(command, stdin=open(texts), check=True, capture_output=True, timeout=300)
        run(launch(ranks) + [tool("zhinao-search"), "index", f"{search}/encoder", "--corpus", f"{search}/corpus.jsonl", "-o",
                             f"{out}/index", *threads])
        run(launch(ranks) + [tool("zhinao-tune"), arguments.model, "--data", f"{root}/zhinao-tune/Resources/demo/conversations.jsonl",
                             "--steps", "3", "--batch-size", "1", "--accumulation", "8", "--shards", "4", "--validation-fraction", "0.2",
                             "--output", f"{out}/adapter", *threads])
        result = json.load(open(f"{out}/results.json"))
        found[ranks] = {
            "choices": json.dumps(normalized(result.get("results", result)), sort_keys=True),
            "choices, item by item": digest(f"{out}/samples.jsonl"),
            "vectors of a corpus": digest(f"{out}/vectors.npy"),
            "an index": digest(f"{out}/index/embeddings.safetensors"),
            "an adapter of three steps": digest(f"{out}/adapter/adapter_model.safetensors"),
        }
    for what in found[0]:
        check(all(values[what] == found[0][what] for values in found.values()), f"{what} on 1, 2 and 4 ranks")


def killed():
    expected = f"{scratch}/one-0.zhinao"
    want = digest(expected)
    start = time.time()
    run(launch(2) + quantize(f"{scratch}/timed.zhinao"))
    seconds = time.time() - start
    done, longest, rounds, told, silent = 0, 0.0, 0, 0, 0
    while done < arguments.kills:
        rounds += 1
        output = f"{scratch}/killed-{rounds}.zhinao"
        while not os.path.exists(output):
            ranks = random.choice([2, 3, 4])
            process = subprocess.Popen(launch(ranks) + quantize(output), stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, text=True)
            try:
                process.wait(timeout=random.uniform(0.3, seconds) if done < arguments.kills else None)
                if process.returncode != 0:
                    check(False, f"{ranks} ranks: {process.stderr.read()[-2000:]}")
                    return
                break
            except subprocess.TimeoutExpired:
                pass
            alive = descendants(process.pid)
            if not alive:
                process.wait()
                continue
            victim = random.choice(alive)
            # Before the ranks know each other, and when rank 0 is killed, nobody can say so but the launcher.
            is_told = os.path.isdir(output + ".partial") and rank_number(victim) > 0
            began = time.time()
            os.kill(victim, signal.SIGKILL)
            try:
                _, text = process.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                check(False, f"a rank was killed, and the others hang: {descendants(process.pid)}")
                process.kill()
                return
            longest = max(longest, time.time() - began)
            done += 1
            lines = [line for line in text.splitlines() if line.startswith("error: ")]
            told += is_told
            if is_told and len(lines) != 1:
                silent += 1
                print(text)
        check(digest(output) == want, f"round {rounds}: after {done} kills the file of one process")
    print(f"{done} kills, at most {longest:.1f} s until all had ended")
    check(silent == 0, f"{told} kills of other ranks than 0 are explained by one message each")


def stopped():
    """A rank that does not answer, as on a machine that has vanished."""
    process = subprocess.Popen(launch(2) + quantize(f"{scratch}/stopped.zhinao", "--preset", "best", "--samples", "96",
                                                   "--sequence-length", "512", "--threads", "1"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(3)
    ranks = descendants(process.pid)
    if len(ranks) < 2:
        return check(False, "the job ended before a rank could be stopped")
    last = next(rank for rank in ranks if rank_number(rank) == 1)
    os.kill(last, signal.SIGSTOP)
    began = time.time()
    text = ""
    try:
        while time.time() - began < LIMIT and "has not answered" not in text:
            line = process.stderr.readline()
            if not line:
                break
            text += line
        check("rank 1 on" in text and "has not answered" in text,
              f"a stopped rank is named after {time.time() - began:.1f} s")
    finally:
        os.kill(last, signal.SIGKILL)
        process.wait(timeout=LIMIT)


def rank_number(process):
    for entry in open(f"/proc/{process}/environ").read().split("\0"):
        name, _, value = entry.partition("=")
        if name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK"):
            return int(value)
    return -1


def refused():
    result = subprocess.run(launch(3) + quantize(f"{scratch}/refused.zhinao", "--shards", "2"), capture_output=True,
                            text=True, timeout=LIMIT)
    check(result.returncode != 0 and result.stderr.count("3 ranks need at least 3 shards") == 1,
          "fewer shards than ranks: one message")
    # Rank 1 sees another model under the same name.
    other = f"{scratch}/other"
    shutil.copytree(arguments.model, other)
    weights = next(name for name in sorted(os.listdir(other)) if name.endswith(".safetensors"))
    with open(f"{other}/{weights}", "r+b") as file:
        file.seek(-2, os.SEEK_END)
        last = file.read(1)
        file.seek(-2, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    script = f"{scratch}/differ.sh"
    command = quantize(f"{scratch}/differ.zhinao")
    command[1] = "$model"
    with open(script, "w") as file:
        file.write(f'#!/bin/sh\nmodel="{arguments.model}"\n'
                   '[ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" = 1 ] && model="' + other + '"\nexec '
                   + " ".join('"' + part + '"' for part in command) + "\n")
    os.chmod(script, 0o755)
    result = subprocess.run(launch(2) + [script], capture_output=True, text=True, timeout=LIMIT)
    check(result.returncode != 0 and weights in result.stderr and result.stderr.count("error: ") == 1,
          "a model that differs in one byte: one message that names the file")


same_files()
if arguments.text:
    same_results()
    same_items()
refused()
killed()
if not arguments.quick:
    stopped()
shutil.rmtree(scratch)
print("FAILED" if failures else "all as expected")
sys.exit(1 if failures else 0)
