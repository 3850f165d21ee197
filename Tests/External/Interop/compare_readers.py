"""Compares the independent reader of .zhinao files with the toolchain's own, bit for bit: compare_readers.py MODEL_DIR.
Quantizes the model in several ways, lets zhinao-convert dequantize the files, and reads the same files with
read_packed.py. Of an encoder or a cross-encoder, packed_encoder.py computes the self-check record and the vectors or scores of
some texts in numpy besides. It needs numpy and uses .build/release."""

import json, os, shutil, subprocess, sys, tempfile
import numpy as np
from packed_encoder import PackedEncoder
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


TEXTS = ["why is the sky blue", "", "天空是什么颜色的", "Émigré naïve café, 360 🎉", "a " * 90, "x" * 150]


def answers(tool, path, *arguments, lines):
    done = subprocess.run([f"{ROOT}/.build/release/{tool}", *arguments[:1], path, *arguments[1:]], check=True, text=True,
                          input="".join(json.dumps(line) + "\n" for line in lines), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare_encoder(packed, path):
    """The largest relative differences of the self-check record, and of vectors or scores."""
    encoder = PackedEncoder(packed)
    record, tolerance = encoder.self_check()
    assert record <= tolerance, f"{path}: the self-check record differs by {record}"
    if encoder.classifies:
        pairs = [{"query": TEXTS[0], "passage": text} for text in TEXTS]
        lines = [{"text": p["query"], "pair": p["passage"], "max_length": 512} for p in pairs]
        found = answers("zhinao-search", path, "rerank", "--pairs", "-", "--raw-scores", "--json", lines=pairs)
        found = [[line["raw_score"]] for line in found]
    else:
        lines = [{"text": encoder.prompt() + text, "max_length": 128} for text in TEXTS]
        out = path + ".jsonl"
        answers("zhinao-search", path, "embed", "-o", out, "--arithmetic", "exact", "-q", lines=[{"text": t} for t in TEXTS])
        found = [json.loads(line)["embedding"] for line in open(out)]
    ids = answers("zhinao-verify", path, "tokenize", lines=lines)
    assert len(ids) == len(found) == len(TEXTS)
    largest = 0
    for line, given in zip(ids, found):
        x = (np.array(line["ids"]), np.array(line["type_ids"]))
        mine = encoder.labels(encoder.states(*x)[-1][0]) if encoder.classifies else encoder.vector(*x)
        largest = max(largest, np.abs(mine - given).max() / np.abs(given).max())
    assert largest <= 2e-5, f"{path}: vectors or scores differ by {largest}"
    return record, largest


def main(model):
    work, compared, encoders = tempfile.mkdtemp(), 0, []
    files = [f"{work}/float.zhinao"]
    with open(f"{model}/config.json", encoding="utf-8") as settings:
        is_encoder = json.load(settings)["model_type"] == "bert"
    run("zhinao-convert", model, "-o", files[0])
    for i, recipe in enumerate(RECIPES):
        files.append(f"{work}/{i}.zhinao")
        method = ["--calibration", f"{model}/calibration.jsonl", "--samples", "4", "--sequence-length", "64"]
        if not os.path.exists(method[1]):
            method = ["--method", "rtn"]
        if is_encoder and "--head-bits" in recipe:
            # An encoder has no output head.
            at = recipe.index("--head-bits")
            recipe = recipe[:at] + recipe[at + 2:]
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
            # Integers, such as BERT's position_ids, are as they are stored.
            kind = np.float32 if mine.dtype.kind == "f" else mine.dtype
            assert np.ascontiguousarray(mine, kind).tobytes() == raw, f"{path}: {name} differs"
            names.add(name)
        assert names == set(packed.tensors), (path, names ^ set(packed.tensors))
        compared += len(names)
        if "classifier.weight" in names or any(name.endswith("embeddings.word_embeddings.weight") for name in names):
            encoders.append(compare_encoder(packed, path))
    shutil.rmtree(work)
    print(f"{len(files)} files, {compared} tensors: identical in both readers")
    if encoders:
        record, largest = (max(values) for values in zip(*encoders))
        print(f"computed in numpy: self-check records within {record:.1e}, {len(TEXTS)} vectors or scores a file within {largest:.1e}")


main(sys.argv[1])
