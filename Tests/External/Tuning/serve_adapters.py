#!/usr/bin/env python3
"""Serves a small model, in floats and in 4 bits, with two adapters and checks what requests get.

- `/v1/models` names the model and the adapters, with the model as their parent;
- a name that is not served is an error, not the model's answer;
- the answers of the three differ, and are those of `zhinao-chat --lora`;
- requests of all three at the same time get the very answers they get alone, with the same log probabilities;
- the tokens of a prompt in a cache are reused by requests of the same name only;
- the memory that the server plans with counts the adapters.

    Tests/External/Tuning/serve_adapters.py [--bin .build/release]
"""
import argparse
import concurrent.futures
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
MODEL = ROOT / "Tests/Fixtures/tiny-zhinao-gqa"
TRAINED = ROOT / "Tests/Fixtures/lora-tiny-zhinao-gqa"
PROMPTS = ["你好", "Once upon a time", "What is the weather like in the city today, and what was it like a year ago?"]
failures = 0


def check(what, ok, detail=""):
    global failures
    failures += not ok
    print(f"{'ok  ' if ok else 'FAIL'} {what} {detail}", flush=True)


def write_adapter(folder, seed):
    """A PEFT adapter with random weights for the fused projections and a norm that is trained as a whole."""
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["qkv_proj", "down_proj"], "modules_to_save": ["norm"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    source = random.Random(seed)
    tensors = {"model.norm.weight": ([128], [1 + source.gauss(0, 0.2) for _ in range(128)])}
    for layer in range(2):
        for module, out, width in [("self_attn.qkv_proj", 256, 128), ("mlp.down_proj", 128, 384)]:
            for part, shape in [("lora_A", [4, width]), ("lora_B", [out, 4])]:
                values = [source.gauss(0, 0.1) for _ in range(shape[0] * shape[1])]
                tensors[f"model.layers.{layer}.{module}.{part}.weight"] = (shape, values)
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        chunk = struct.pack(f"<{len(values)}f", *values)
        header[f"base_model.model.{name}"] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(chunk)]}
        data += chunk
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


class Server:
    def __init__(self, tools, *arguments):
        self.process = subprocess.Popen(
            [str(tools / "zhinao-serve"), *map(str, arguments), "--port", "0"], stderr=subprocess.PIPE, text=True)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line.strip())
            found = re.search(r"http://[^:]+:(\d+)", line)
            if found:
                self.port = int(found.group(1))
                return
        sys.exit("\n".join(self.lines))

    def request(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        try:
            return 200, json.load(urllib.request.urlopen(request, timeout=60))
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def answer(self, model, prompt, tokens=24):
        status, body = self.request("/v1/completions", {
            "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "logprobs": 3})
        if status != 200:
            sys.exit(f"{model}: {body}")
        choice = body["choices"][0]
        return choice["text"], choice["logprobs"], body["usage"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=ROOT / ".build/release", type=pathlib.Path)
    tools = parser.parse_args().bin
    with tempfile.TemporaryDirectory() as work:
        other = pathlib.Path(work) / "other"
        write_adapter(other, 360)
        adapters = {"tone": TRAINED, "other": other}
        integers = pathlib.Path(work) / "int4.zhinao"
        subprocess.run(
            [str(tools / "zhinao-quantize"), str(MODEL), "-o", str(integers), "--bits", "4", "--method", "rtn", "--group-size", "32",
             "--quiet"], check=True, stdout=subprocess.DEVNULL)
        for model in [MODEL, integers]:
            print(f"{model.name}:", flush=True)
            server = Server(
                tools, model, "--served-model-name", "base", "--memory-limit", "600MB",
                *[part for name, folder in adapters.items() for part in ("--lora", f"{name}={folder}")])
            try:
                run(server, tools, model, adapters)
            finally:
                server.process.terminate()
                server.process.wait(timeout=20)
    sys.exit(failures > 0)


def run(server, tools, model, adapters):
    names = ["base", *adapters]
    listed = server.request("/v1/models")[1]["data"]
    check("names of the models", [m["id"] for m in listed] == names)
    check("parents of the adapters", [m.get("parent") for m in listed] == [None, "base", "base"])
    check("a line about the adapters", any("adapters tone, other" in line for line in server.lines))
    status, body = server.request("/v1/completions", {"model": "nobody", "prompt": "a"})
    check("an unknown name", status == 404 and body["error"]["code"] == "model_not_found")

    alone = {(name, prompt): server.answer(name, prompt) for name in names for prompt in PROMPTS}
    texts = {name: [alone[name, prompt][0] for prompt in PROMPTS] for name in names}
    check("answers differ", texts["base"] != texts["tone"] != texts["other"] != texts["base"])
    for name in names:
        options = ["--lora", str(adapters[name])] if name in adapters else []
        for prompt in PROMPTS:
            done = subprocess.run(
                [str(tools / "zhinao-chat"), str(model), "--raw", "--prompt", prompt, "--plain-text", "--max-new-tokens", "24",
                 "--json", *options], capture_output=True, text=True, check=True)
            check(f"zhinao-chat, {name}", json.loads(done.stdout)["text"] == alone[name, prompt][0])

    jobs = [(name, prompt) for name in names for prompt in PROMPTS] * 4
    random.Random(1).shuffle(jobs)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda job: server.answer(*job), jobs))
    same = sum(found[:2] == alone[job][:2] for job, found in zip(jobs, together))
    check("requests at the same time", same == len(jobs), f"{same} of {len(jobs)} as alone")

    prompt = "A text that no request had before. " * 8
    first = {name: server.answer(name, prompt, 4) for name in names}
    again = {name: server.answer(name, prompt, 4) for name in names}
    cached = lambda answers: [
        (a[2].get("prompt_tokens_details") or {}).get("cached_tokens", 0) for a in answers.values()]
    check("no tokens of another adapter", max(cached(first)) <= 1, str(cached(first)))
    check("tokens of the same adapter", min(cached(again)) > 8, str(cached(again)))
    check("the same answers from a cache", all(first[n][:2] == again[n][:2] for n in names))


if __name__ == "__main__":
    main()
