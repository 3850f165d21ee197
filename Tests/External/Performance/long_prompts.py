#!/usr/bin/env python3
"""Long prompts beside OpenVINO GenAI and ik_llama.cpp, in turns on one machine:

    long_prompts.py --model MODEL.zhinao --gguf MODEL.gguf [--lengths 512,4096,16384] [--turns 3] [--json FILE]

MODEL.gguf holds the same shape in Q4_0. Each engine reads a prompt of so many random ids and chooses one token; every turn has other
ids, so that no engine finds a prompt in a cache of prefixes. Needs openvino-genai and ik-llama-cpp-python from PyPI in the environment
that runs it; an engine that is missing or fails is left out, with its message.
"""
import argparse, json, os, pathlib, statistics, subprocess, sys, time

TOOL = pathlib.Path(__file__).resolve().parents[3] / ".build/release/zhinao-bench"


def ids(length, turn, size):
    return [(i * 7919 + 13 + turn * 104729) % size for i in range(length)]


def here(arguments, length, _):
    run = subprocess.run(
        [arguments.tool, arguments.model, "--prompt-tokens", str(length), "--new-tokens", "1", "--repetitions", "1", "--json",
         "--threads", str(arguments.threads)], check=True, capture_output=True, text=True)
    return json.loads(run.stdout)["prompt_tokens_per_second"]


def worker(engine):
    """Serves one engine: a line of length and turn in, a line of tokens per second out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf"), parser.add_argument("--threads", type=int), parser.add_argument("--longest", type=int)
    parser.add_argument("--vocabulary", type=int)
    arguments = parser.parse_args(sys.argv[3:])
    if engine == "openvino":
        import numpy, openvino, openvino_genai
        pipe = openvino_genai.LLMPipeline(
            arguments.gguf, "CPU", {"INFERENCE_NUM_THREADS": arguments.threads, "ATTENTION_BACKEND": os.environ.get("OV_BACKEND", "PA")})
        configuration = openvino_genai.GenerationConfig(max_new_tokens=1, ignore_eos=True)

        def read(tokens):
            answer = pipe.generate(openvino.Tensor(numpy.array([tokens], numpy.int64)), configuration)
            return answer.perf_metrics.get_ttft().mean / 1000
    else:
        import ik_llama_cpp
        from ik_llama_cpp import _ctypes_api as api, llama
        # It asks a package that may be missing, and would compute without its fast attention.
        llama._cpu_has_avx_vnni = lambda: True
        defaults = api.llama_model_default_params

        def repacked():
            parameters = defaults()
            parameters.repack_tensors = True
            return parameters

        api.llama_model_default_params = repacked
        model = ik_llama_cpp.IkLlama(
            arguments.gguf, n_ctx=arguments.longest + 256, n_threads=arguments.threads, use_mmap=False)

        def read(tokens):
            start = time.monotonic()
            model.generate(tokens, max_tokens=1, temperature=0)
            return time.monotonic() - start
    print("ready", flush=True)
    for line in sys.stdin:
        length, turn = map(int, line.split())
        print(length / read(ids(length, turn, arguments.vocabulary)), flush=True)


class Peer:
    def __init__(self, engine, arguments, longest):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", engine, "--gguf", arguments.gguf, "--threads", str(arguments.threads),
             "--longest", str(longest), "--vocabulary", str(arguments.vocabulary)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # Its own messages come before it.
        for line in self.process.stdout:
            if line.strip() == "ready": return
        raise RuntimeError(f"{engine} does not start")

    def __call__(self, _, length, turn):
        self.process.stdin.write(f"{length} {turn}\n"), self.process.stdin.flush()
        for line in self.process.stdout:
            try: return float(line)
            except ValueError: continue
        raise RuntimeError("the engine has ended")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True), parser.add_argument("--gguf", required=True)
    parser.add_argument("--lengths", default="512,4096,16384"), parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2), parser.add_argument("--json")
    parser.add_argument("--vocabulary", type=int, default=40000, help="ids are below it")
    parser.add_argument("--engines", default="openvino,ik_llama"), parser.add_argument("--tool", default=str(TOOL))
    arguments = parser.parse_args()
    lengths = [int(length) for length in arguments.lengths.split(",")]
    engines = {"here": here}
    for engine in filter(None, arguments.engines.split(",")):
        try: engines[engine] = Peer(engine, arguments, max(lengths))
        except Exception as error: print(f"{engine} is left out: {error}", file=sys.stderr)
    # Engines compile and allocate when they read something for the first time.
    for engine, read in engines.items():
        if engine != "here": read(arguments, 512, 0)
    rows = []
    for length in lengths:
        found = {engine: [] for engine in engines}
        for turn in range(arguments.turns):
            for engine, read in list(engines.items()):
                try: found[engine].append(read(arguments, length, turn + 1))
                except Exception as error:
                    print(f"{engine} is left out from {length} tokens on: {error}", file=sys.stderr)
                    del engines[engine], found[engine]
        row = {"tokens": length}
        for engine, speeds in found.items():
            row[engine] = statistics.median(speeds)
            if engine != "here":
                row[f"ratio_{engine}"] = statistics.median(a / b for a, b in zip(found["here"], speeds))
        rows.append(row)
        print(", ".join(f"{name} {value:,.2f}" if name.startswith("ratio") else f"{name} {value:,.0f}" for name, value in row.items()),
              flush=True)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    worker(sys.argv[2]) if sys.argv[1:2] == ["--worker"] else main()
