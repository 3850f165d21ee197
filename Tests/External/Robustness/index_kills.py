"""Kills zhinao-search index with SIGKILL at random moments, again and again, lets it finish, and compares every file with those of an
uninterrupted run; then changes random bytes of the index, each of which zhinao-search verify must notice.

index_kills.py ENCODER_DIR [KILLS=25] [CHANGES=2000] [SEED=1] [OPTION ...]; uses .build/release. Options go to zhinao-search index:
--type int8."""

import hashlib, json, os, random, shutil, signal, subprocess, sys, tempfile, time

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
tool = os.path.join(root, ".build/release/zhinao-search")
model = sys.argv[1]
kills = int(sys.argv[2]) if len(sys.argv) > 2 else 25
changes = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
random.seed(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
scratch = tempfile.mkdtemp()
words = open(os.path.join(root, "Docs/architecture.md"), encoding="utf-8").read().split()
with open(f"{scratch}/corpus.jsonl", "w", encoding="utf-8") as f:
    for i in range(6000):
        f.write(json.dumps({"_id": f"d{i}", "title": random.choice(words), "text": " ".join(random.choices(words, k=random.randrange(1, 40)))}) + "\n")


def command(output):
    return [tool, "index", model, "--corpus", f"{scratch}/corpus.jsonl", "-o", output, "--quiet", *sys.argv[5:]]


def digests(folder):
    return {name: hashlib.sha256(open(f"{folder}/{name}", "rb").read()).hexdigest() for name in sorted(os.listdir(folder))}


def kept(output):
    folder = output + ".partial"
    return sum(name.startswith("vectors-") for name in os.listdir(folder)) if os.path.isdir(folder) else 0


start = time.time()
whole = f"{scratch}/whole"
subprocess.run(command(whole), check=True, capture_output=True)
seconds = time.time() - start
expected = digests(whole)
print(f"uninterrupted: {seconds:.1f} s")

done, rounds, failures, moments = 0, 0, 0, []
while done < kills:
    rounds += 1
    output = f"{scratch}/killed-{rounds}"
    while True:
        before = kept(output)
        process = subprocess.Popen(command(output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(timeout=random.uniform(0.05, max(0.3, seconds * 0.7)) if done < kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
            moments.append((before, kept(output)))
            if os.path.exists(output) and digests(output) != expected:
                failures += 1
                print(f"kill {done}: a folder that is not whole")
            if os.path.exists(output):
                break
            continue
        if process.returncode != 0:
            failures += 1
            print("failed:", process.stderr.read().decode())
        break
    same = os.path.isdir(output) and digests(output) == expected
    print(f"round {rounds}: {done} kills so far, identical: {same}")
    failures += not same
    # What a kill during the last cleaning left behind goes with the next run.
    if os.path.isdir(output + ".partial"):
        subprocess.run([*command(output), "--overwrite"], check=True, capture_output=True)
        failures += digests(output) != expected
    left = [n for n in os.listdir(scratch) if n not in ("corpus.jsonl", "whole") and not n.startswith("killed-") or n.endswith(".partial")]
    if left:
        failures += 1
        print("left behind:", left)
print("chunks kept before -> after each kill:", " ".join(f"{a}-{b}" for a, b in moments))
print(f"{done} kills, {failures} failures")

unseen, crashed = 0, 0
names = sorted(expected)
for _ in range(changes):
    # Each file as often as the others: the manifest is small, and every byte of it counts.
    path = f"{whole}/{random.choice(names)}"
    with open(path, "r+b", buffering=0) as f:
        at, change = random.randrange(os.path.getsize(path)), random.randrange(1, 256)
        old = os.pread(f.fileno(), 1, at)
        os.pwrite(f.fileno(), bytes([old[0] ^ change]), at)
        code = subprocess.run([tool, "verify", whole, "--quiet", "--threads", "1"], capture_output=True).returncode
        os.pwrite(f.fileno(), old, at)
    if code == 0:
        unseen += 1
        print(f"{path}, byte {at}: not seen")
    elif code != 65:
        crashed += 1
        print(f"{path}, byte {at}: exit {code}")
print(f"{changes} changes: {unseen} not seen, {crashed} crashed")
shutil.rmtree(scratch)
sys.exit(1 if failures or unseen or crashed else 0)
