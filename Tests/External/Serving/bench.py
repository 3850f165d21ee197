"""Measures tokens per second with 1, 4 and 8 clients, and the time to the first token of a second turn. It measures zhinao-serve and,
when its binary and a GGUF file of the same model are given, llama-server, in turns in one run.
bench.py MODEL.zhinao [LLAMA_SERVER MODEL.gguf] [--rounds N]"""

import concurrent.futures, http.client, json, os, socket, subprocess, sys, time, urllib.request

from server import Server, check

arguments = sys.argv[1:]
rounds = int(arguments.pop(arguments.index("--rounds") + 1)) if "--rounds" in arguments else 3
arguments = [argument for argument in arguments if argument != "--rounds"]
THREADS, NEW = "2", 128
WORDS = ("The history of the city begins with a small harbour where ships from many countries came to trade wool, salt and "
         "timber, and where the first houses were built of stone by people who had come from the hills. ").split()


class Llama:
    """llama-server with the same threads and as many slots."""

    def __init__(self, binary, model, context=2048, slots=8):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [binary, "-m", model, "-t", THREADS, "-tb", THREADS, "-np", str(slots), "-c", str(context * slots), "--port",
             str(self.port), "--no-webui"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1)
                return
            except OSError:
                time.sleep(0.1)
        sys.exit("llama-server did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def stream(port, prompt, new):
    """(seconds to the first token, seconds in all, tokens)"""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    start = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps({
        "model": "m", "prompt": prompt, "max_tokens": new, "temperature": 0, "stream": True, "ignore_eos": True,
        "cache_prompt": True, "stream_options": {"include_usage": True}}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    check(response.status == 200, f"status {response.status}")
    first, tokens = None, 0
    for line in response:
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if event["choices"] and event["choices"][0].get("text"):
                first = first or time.monotonic() - start
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return first, time.monotonic() - start, tokens


def throughput(port, clients, number):
    """Tokens of all clients per second, short prompts included."""
    prompts = [f"{number}-{client}: " + " ".join(WORDS[:8]) for client in range(clients)]
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        start = time.monotonic()
        tokens = sum(result[2] for result in pool.map(lambda prompt: stream(port, prompt, NEW), prompts))
        seconds = time.monotonic() - start
    check(tokens == clients * NEW, f"{tokens} tokens instead of {clients * NEW}")
    return tokens / seconds


def turns(port, number):
    """Seconds to the first token of a 1,000-token prompt, and of the same conversation's next turn."""
    first_prompt = f"Story {number}. " + " ".join(WORDS * 28)
    first = stream(port, first_prompt, 8)[0]
    second = stream(port, first_prompt + " And then another ship came into the harbour.", 8)[0]
    return first, second


def measure(port, results, number):
    for clients in (1, 4, 8):
        results.setdefault(clients, []).append(throughput(port, clients, number))
    results.setdefault("turns", []).append(turns(port, number))


def median(values):
    return sorted(values)[len(values) // 2]


engines = {"zhinao-serve": lambda: Server("--threads", THREADS, "--parallel", "8", "--context-size", "2048", models=arguments[:1])}
if len(arguments) == 3:
    engines["llama-server"] = lambda: Llama(*arguments[1:])
results = {name: {} for name in engines}
for number in range(rounds + 1):
    for name, start in engines.items():
        with start() as server:
            stream(server.port, "warm up", 16)
            measure(server.port, results[name] if number else {}, number)
for name, result in results.items():
    rates = {clients: median(result[clients]) for clients in (1, 4, 8)}
    first, second = (median([pair[index] for pair in result["turns"]]) for index in (0, 1))
    print(f"{name}: " + ", ".join(f"{clients} clients {rate:.1f} tokens/s" for clients, rate in rates.items())
          + f"; 8 over 1: {rates[8] / rates[1]:.2f}; first token {first * 1000:.0f} ms, next turn {second * 1000:.0f} ms: "
          + f"{first / second:.1f} x")
if len(results) == 2:
    ours, theirs = results.values()
    print("over llama-server: " + ", ".join(
        f"{clients} clients {median(ours[clients]) / median(theirs[clients]):.2f} x" for clients in (1, 4, 8)))
