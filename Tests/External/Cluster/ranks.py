"""Runs jobs on several ranks of this machine and compares with one process, byte for byte; kills ranks and continues.

ranks.py TOOLS MODEL CALIBRATION [--launcher openmpi|mpich] [--kills N] [--seed N] [--quick] [--text FILE] [OPTION ...]

TOOLS is the folder of programs that were built with the trait MPI for the launcher's library. --text is what perplexity and compare read.
Other options go to zhinao-quantize.
"""

import argparse, hashlib, json, os, platform, queue, random, shutil, signal, subprocess, sys, tempfile, threading, time

parser = argparse.ArgumentParser()
parser.add_argument("tools")
parser.add_argument("model")
parser.add_argument("calibration")
parser.add_argument("--launcher", default="openmpi", choices=["openmpi", "mpich"])
parser.add_argument("--kills", type=int, default=15)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--quick", action="store_true", help="one set of options, no items, no slow or stopped rank")
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
                                         ["--method", "rtn"],
                                         ["--target-bits", "4.5", "--bit-choices", "3:128,4:128,8:128"], ["--target-kl", "0.02"]]
    for number, more in enumerate(sets):
        expected = f"{scratch}/one-{number}.zhinao"
        run(quantize(expected, *more))
        want = digest(expected)
        turns = [(2, 1, ""), (4, 1, ""), (3, 2, "")] + ([(4, 1, "avx2")] if platform.machine() == "x86_64" else [])
        for ranks, threads, isa in turns:
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


def same_encoders():
    """Vectors of an encoder, and scores of a cross-encoder, beside those in 8 bits."""
    search = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "Sources", "DemoModels", "tiny-search")
    for name in ["encoder", "reranker"]:
        texts, packed = f"{scratch}/{name}.jsonl", f"{scratch}/{name}.zhinao"
        with open(texts, "w") as file:
            lines = [json.loads(line) for line in open(f"{search}/corpus.jsonl")]
            for first, second in zip(lines, lines[1:]):
                file.write(json.dumps({"query": first["text"][:60], "passage": second["text"]} if name == "reranker"
                                      else {"text": first["text"]}) + "\n")
        run([tool("zhinao-quantize"), f"{search}/{name}", "--method", "rtn", "--bits", "8", "-o", packed])
        results = []
        for ranks in [0, 1, 2, 4]:
            result = run(launch(ranks) + [tool("zhinao-verify"), "compare", f"{search}/{name}", packed, "--text", texts, "--json"])
            values = json.loads(result.stdout)
            values.pop("seconds")
            results.append(values)
        check(all(values == results[0] for values in results), f"compare of {name}s on 1, 2 and 4 ranks")


def normalized(value):
    """Without what tells runs apart: times, speeds, commands, and tokens that ran, which depend on what each rank has kept."""
    if isinstance(value, dict):
        drop = ("second", "time", "date", "rate", "per_s", "start", "end", "command", "tokens_run", "machine", "folder", "path")
        return {key: normalized(item) for key, item in value.items() if not any(word in key for word in drop)}
    return [normalized(item) for item in value] if isinstance(value, list) else value


