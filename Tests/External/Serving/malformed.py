"""Sends malformed requests of every kind. Each must get a 4xx status, the server must continue, and memory must not grow.
malformed.py [COUNT=100000] [SEED=1]"""

import concurrent.futures, json, random, re, socket, sys, threading, time

from server import BERT, CROSS, TINY, Server, check

count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
VALID = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 1, "temperature": 0.5, "top_p": 0.9, "top_k": 5,
         "min_p": 0.1, "n": 1, "stop": ["x"], "seed": 1, "logprobs": True, "top_logprobs": 1, "logit_bias": {"1": 1},
         "presence_penalty": 0.1, "frequency_penalty": 0.1, "repetition_penalty": 1.1, "stream": False, "model": "tiny-zhinao",
         "min_tokens": 0, "bad_words": ["x"], "truncate_prompt_tokens": 100, "allowed_token_ids": [1, 2], "skip_special_tokens": True,
         "prompt_logprobs": 1}
WRONG = [[], {}, "x", -5, 1e300, True, [[]], {"a": 1}, "\ud800", [None], "9" * 400, [{}], 0.123]
PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/rerank", "/v2/rerank", "/v2/embed", "/v1/score", "/embed",
         "/predict", "/similarity", "/tokenize", "/decode"]
# A good request of each route for vectors and scores; every field has values that are wrong for it.
RETRIEVAL = {
    "/v1/embeddings": {"input": ["a", "b"], "encoding_format": "base64", "dimensions": 96, "input_type": "query", "truncate": True,
                       "truncate_prompt_tokens": 10, "truncation_side": "left", "normalize": True},
    "/v2/embed": {"texts": ["a"], "embedding_types": ["float", "binary"], "output_dimension": 96, "input_type": "search_query",
                  "truncate": "END"},
    "/v1/rerank": {"query": "a", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": True, "raw_scores": False},
    "/rerank": {"query": "a", "texts": ["a", "b"], "raw_scores": True, "return_text": True, "truncate": True},
    "/v1/score": {"text_1": "a", "text_2": ["a", "b"], "use_activation": True},
    "/embed": {"inputs": ["a", [1, 2]], "normalize": True, "truncate": True, "truncation_direction": "Left", "prompt_name": "query"},
    "/predict": {"inputs": [["a", "b"]], "raw_scores": True},
    "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["b"]}},
    "/tokenize": {"inputs": ["a"], "add_special_tokens": False},
    "/decode": {"ids": [1, 2], "skip_special_tokens": False},
}


def post(body, path="/v1/chat/completions", headers=b"Content-Type: application/json\r\n"):
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode() + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def is_harmless(key, value):
    """Wrong-looking values that are allowed."""
    return (key, repr(value)) in {("bad_words", "'x'"), ("bad_words", "[]"), ("bad_words", "'" + "9" * 400 + "'"),
                                  ("bad_words", repr("\ud800")), ("skip_special_tokens", "True"), ("stream", "True"), ("logprobs", "True"), ("logit_bias", "{}"), ("seed", "-5"), ("stop", "'x'"),
                                  ("stop", "[]"), ("stop", "'" + "9" * 400 + "'"), ("temperature", "0.123"), ("top_p", "0.123"),
                                  ("min_p", "0.123"), ("presence_penalty", "0.123"), ("frequency_penalty", "0.123"),
                                  ("repetition_penalty", "0.123"), ("stop", repr("\ud800"))} or (key == "model" and isinstance(value, str))


def is_taken(path, key, value):
    """Wrong-looking values that these fields take."""
    if path == "/v2/embed" and (key == "embedding_types" and value == [] or key == "texts" and isinstance(value, str)):
        return True
    return (key == "truncate" and value is True
            or isinstance(value, bool) and isinstance(RETRIEVAL[path][key], bool)
            or isinstance(value, str) and key in ("input", "inputs", "query", "text_1", "text_2") and path not in ("/predict", "/similarity"))


def request(rng):
    """One request and whether its connection is half closed after it."""
    kind = rng.randrange(14)
    good = json.dumps(VALID, ensure_ascii=False).encode()
    if kind == 0:  # a field of a wrong type
        key, value = rng.choice(list(VALID)), rng.choice(WRONG)
        if is_harmless(key, value):
            key, value = "messages", rng.choice(WRONG)
        return post(json.dumps({**VALID, key: value}).encode())
    if kind == 1:  # a body cut short, its length right
        return post(good[:rng.randrange(len(good))])
    if kind == 2:  # damaged bytes that can no longer be JSON
        bad = bytearray(good)
        bad[rng.randrange(len(bad) - 1)] = rng.choice([0, 0xFF, 0xC0, 1])
        return post(bytes(bad))
    if kind == 3:  # noise
        return post(rng.randbytes(rng.randrange(2000)), rng.choice(PATHS))
    if kind == 4:  # nesting
        return post(b"[" * rng.randrange(1, 5000) + b"]" * rng.randrange(5000))
    if kind == 5:  # a body larger than allowed: announced, or in chunks
        if rng.random() < 0.95:
            return b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
                rng.randrange(5 << 20, 1 << 62))
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        return (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 66)
    if kind == 6:  # headers: too large, too many, wrong
        junk = rng.choice([b"A: " + b"x" * 40_000, b"\r\n".join(b"A%d: b" % i for i in range(300)), b"A\x00B: c", b": empty",
                           b"Content-Length: -1", b"Content-Length: 1\r\nContent-Length: 2", b"Transfer-Encoding: gzip, x",
                           b"Content-Length: 99999999999999999999999"])
        return b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" + junk + b"\r\n\r\n"
    if kind == 7:  # not HTTP
        return rng.choice([b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                           b"get / http/1.1\r\n\r\n", b"\r\n \r\n\r\n\x00\x00"]) + rng.randbytes(rng.randrange(50)) + b"\r\n\r\n"
    if kind == 8:  # methods and paths that are not there
        method = rng.choice(["DELETE", "PUT", "PATCH", "OPTIONS", "GET", "TRACE"])
        path = rng.choice(PATHS + ["/%00", "/../../etc/passwd", "/v1/models/%ff%fe", "//", "/v1/" + "a" * 3000, "/v1/files"])
        return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
    if kind == 9:  # a host or an origin of somebody else
        return post(good, headers=rng.choice([b"Origin: http://evil.example\r\n", b"Origin: null\r\n", b"Content-Type: text/plain\r\n", b"",
                                              b"Content-Type: application/x-www-form-urlencoded\r\n"]))
    if kind == 10:  # prompts that are wrong
        prompt = rng.choice(["春" * 5000, [], [1 << 40], [-1], [[]], [["a"]], {"a": 1}, [1, "a"], "", None, 7, [1.5]])
        return post(json.dumps({"prompt": prompt, "max_tokens": 1}).encode(), "/v1/completions")
    if kind >= 12:  # fields of a wrong type in requests for vectors and scores
        path = rng.choice(list(RETRIEVAL))
        key = rng.choice(list(RETRIEVAL[path]))
        wrong = [value for value in WRONG if not is_taken(path, key, value)]
        if key in ("input", "inputs", "texts", "documents", "text_2", "ids"):
            wrong += [[[["a"]]], [1 << 70], [None, "a"], ["a"] * 2049, [[]], [-1], [["a", "b", "c"]]]
        return post(json.dumps({**RETRIEVAL[path], key: rng.choice(wrong)}).encode(), path)
    # chunks that are wrong
    return (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            + rng.choice([b"zz\r\n", b"5\r\nab", b"-1\r\n\r\n", b"fffffffffffffffff\r\n", b"2\r\n{}\r\nXYZ\r\n"]) + rng.randbytes(8) + b"\r\n\r\n")


