"""Changes random bytes of a .zhinao file, one at a time, and runs `zhinao-verify integrity` each time. Every change must
be noticed, and nothing may crash: flip_bytes.py FILE [COUNT=10000] [SEED=1]. It uses .build/release."""

import os, random, shutil, subprocess, sys, tempfile

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
tool = os.path.join(root, ".build/release/zhinao-verify")
count = int(sys.argv[2]) if len(sys.argv) > 2 else 10000
random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
folder = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
path = f"{folder}/flipped.zhinao"
shutil.copy(sys.argv[1], path)
size, unseen, crashed = os.path.getsize(path), 0, 0
with open(path, "r+b", buffering=0) as f:
    for i in range(count):
        at, change = random.randrange(size), random.randrange(1, 256)
        old = os.pread(f.fileno(), 1, at)
        os.pwrite(f.fileno(), bytes([old[0] ^ change]), at)
        code = subprocess.run([tool, "integrity", path, "--quiet", "--threads", "1"], capture_output=True).returncode
        os.pwrite(f.fileno(), old, at)
        if code == 0:
            unseen += 1
            print(f"byte {at}: not seen")
        elif code != 65:
            crashed += 1
            print(f"byte {at}: exit {code}")
shutil.rmtree(folder)
print(f"{count} changes in {size} bytes: {unseen} not seen, {crashed} crashed")
sys.exit(1 if unseen or crashed else 0)
