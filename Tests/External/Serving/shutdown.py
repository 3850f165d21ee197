"""Sends SIGTERM under load. Running requests must finish or get an error event, and the exit code must be 0 within 10 seconds."""

import http.client, json, threading, time

from server import Server, check

for prompt_tokens, expectation in ((40, "finish"), (2000, "error")):
    # Short answers finish in the time that is left; many long ones cannot.
    with Server("--parallel", "4", "--arithmetic", "exact") as server:
        results = []

        def client(number):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            body = {"prompt": "却说那老王" + str(number), "max_tokens": prompt_tokens, "temperature": 1.3, "stream": True,
                    "ignore_eos": True, "n": 1 if expectation == "finish" else 4}
            try:
                connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
                response = connection.getresponse()
                data = response.read().decode()
                results.append("done" if data.endswith("data: [DONE]\n\n") else
                               "error" if '{"error":' in data.rstrip().split("\n")[-1] or response.status == 503 else data[-200:])
            except (OSError, http.client.HTTPException) as error:
                results.append(repr(error))

        threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while server.metric("zhinao_generated_tokens_total") < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        code, seconds = server.terminate(timeout=15)
        for thread in threads:
            thread.join()
        check(code == 0, f"exit code {code}")
        check(seconds < 10, f"took {seconds:.1f} s")
        check(all(result in ("done", "error") for result in results), f"cut off: {results}")
        if expectation == "finish":
            check("done" in results, "none finished")
        print(f"SIGTERM with 16 requests: exit 0 after {seconds:.1f} s, {results.count('done')} finished, "
              f"{results.count('error')} got an error: passed")

# A client that does not read must not keep the process; nor may an idle connection.
with Server() as server:
    silent = http.client.HTTPConnection("127.0.0.1", server.port)
    silent.request("POST", "/v1/completions", json.dumps({"prompt": "一", "max_tokens": 2000, "stream": True, "n": 4,
                                                          "logprobs": 20, "ignore_eos": True}),
                   {"Content-Type": "application/json"})
    idle = http.client.HTTPConnection("127.0.0.1", server.port)
    idle.connect()
    time.sleep(1)
    code, seconds = server.terminate(timeout=15)
    check(code == 0 and seconds < 10, f"exit code {code} after {seconds:.1f} s")
    print(f"SIGTERM with clients that do nothing: exit 0 after {seconds:.1f} s: passed")
