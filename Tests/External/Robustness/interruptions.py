"""Interrupts a quantization by SIGINT, by SIGTERM, and by truncating a source file: interruptions.py MODEL_DIR CALIBRATION [WINDOWS=16].
Each must end with its exit code and one message, leave nothing under the final name, and continue afterwards to the bytes of
an uninterrupted run. The script uses .build/release."""

import hashlib, os, shutil, signal, subprocess, sys, tempfile, time

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", ".build/release")
model, calibration = sys.argv[1], sys.argv[2]
windows = sys.argv[3] if len(sys.argv) > 3 else "16"
work = tempfile.mkdtemp()
copy = f"{work}/model"
shutil.copytree(model, copy)
failures = 0


def start(out):
    return subprocess.Popen([f"{root}/zhinao-quantize", copy, "--calibration", calibration, "--samples", windows,
                             "--sequence-length", "256", "-o", out], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def digest(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()


def expect(condition, text):
    global failures
    print(("ok   " if condition else "FAIL ") + text)
    failures += not condition


whole = f"{work}/whole.zhinao"
began = time.time()
start(whole).communicate()
seconds = time.time() - began
for number, code in [(signal.SIGINT, 130), (signal.SIGTERM, 130)]:
    out = f"{work}/{number.name}.zhinao"
    process = start(out)
    time.sleep(seconds / 2)
    process.send_signal(number)
    message = process.communicate()[1].strip().splitlines()[-1]
    expect(process.returncode == code, f"{number.name}: exit {process.returncode}, \"{message}\"")
    expect(not os.path.exists(out), f"{number.name}: nothing under the final name")
    expect(start(out).wait() == 0 and digest(out) == digest(whole), f"{number.name}: continued to the same bytes")
out = f"{work}/cut.zhinao"
shard = sorted(f for f in os.listdir(copy) if f.endswith(".safetensors"))[0]
process = start(out)
time.sleep(seconds / 3)
size = os.path.getsize(f"{copy}/{shard}")
os.truncate(f"{copy}/{shard}", size // 5)
message = process.communicate()[1].strip().splitlines()
expect(process.returncode == 74, f"truncated shard: exit {process.returncode}, \"{' / '.join(message[-2:])}\"")
expect(not os.path.exists(out), "truncated shard: nothing under the final name")
shutil.copy(f"{model}/{shard}", f"{copy}/{shard}")
expect(start(out).wait() == 0 and digest(out) == digest(whole), "truncated shard: put back, continued to the same bytes")
expect(not [f for f in os.listdir(work) if f.endswith((".tmp", ".partial"))], "no leftovers")
shutil.rmtree(work)
sys.exit(1 if failures else 0)
