"""Kills zhinao-tune with SIGKILL at random moments, again and again, lets it finish, and compares the adapter with that of an
uninterrupted run: every byte of its tensors and its configuration, and the losses of every step. Once in a while the run is told to stop
with SIGINT or SIGTERM instead, and continues with another number of threads.

tune_kills.py MODEL [KILLS=20] [SEED=1] [OPTION ...]; uses .build/release. Options go to zhinao-tune."""

import hashlib, json, os, random, shutil, signal, subprocess, sys, tempfile, time

root = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
tool = os.path.join(root, ".build/release/zhinao-tune")
model = os.path.abspath(sys.argv[1])
kills = int(sys.argv[2]) if len(sys.argv) > 2 else 20
random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
options = sys.argv[4:]
# Every part of the state: accumulation, dropout, validations with their best values, norms, more than an epoch.
settings = ["--data", f"{root}/Sources/zhinao-tune/Resources/demo/conversations.jsonl", "--validation-fraction", "0.2", "--epochs", "3",
            "--batch-size", "2", "--accumulation", "2", "--dropout", "0.1", "--learning-rate", "2e-3", "--save-module", "norm",
            "--validate-every", "4", "--checkpoint-every", "1", *options]


def run(folder, timeout=None, end=signal.SIGKILL):
    """False when it was ended."""
    command = [tool, model, *settings, "--output", f"{folder}/adapter", "--tensorboard", f"{folder}/events", "--quiet", "--threads",
               str(random.choice((1, 2, 3)))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(end)
        _, errors = process.communicate()
        if process.returncode == 0:
            return True
        if end != signal.SIGKILL and process.returncode != 130:
            sys.exit(f"FAILED: ended with {process.returncode} after signal {end}: {errors}")
        return False
    if process.returncode:
        sys.exit(f"FAILED: ended with {process.returncode}: {errors}")
    return True


def result(folder):
    adapter = f"{folder}/adapter"
    entries = [json.loads(line) for line in open(f"{adapter}/training_log.jsonl", encoding="utf-8")]
    for entry in entries:
        for key in ("seconds", "tokens_per_second"):
            entry.pop(key, None)
    digests = [hashlib.sha256(open(f"{adapter}/{name}", "rb").read()).hexdigest()
               for name in ("adapter_model.safetensors", "adapter_config.json")]
    record = json.load(open(f"{adapter}/tuning.json", encoding="utf-8"))
    record.pop("seconds")
    if os.path.exists(f"{adapter}.partial"):
        sys.exit("FAILED: the checkpoint is still there after the end")
    return digests, entries, record


def state(folder):
    """The step of the checkpoint; -1 when there is none."""
    path = f"{folder}/adapter.partial/checkpoint.safetensors"
    if not os.path.exists(path):
        return -1
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"]["state"])["step"]


with tempfile.TemporaryDirectory() as scratch:
    whole = f"{scratch}/whole"
    os.mkdir(whole)
    start = time.time()
    run(whole)
    seconds = time.time() - start
    expected = result(whole)
    done, rounds, moments = 0, 0, []
    while done < kills:
        rounds += 1
        folder = f"{scratch}/{rounds}"
        os.mkdir(folder)
        while True:
            end = random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
            if run(folder, timeout=random.uniform(0.01, seconds * 0.7) if done < kills else None, end=end):
                break
            done += 1
            moments.append(state(folder))
            if moments[-1] > 0:
                shutil.copytree(f"{folder}/adapter.partial", f"{scratch}/kept", dirs_exist_ok=True)
        if result(folder) != expected:
            sys.exit(f"FAILED: another adapter after {done} interruptions")
    # A kill may come when the adapter is there and the checkpoint not yet away: the same command finishes, another one is refused.
    if os.path.exists(f"{scratch}/kept"):
        shutil.copytree(f"{scratch}/kept", f"{whole}/adapter.partial")
        other = subprocess.run([tool, model, *settings, "--seed", "7", "--output", f"{whole}/adapter.other"], capture_output=True)
        if other.returncode:
            sys.exit(f"FAILED: {other.stderr}")
        os.rename(f"{whole}/adapter", f"{whole}/adapter.mine")
        os.rename(f"{whole}/adapter.other", f"{whole}/adapter")
        if subprocess.run([tool, model, *settings, "--output", f"{whole}/adapter"], capture_output=True).returncode == 0:
            sys.exit("FAILED: the adapter of another tuning was replaced")
        shutil.rmtree(f"{whole}/adapter")
        os.rename(f"{whole}/adapter.mine", f"{whole}/adapter")
        run(whole)
        if result(whole) != expected:
            sys.exit("FAILED: another adapter after a kill behind its writing")
    print(f"{seconds:.1f} s and {len(expected[1])} entries uninterrupted; {done} interruptions with checkpoints of the steps "
          f"{', '.join(map(str, moments))}; the same bytes in all {rounds} runs that ended")
