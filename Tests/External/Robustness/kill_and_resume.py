"""Kills a quantization with SIGKILL at random moments, again and again, lets it finish, and compares with an uninterrupted run.

kill_and_resume.py MODEL_DIR CALIBRATION [KILLS=25] [SEED=1] [OPTION ...]; uses the executables in .build/release. Options go to
zhinao-quantize: --preset best.
"""

import hashlib, json, os, random, shutil, signal, subprocess, sys, tempfile, time

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
tool = os.path.join(root, ".build/release/zhinao-quantize")
model, calibration = sys.argv[1], sys.argv[2]
kills = int(sys.argv[3]) if len(sys.argv) > 3 else 25
random.seed(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
scratch = tempfile.mkdtemp()


def command(output):
    return [tool, model, "--calibration", calibration, "--samples", "8", "--sequence-length", "256", "-o", output, "--quiet", *sys.argv[5:]]


def digest(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()


def kept(output):
    folder = output + ".partial"
    if not os.path.isdir(folder):
        return 0
    return sum(name.startswith(("layer-", "statistics-")) for name in os.listdir(folder))


start = time.time()
whole = f"{scratch}/whole.zhinao"
subprocess.run(command(whole), check=True, capture_output=True)
seconds = time.time() - start
expected = digest(whole)
print(f"uninterrupted: {seconds:.1f} s, {expected[:16]}")

done, rounds, failures, moments = 0, 0, 0, []
while done < kills:
    rounds += 1
    output = f"{scratch}/killed-{rounds}.zhinao"
    while True:
        before = kept(output)
        process = subprocess.Popen(command(output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(timeout=random.uniform(0.05, max(0.6, seconds * 0.7)) if done < kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
            after = kept(output)
            moments.append((before, after))
            if os.path.exists(output):
                failures += 1
                print(f"kill {done}: layers and statistics {before} -> {after}, output exists: {os.path.exists(output)}")
            continue
        if process.returncode != 0:
            failures += 1
            print("failed:", process.stderr.read().decode())
        break
    same = os.path.exists(output) and digest(output) == expected
    left = [n for n in os.listdir(scratch) if n.startswith(os.path.basename(output)) and not n.endswith(("zhinao", "report.json"))]
    print(f"round {rounds}: {done} kills so far, identical: {same}, left behind: {left}")
    failures += (not same) + bool(left)
print("layers and statistics kept before -> after each kill:", " ".join(f"{a}-{b}" for a, b in moments))
print(f"{done} kills, {failures} failures")
shutil.rmtree(scratch)
sys.exit(1 if failures else 0)