def send(port, data):
    """The status of the response, or what happened instead."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass  # answered and closed before all was sent
        try:
            got = connection.recv(65536)
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "timeout"
        found = re.match(rb"HTTP/1\.1 (\d+)", got)
        return int(found[1]) if found else f"no response: {got[:50]!r}"


def slow(port, data, pause, results):
    """A client that sends a byte now and then."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        start = time.monotonic()
        try:
            for byte in data:
                connection.sendall(bytes([byte]))
                connection.settimeout(pause)
                try:
                    got = connection.recv(4096)
                    results.append((int(got.split()[1]) if got else "closed", time.monotonic() - start))
                    return
                except TimeoutError:
                    pass
        except OSError:
            results.append(("closed", time.monotonic() - start))


with Server("--read-timeout", "3", "--parallel", "4", models=(TINY, BERT, CROSS)) as server:
    statuses, odd, lock = {}, [], threading.Lock()
    done, memory = 0, []

    def work(number):
        rng = random.Random(seed * 1000 + number)
        for _ in range(count // 8):
            data = request(rng)
            status = send(server.port, data)
            with lock:
                statuses[status] = statuses.get(status, 0) + 1
                if not (isinstance(status, int) and 400 <= status < 500) and len(odd) < 20:
                    odd.append((status, data[:300]))

    results = []
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Slow: " + b"y" * 200
    body = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    drips = [threading.Thread(target=slow, args=(server.port, data, 0.3, results))
             for data in [head] * 20 + [body + b"{" * 400] * 20]
    for thread in drips:
        thread.start()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        # Buffers of every thread reach their size before memory is looked at.
        list(pool.map(work, range(100, 132)))
        memory.append(server.resident_megabytes())
        tasks = [pool.submit(work, number) for number in range(8)]
        while not all(task.done() for task in tasks):
            time.sleep(0.5)
            memory.append(server.resident_megabytes())
            status, answer, _ = server.post("/v1/completions", {"prompt": "春天", "max_tokens": 2})
            check(status == 200, f"a good request got {status}: {answer}")
            for path, body in RETRIEVAL.items():
                status, answer, _ = server.post(path, body)
                check(status == 200, f"a good request to {path} got {status}: {answer}")
        for task in tasks:
            task.result()
    for thread in drips:
        thread.join()
    check(not odd, "not 4xx:\n" + "\n".join(map(str, odd)) + f"\n{statuses}")
    check(len(results) == 40 and all(status == 408 for status, _ in results), f"slow clients: {results}")
    check(max(seconds for _, seconds in results) < 60, "slow clients were kept long")
    check(server.metric("zhinao_requests_running") == 0, "sequences are left over")
    warm, last = memory[0], max(memory[-3:])
    check(last < warm * 1.2 + 10, f"memory grew from {warm:.0f} to {last:.0f} MB")
    print(f"{sum(statuses.values())} malformed requests: {dict(sorted(statuses.items()))}, 40 slow clients: 408; "
          f"memory {warm:.0f} -> {last:.0f} MB: passed")
