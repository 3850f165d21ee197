"""Round trips that may change nothing: every tensor and the vocabulary must come back byte for byte."""
import os
import rows as table
import workload

ENVIRONMENT = "torch"
PACKAGES = ["torch", "safetensors", "numpy"]


def rows(work, name):
    from split_to_qwen2 import split
    from torch_common import same_bytes
    model = work["models"][name]
    for kind in ("float", "int4"):
        packed, home = model[kind]["path"], f"{work['folder']}/{name}"
        folder = workload.convert(packed, f"{home}/{kind}-folder")
        back = workload.convert(model[f"{kind}_stock"], f"{home}/{kind}-back", "--to", "zhinao-hf")
        same, count = same_bytes(folder, back)
        vocabularies = [open(f"{f}/vocab/360.tiktoken", "rb").read() for f in (model["source"], back)]
        same_vocabulary = vocabularies[0] == vocabularies[1]
        yield table.row(
            "files", f"{kind}: .zhinao → stock → zhinao-hf", name, ok=same and same_vocabulary,
            note=f"{count} tensors {'identical' if same else 'DIFFER'}, vocabulary "
                 f"{'identical' if same_vocabulary else 'DIFFERS'}")
        if kind == "int4":
            # The same, word by word of the packed tensors, by an implementation that shares nothing with ours.
            independent = f"{home}/{kind}-independent"
            split(folder, independent)
            same, count = same_bytes(independent, model["int4_stock"])
            yield table.row("files", "int4: stock, beside split_to_qwen2.py", name, ok=same,
                            note=f"{count} tensors {'identical' if same else 'DIFFER'}")
        again = workload.convert(folder, f"{home}/{kind}-again.zhinao")
        third = workload.convert(again, f"{home}/{kind}-third")
        same, count = same_bytes(folder, third)
        yield table.row("files", f"{kind}: folder → .zhinao → folder", name, ok=same,
                        note=f"{count} tensors {'identical' if same else 'DIFFER'}")
