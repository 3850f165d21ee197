"""Compares the independent reader of .zhinao files with the toolchain's own, bit for bit: compare_readers.py MODEL_DIR.
Quantizes the model in several ways, lets zhinao-convert dequantize the files, and reads the same files with
read_packed.py. It needs numpy and uses .build/release."""

import json, os, shutil, subprocess, sys, tempfile
import numpy as np
from read_packed import Packed

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")
RECIPES = [["--bits", "4", "--group-size", "32"], ["--bits", "4", "--group-size", "64", "--no-sym"],
           ["--bits", "4", "--group-size", "-1", "--desc-act", "--no-sym"], ["--bits", "8", "--group-size", "32"],
           ["--bits", "3", "--group-size", "32"], ["--bits", "2", "--group-size", "32", "--head-bits", "4"]]


def run(tool, *arguments):
    subprocess.run([f"{ROOT}/.build/release/{tool}", *arguments, "--quiet"], check=True, stdout=subprocess.DEVNULL)


def floats(folder):
    """Every tensor of a folder of safetensors files, as it is stored."""
    kinds = {"F32": np.uint32, "I32": np.uint32, "F16": np.uint16, "BF16": np.uint16}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            data = np.memmap(f"{folder}/{name}", np.uint8, "r")
            size = int(data[:8].view(np.uint64)[0])
            for key, t in json.loads(data[8:8 + size].tobytes()).items():
                if key != "__metadata__":
                    a, b = t["data_offsets"]
                    yield key, data[8 + size + a:8 + size + b].tobytes(), t


def main(model):
    work, compared = tempfile.mkdtemp(), 0
    files = [f"{work}/float.zhinao"]
    run("zhinao-convert", model, "-o", files[0])
    for i, recipe in enumerate(RECIPES):
        files.append(f"{work}/{i}.zhinao")
        method = ["--calibration", f"{model}/calibration.jsonl", "--samples", "4", "--sequence-length", "64"]
        if not os.path.exists(method[1]):
            method = ["--method", "rtn"]
        run("zhinao-quantize", model, *recipe, *method, "-o", files[-1])
    for path in files:
        packed = Packed(path)
        assert not packed.problems, packed.problems
        out = path + ".floats"
        run("zhinao-convert", path, "-o", out, "--dequantize", "--dtype", "float32")
        names = set()
        for name, raw, t in floats(out):
            mine = packed.tensor(name)
            assert list(mine.shape) == t["shape"], (path, name)
            assert np.ascontiguousarray(mine, np.float32).tobytes() == raw, f"{path}: {name} differs"
            names.add(name)
        assert names == set(packed.tensors), (path, names ^ set(packed.tensors))
        compared += len(names)
    shutil.rmtree(work)
    print(f"{len(files)} files, {compared} tensors: identical in both readers")


main(sys.argv[1])