def same_items():
    """Choices, answers, vectors, an index, and an adapter of three steps."""
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
        run(launch(ranks) + [tool("zhinao-evaluate"), arguments.model, "--task", f"choices={demo}/choices/test.jsonl", "--task",
                             f"generate={demo}/generation", "--task", f"needle-en={demo}/haystack/en.txt", "--lengths", "512,768",
                             "--depths", "0,50,100", "--max-new-tokens", "16", "--examples", f"{demo}/choices/dev.jsonl", "--shots", "2", "--output", f"{out}/results.json",
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
            "results of choices and answers": json.dumps(normalized(result.get("results", result)), sort_keys=True),
            "choices and answers, item by item": digest(f"{out}/samples.jsonl"),
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
    done, longest, rounds, told, silent, launchers = 0, 0.0, 0, 0, 0, 0
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
            is_told = has_begun(alive, output) and rank_number(victim) > 0
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
            # The job may have ended meanwhile.
            is_told = is_told and not os.path.exists(output)
            # MPICH's launcher sometimes fails itself, or is faster than rank 0 in spite of its option and kills it.
            if not lines and ("EXIT STRING: Killed" in text or "[mpiexec@" in text):
                launchers += is_told
                continue
            told += is_told
            if is_told and len(lines) != 1:
                silent += 1
                print(text)
        check(digest(output) == want, f"round {rounds}: after {done} kills the file of one process")
    print(f"{done} kills, at most {longest:.1f} s until all had ended")
    check(silent == 0, f"{told} kills of other ranks than 0 are explained by one message each"
          + (f", {launchers} by the launcher only" if launchers else ""))


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


def has_begun(ranks, output):
    """Whether the ranks have joined: rank 0 then locks the output."""
    lock = os.path.realpath(os.path.join(os.path.dirname(output), f".{os.path.basename(output)}.lock"))
    for rank in ranks:
        try:
            if any(os.path.realpath(f"/proc/{rank}/fd/{name}") == lock for name in os.listdir(f"/proc/{rank}/fd")):
                return True
        except OSError:
            pass
    return False


def rank_number(process):
    for entry in open(f"/proc/{process}/environ").read().split("\0"):
        name, _, value = entry.partition("=")
        if name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK"):
            return int(value)
    return -1


def on_rank(number, name, value, other, command):
    """A script that runs a command in which $NAME has one value on a rank and another on the others."""
    script = tempfile.mktemp(suffix=".sh", dir=scratch)
    with open(script, "w") as file:
        file.write(f'#!/bin/sh\n{name}="{other}"\n[ "${{OMPI_COMM_WORLD_RANK:-$PMI_RANK}}" = {number} ] && {name}="{value}"\nexec '
                   + " ".join('"' + part + '"' for part in command) + "\n")
    os.chmod(script, 0o755)
    return script


def errors(text):
    return [line for line in text.splitlines() if "error: " in line]


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
    command = quantize(f"{scratch}/differ.zhinao")
    command[1] = "$model"
    result = subprocess.run(launch(2) + [on_rank(1, "model", other, arguments.model, command)], capture_output=True, text=True,
                            timeout=LIMIT)
    check(result.returncode != 0 and weights in result.stderr and len(errors(result.stderr)) == 1,
          "a model that differs in one byte: one message that names the file")
    result = subprocess.run(launch(2) + [on_rank(1, "model", f"{scratch}/nowhere", arguments.model, command)], capture_output=True,
                            text=True, timeout=LIMIT)
    check(result.returncode != 0 and "rank 1 on " in result.stderr and "nowhere" in result.stderr
          and len(errors(result.stderr)) == 1, "a model that is not on rank 1: one message that names the rank and the path")
    # Rank 1 runs a program of another version: its name in the program's file is changed.
    program = open(tool("zhinao-quantize"), "rb").read()
    version = run([tool("zhinao-quantize"), "--version"]).stdout.split()[-1].encode()
    names = b"zhinao-toolchain " + version
    check(names in program, "the program's file holds its version")
    with open(f"{scratch}/zhinao-quantize", "wb") as file:
        file.write(program.replace(names, names[:-1] + b"9"))
    os.chmod(f"{scratch}/zhinao-quantize", 0o755)
    command = ["$program"] + quantize(f"{scratch}/differ.zhinao")[1:]
    path = os.path.realpath(tool("zhinao-quantize"))
    result = subprocess.run(launch(2) + [on_rank(1, "program", f"{scratch}/zhinao-quantize", path, command)], capture_output=True,
                            text=True, timeout=LIMIT)
    check(result.returncode != 0 and "the program differs" in result.stderr and len(errors(result.stderr)) == 1,
          "another version of the program on rank 1: one message")


def full_disk():
    """A disk of one rank that is full: of rank 1, which has activations there, and of rank 0, which writes the layers."""
    disk = f"{scratch}/disk"
    os.mkdir(disk)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", disk], capture_output=True).returncode != 0:
        print("skipped  full disks: this system does not let us mount one")
        return
    try:
        roomy = f"{scratch}/roomy"
        os.mkdir(roomy)
        output = f"{scratch}/full-1.zhinao"
        command = quantize(output, "--scratch", "$scratch")
        began = time.time()
        result = subprocess.run(launch(2) + [on_rank(1, "scratch", disk, roomy, command)], capture_output=True, text=True, timeout=LIMIT)
        found = errors(result.stderr)
        check(result.returncode != 0 and len(found) == 1 and "rank 1 on " in found[0] and disk in found[0],
              f"a full disk of rank 1: one message after {time.time() - began:.1f} s: {' '.join(found)}")
        run(launch(3) + quantize(output))
        check(digest(output) == digest(f"{scratch}/one-0.zhinao"), "three ranks with other disks then write the file of one process")
        began = time.time()
        output = f"{disk}/full-0.zhinao"
        result = subprocess.run(launch(2) + quantize(output), capture_output=True, text=True, timeout=LIMIT)
        found = errors(result.stderr)
        check(result.returncode != 0 and len(found) == 1 and "the disk has" in found[0],
              f"a full disk of rank 0: one message after {time.time() - began:.1f} s: {' '.join(found)}")
        kept = sorted(os.listdir(output + ".partial")) if os.path.isdir(output + ".partial") else []
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        run(launch(2) + quantize(output))
        check(digest(output) == digest(f"{scratch}/one-0.zhinao"), f"with more room, two ranks go on from {', '.join(kept) or 'nothing'}")
    finally:
        subprocess.run(["umount", disk], check=True)


def slow():
    """A rank that hardly gets the processor: it is named, the others wait for it, and the file is the same."""
    output, whole = f"{scratch}/slow.zhinao", f"{scratch}/slow-one.zhinao"
    # Enough work between two operations.
    options = ["--threads", "1", "--samples", "96", "--sequence-length", "512"]
    run(quantize(whole, *options))
    process = subprocess.Popen(launch(3) + quantize(output, *options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stderr], daemon=True).start()
    while not has_begun(descendants(process.pid), output) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.5)
    victim = next((rank for rank in descendants(process.pid) if rank_number(rank) == 2), None)
    if victim is None:
        return check(False, "the job ended before a rank could be slowed down")
    began, text = time.time(), ""
    try:
        while time.time() - began < 90 and "have waited" not in text and process.poll() is None:
            os.kill(victim, signal.SIGSTOP)
            time.sleep(3)
            os.kill(victim, signal.SIGCONT)
            time.sleep(0.005)
            while not lines.empty():
                text += lines.get()
    except ProcessLookupError:
        pass
    named = [line for line in text.splitlines() if "have waited" in line]
    check(len(named) == 1 and "rank 2 on " in named[0], f"a slow rank is named after {time.time() - began:.1f} s: {' '.join(named)}")
    check(process.wait(timeout=120) == 0 and digest(output) == digest(whole),
          "the others wait for it, and write the file of one process")


def asked_to_stop():
    """Ranks of a training that the launcher tells to stop save their state; another number of ranks continues."""
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "Sources")

    def tune(output):
        return [tool("zhinao-tune"), arguments.model, "--data", f"{root}/zhinao-tune/Resources/demo/conversations.jsonl", "--steps", "40",
                "--batch-size", "1", "--accumulation", "8", "--shards", "4", "--checkpoint-every", "1000", "--threads", "1", "--output",
                output]

    whole, output = f"{scratch}/tuned-whole", f"{scratch}/tuned-stopped"
    start = time.time()
    run(tune(whole))
    seconds = time.time() - start
    process = subprocess.Popen(launch(2) + tune(output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(max(2.0, seconds / 3))
    began = time.time()
    # As srun and a batch system do: the ranks themselves are told. Open MPI's and MPICH's launchers wait for a moment only.
    for rank in descendants(process.pid):
        os.kill(rank, signal.SIGTERM)
    _, text = process.communicate(timeout=LIMIT)
    saved = os.path.isdir(output + ".partial")
    check(process.returncode != 0 and saved and text.count("stopping: ") == 1 and not os.path.exists(output),
          f"a training that is told to stop saves its state and ends after {time.time() - began:.1f} s")
    run(launch(4) + tune(output))
    check(digest(f"{output}/adapter_model.safetensors") == digest(f"{whole}/adapter_model.safetensors"),
          "four ranks then make the adapter of one process")


same_files()
if arguments.text:
    same_results()
    if not arguments.quick:
        same_encoders()
        same_items()
        asked_to_stop()
refused()
full_disk()
killed()
if not arguments.quick:
    slow()
    stopped()
shutil.rmtree(scratch)
print("FAILED" if failures else "all as expected")
sys.exit(1 if failures else 0)
