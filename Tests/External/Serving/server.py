"""Starts a zhinao-serve process for the other scripts of this folder."""

import json, os, re, signal, subprocess, sys, time, urllib.error, urllib.request

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
TINY = os.path.join(ROOT, "Sources/DemoModels/tiny-zhinao")
BERT = os.path.join(ROOT, "Tests/Fixtures/tiny-bert")
CROSS = os.path.join(ROOT, "Tests/Fixtures/tiny-bert-cross")


class Server:
    """Starts `zhinao-serve` on a free port; `with` stops it. `arguments` follow the models."""

    def __init__(self, *arguments, models=(TINY,)):
        command = [os.path.join(ROOT, ".build/release/zhinao-serve"), *models, "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.said = []
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"on http://(.*):(\d+)$", line.strip()):
                self.port = int(found[2])
                break
        else:
            sys.exit(f"the server did not start: {''.join(self.said)}")
        self.url = f"http://127.0.0.1:{self.port}"
        os.set_blocking(self.process.stderr.fileno(), False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def terminate(self, timeout=10):
        """SIGTERM; returns (exit code, seconds)."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout), time.monotonic() - start

    def get(self, path, headers={}):
        with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=30) as response:
            return response.read().decode()

    def post(self, path, body, headers={}):
        """(status, JSON, headers)"""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **headers})
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, json.load(response), response.headers
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null"), error.headers

    def metric(self, name, headers={}):
        """The sum of a metric's samples."""
        lines = [line for line in self.get("/metrics", headers).splitlines() if re.match(name + r"[ {]", line)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def resident_megabytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")
