"""Runs many streaming clients, a third of which disconnect midway. No token may be lost or mixed up, memory must not grow, and the
queue must stay bounded.
load.py [SECONDS=300] [CLIENTS=64]"""

import concurrent.futures, http.client, json, random, sys, threading, time

from server import Server, check

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300
clients = int(sys.argv[2]) if len(sys.argv) > 2 else 64
TEXTS = ["却说那老王", "春天来了，花", "Once upon a time", "The president said", "今天天气很好，我们", "In 1990 the city"]


def body(index, stream):
    """Prompts that share beginnings, of several lengths; greedy."""
    prompt = TEXTS[index % 3] * (1 + index % 7 * 5) + TEXTS[index % 6]
    return {"prompt": prompt, "max_tokens": 20 + index % 5 * 15, "temperature": 0, "stream": stream,
            "ignore_eos": True}


def stream(port, index, cut):
    """The text of a stream, or None when the client left after `cut` events, or the status when it is no stream."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body(index, True)), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            return response.status
        text = ""
        for number, line in enumerate(response):
            if cut is not None and number >= cut:
                return None
            line = line.decode().strip()
            if line == "data: [DONE]":
                return text
            if line.startswith("data: "):
                event = json.loads(line[6:])
                check("error" not in event, f"error event {event}")
                text += event["choices"][0]["text"]
        check(False, "a stream ended without [DONE]")
    finally:
        connection.close()


with Server("--parallel", "16", "--queue", "64") as server:
    kinds = 42
    solo = [server.post("/v1/completions", body(index, False))[1]["choices"][0]["text"] for index in range(kinds)]
    end = time.monotonic() + seconds
    done = {"whole": 0, "left": 0, "refused": 0}
    lock = threading.Lock()
    most_waiting, memory = 0, []

    def client(number):
        rng = random.Random(number)
        while time.monotonic() < end:
            index = rng.randrange(kinds)
            cut = rng.randrange(1, 20) if number % 3 == 0 else None
            got = stream(server.port, index, cut)
            with lock:
                if got is None:
                    done["left"] += 1
                elif isinstance(got, int):
                    check(got == 429, f"status {got}")
                    done["refused"] += 1
                else:
                    check(got == solo[index], f"stream {index} differs from its solo run:\n{got}\n{solo[index]}")
                    done["whole"] += 1
            if isinstance(got, int):
                time.sleep(0.2)

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        tasks = [pool.submit(client, number) for number in range(clients)]
        while time.monotonic() < end:
            time.sleep(min(2, seconds / 10))
            memory.append(server.resident_megabytes())
            most_waiting = max(most_waiting, server.metric("zhinao_requests_waiting"))
        for task in tasks:
            task.result()
    time.sleep(1)
    check(server.metric("zhinao_requests_running") == 0 and server.metric("zhinao_requests_waiting") == 0,
          "sequences are left over")
    # Warm after a third of the time; from then on it may not grow by more than noise.
    warm, last = memory[len(memory) // 3], max(memory[-3:])
    check(last < warm * 1.1 + 10, f"memory grew from {warm:.0f} to {last:.0f} MB")
    check(most_waiting <= 64, f"{most_waiting} were waiting")
    check(done["whole"] > clients and done["left"] > 0, f"too few streams: {done}")
    code, took = server.terminate()
    check(code == 0, f"exit code {code}")
    print(f"{clients} clients, {seconds:.0f} s: {done}, at most {most_waiting:.0f} waiting, "
          f"memory {warm:.0f} -> {last:.0f} MB: passed")
