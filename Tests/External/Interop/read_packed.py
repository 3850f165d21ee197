"""An independent reader of .zhinao files, made from Formats/packed-model.md and packed-model.json alone.

usage: read_packed.py FILE [--dump OUT.npz]     prints a table; exit code 1 and a line for each broken rule
"""
import json, os, struct, sys, zlib
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
SPEC = json.load(open(os.path.join(HERE, "../../../Formats/packed-model.json")))
SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
         "I8": 1, "U8": 1, "BOOL": 1}
FORMATS = {"u16": "<H", "u32": "<I", "u64": "<Q"}


class Broken(Exception):
    pass


def check(condition, rule, text):
    if not condition:
        raise Broken(f"P{rule}: {text}")


def up(n, alignment):
    return (n + alignment - 1) // alignment * alignment


class Packed:
    def __init__(self, path):
        self.data = np.memmap(path, np.uint8, "r")
        pre = {}
        check(len(self.data) >= 66, 1, "too short")
        for f in SPEC["preamble"]["fields"]:
            raw = self.bytes(f["offset"], f.get("bytes") or struct.calcsize(FORMATS[f["type"]]))
            if "value" in f:
                check(raw.hex() == f["value"], 1 if f["name"] == "magic" else 2, f["name"])
            pre[f["name"]] = raw if f["type"] == "bytes" else struct.unpack(FORMATS[f["type"]], raw)[0]
        check(zlib.crc32(self.bytes(0, 28)) == pre["preamble_crc32"], 2, "checksum of the preamble")
        check(pre["major"] == SPEC["version"]["major"], 3, f"version {pre['major']}")
        check(pre["file_bytes"] == len(self.data), 4, "length of the file")
        self.start = 64 + pre["header_bytes"]
        check(self.start <= len(self.data) and self.start % 4096 == 0, 5, "length of the header")
        text = self.bytes(64, pre["header_bytes"])
        check(zlib.crc32(text) == pre["header_crc32"], 5, "checksum of the header")
        self.header = json.loads(text)
        check(self.header.get("format") == "zhinao", 6, "format")
        for key, kind in SPEC["header"]["required"].items():
            check(isinstance(self.header.get(key), {"string": str, "array": list}[kind]), 6, key)
        self.tensors = {t["name"]: t for t in self.header["tensors"]}
        self.files = {f["name"]: f for f in self.header["files"]}
        check(len(self.tensors) == len(self.header["tensors"]) and len(self.files) == len(self.header["files"]), 8, "names")
        end, problems = self.start, []
        parts = self.header["files"] + self.header["tensors"]
        for part in sorted(parts, key=lambda p: (p["offset"], p["bytes"])):
            o, n = part["offset"], part["bytes"]
            check(o >= 0 and n >= 0 and o + n <= len(self.data), 7, part["name"])
            check(o >= end, 10, part["name"])
            if self.data[end:o].any():
                problems.append(f"P12: bytes before {part['name']}")
            if zlib.crc32(self.bytes(o, n)) != int(part["crc32"], 16):
                problems.append(f"P13: {part['name']}")
            end = o + n
        if self.data[end:].any():
            problems.append("P12: bytes at the end")
        for t in self.header["tensors"]:
            matrix = len(t["shape"]) == 2
            check(t["offset"] % SPEC["alignment"]["matrix" if matrix else "vector"] == 0, 10, t["name"])
            check(self.length(t) == t["bytes"], 9, t["name"])
            if t["encoding"] == "int-panels" and t["permuted"]:
                order = self.parts(t)["permutation"]
                check((np.sort(order) == np.arange(len(order))).all(), 11, t["name"])
        self.problems = problems

    def bytes(self, offset, count):
        return self.data[offset:offset + count].tobytes()

    def sizes(self, t):
        n, k = t["shape"]
        f = SPEC["encodings"]["int-panels"]["field_bits"][str(t["bits"])]
        p, g = (n + 15) // 16, (k + t["group_size"] - 1) // t["group_size"]
        zeros = p * g * 16 if not t["symmetric"] or f != t["bits"] else 0
        return f, p, g, [p * 16 * k * f // 8, p * g * 32, zeros, k * 4 if t["permuted"] else 0]

    def length(self, t):
        if t["encoding"] == "rows":
            return int(np.prod(t["shape"], dtype=np.int64)) * SIZES[t["dtype"]]
        if t["encoding"] == "panels":
            return (t["shape"][0] + 15) // 16 * 16 * t["shape"][1] * SIZES[t["dtype"]]
        check(t["encoding"] == "int-panels", 9, t["encoding"])
        return sum(up(s, 64) for s in self.sizes(t)[3])

    def parts(self, t):
        """codes [N, K], scales and zeros [N, G] in the file's order of inputs; permutation or None."""
        n, k = t["shape"]
        f, p, g, sizes = self.sizes(t)
        starts = np.cumsum([t["offset"]] + [up(s, 64) for s in sizes])
        raw = [self.data[s:s + c] for s, c in zip(starts, sizes)]
        blocks = raw[0].reshape(p, -1, 16, 4)
        fields = [(blocks >> (i * f)) & (2**f - 1) for i in range(8 // f)]
        codes = np.stack(fields, 3).transpose(0, 2, 1, 3, 4).reshape(p * 16, -1)[:n]
        per_group = lambda a: a.reshape(p, g, 16).transpose(0, 2, 1).reshape(p * 16, g)[:n]
        scales = per_group(raw[1].view(np.float16))
        zeros = per_group(raw[2]) if sizes[2] else np.full((n, g), 2 ** (t["bits"] - 1), np.uint8)
        return {"codes": codes, "scales": scales, "zeros": zeros,
                "permutation": raw[3].view(np.uint32) if sizes[3] else None}

    def tensor(self, name):
        """The tensor as float32 (integers as they are)."""
        t = self.tensors[name]
        if t["encoding"] == "int-panels":
            q = self.parts(t)
            group = np.arange(t["shape"][1]) // t["group_size"]
            w = q["scales"].astype(np.float32)[:, group] * (q["codes"].astype(np.float32) - q["zeros"][:, group])
            if q["permutation"] is None:
                return w
            out = np.empty_like(w)
            out[:, q["permutation"]] = w
            return out
        raw = self.data[t["offset"]:t["offset"] + t["bytes"]]
        if t["dtype"] == "BF16":
            flat = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            kinds = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "I32": np.int32, "I64": np.int64,
                     "U8": np.uint8, "I8": np.int8, "BOOL": np.bool_}
            flat = raw.view(kinds[t["dtype"]])
            flat = flat.astype(np.float32) if flat.dtype == np.float16 else flat
        if t["encoding"] == "rows":
            return flat.reshape(t["shape"])
        n, k = t["shape"]
        return flat.reshape(-1, k, 16).transpose(0, 2, 1).reshape(-1, k)[:n]


if __name__ == "__main__":
    try:
        packed = Packed(sys.argv[1])
    except (Broken, ValueError, KeyError) as error:
        print(error)
        sys.exit(1)
    for t in packed.header["tensors"]:
        print(t["name"], t["encoding"], t.get("dtype") or f"{t['bits']} bits", t["shape"], t["bytes"])
    print("\n".join(packed.problems) or "intact")
    if "--dump" in sys.argv:
        np.savez(sys.argv[sys.argv.index("--dump") + 1], **{n: packed.tensor(n) for n in packed.tensors})
    sys.exit(1 if packed.problems else 0)
