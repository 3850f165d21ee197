"""Quantizes the first layers of a 7B shape with a memory limit and compares the plan with the measured time and memory:
plan.py FOLDER [--layers 2] [--samples 128] [--length 2048] [--limit 6GiB] [--shape 7b] [--preset autogptq]. It takes half an hour and uses
.build/release. The samples are random ids."""
import argparse, json, os, pathlib, random, re, subprocess, sys, threading, time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--layers", type=int, default=2)
parser.add_argument("--samples", type=int, default=128)
parser.add_argument("--length", type=int, default=2048)
parser.add_argument("--limit", default="6GiB")
parser.add_argument("--shape", default="7b")
parser.add_argument("--preset", default="autogptq")
options = parser.parse_args()
bin = pathlib.Path(__file__).resolve().parents[3] / ".build/release"
options.folder.mkdir(parents=True, exist_ok=True)
model, ids = options.folder / f"{options.shape}-{options.layers}-layers", options.folder / "random-ids.json"
if not model.exists():
    subprocess.run([bin / "zhinao-bench", "make-model", "--shape", options.shape, "--layers", str(options.layers), "--encoding",
                    "bf16", "-o", model, "--quiet"], check=True)
source = random.Random(1)
json.dump([{"input_ids": [source.randrange(3000) for _ in range(options.length)]} for _ in range(options.samples)],
          open(ids, "w"))
command = [bin / "zhinao-quantize", model, "--calibration", ids, "--samples", options.samples, "--sequence-length",
           options.length, "--preset", options.preset, "--memory-limit", options.limit, "--scratch", options.folder, "-o",
           options.folder / "planned.zhinao", "--overwrite"]
start = time.monotonic()
process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
peaks = {"RssAnon": 0, "VmRSS": 0, "RssShmem": 0}


def sample():
    while process.poll() is None:
        try:
            for line in open(f"/proc/{process.pid}/status"):
                name = line.split(":")[0]
                if name in peaks:
                    peaks[name] = max(peaks[name], int(line.split()[1]) * 1024)
        except OSError:
            pass
        time.sleep(0.1)


thread = threading.Thread(target=sample)
thread.start()
said = []
for raw in process.stderr:
    text = raw.decode().replace("\r", "\n").strip().split("\n")[-1]
    if text:
        said.append(text)
        if not text.startswith("quantize:") or len(said) % 20 == 0:
            print(f"{time.monotonic() - start:7.1f} s  {text}", flush=True)
out = process.stdout.read().decode()
process.wait()
thread.join()
seconds = time.monotonic() - start
print(out, end="")
print("plan said:", next((s for s in said if s.startswith("plan:")), "?"))
print(f"took {seconds:.0f} s; peaks: " + ", ".join(f"{k} {v / 1e9:.2f} GB" for k, v in peaks.items()))
os.remove(options.folder / "planned.zhinao") if process.returncode == 0 else sys.exit(process.returncode)
