"""Gives damaged .zhinao files to every command. Each command must end with an exit code, never by a signal:
damaged_everywhere.py FILE [COUNT=200] [SEED=1]. It uses .build/release. Half of the files have a random byte changed, and half
have a changed header with corrected checksums, as an attacker would make them."""

import os, random, shutil, struct, subprocess, sys, tempfile, zlib

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", ".build/release")
source, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200
random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
work = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
path, out = f"{work}/damaged.zhinao", f"{work}/out"
original = open(source, "rb").read()
open(f"{work}/text", "w").write("One two three, four five six seven. " * 8)
commands = [["zhinao-verify", "integrity", path], ["zhinao-verify", "self-check", path],
            ["zhinao-verify", "perplexity", path, "--text", f"{work}/text", "--window", "16", "--max-windows", "1"],
            ["zhinao-verify", "logits", path, "--ids", "1,2,3", "-o", out], ["zhinao-verify", "tokenize", path],
            ["zhinao-verify", "compare", source, path, "--text", f"{work}/text", "--window", "16", "--max-windows", "1"],
            ["zhinao-verify", "integrity", path, "--provenance", os.path.dirname(source) or "."],
            ["zhinao-chat", path, "--prompt", "a b", "--max-new-tokens", "2"],
            ["zhinao-chat", path, "--prompt", "a", "--max-new-tokens", "1", "--verify", "none"],
            ["zhinao-convert", path, "-o", out], ["zhinao-convert", path, "-o", out + ".zhinao", "--verify", "none"],
            ["zhinao-convert", "--inspect", path], ["zhinao-quantize", path, "--method", "rtn", "-o", out + ".zhinao"],
            ["zhinao-bench", path, "--prompt-tokens", "4", "--new-tokens", "2", "--context-tokens", "2", "--repetitions", "1"]]


def damaged(number):
    data = bytearray(original)
    length = struct.unpack_from("<I", data, 12)[0]
    if number % 2:
        data[random.randrange(len(data))] ^= random.randrange(1, 256)
        return data
    end = len(bytes(data[64:64 + length]).rstrip())
    for _ in range(random.choice([1, 1, 2, 5])):
        data[64 + random.randrange(end)] = random.choice(b"0123456789-\"[]{},:.eEabz\\\x00\xff")
    struct.pack_into("<I", data, 24, zlib.crc32(data[64:64 + length]))
    struct.pack_into("<I", data, 28, zlib.crc32(data[:28]))
    return data


codes, bad = {}, 0
for i in range(count):
    data = damaged(i)
    open(path, "wb").write(data)
    for command in commands:
        try:
            result = subprocess.run([f"{root}/{command[0]}", *command[1:]], input=b"", capture_output=True, timeout=60)
            code = result.returncode
        except subprocess.TimeoutExpired:
            code = "timeout"
        codes[code] = codes.get(code, 0) + 1
        if code not in (0, 1, 64, 65, 66, 69, 73):
            bad += 1
            keep = f"/tmp/damaged-{i}.zhinao"
            open(keep, "wb").write(data)
            print(f"{code}: {' '.join(command[:2])} on {keep}")
        for left in os.listdir(work):
            if left.startswith("out"):
                shutil.rmtree(f"{work}/{left}", True)
                os.path.exists(f"{work}/{left}") and os.unlink(f"{work}/{left}")
shutil.rmtree(work)
print(f"{count} damaged files x {len(commands)} commands: exit codes {codes}; {bad} crashes")
sys.exit(1 if bad else 0)
