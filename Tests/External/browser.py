"""Headless Chromium through W3C WebDriver, for scripts that look at pages. Needs Debian's chromium and chromium-driver."""

import atexit, json, os, signal, socket, subprocess, sys, tempfile, time, urllib.error, urllib.request


class WebDriver:
    """A session of chromedriver, and the commands that every script needs."""

    def __init__(self, arguments=(), options=None, logs=("browser",), seconds=60):
        """`arguments` and `options` are Chromium's own beside the usual ones; `seconds` is how long a command may take."""
        self.seconds = seconds
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, start_new_session=True)
        atexit.register(self.close)
        self.base = f"http://127.0.0.1:{port}"
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        usual = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
                 f"--user-data-dir={self.profile.name}", "--disable-background-networking", "--disable-component-update"]
        for _ in range(100):
            try:
                started = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
                    "goog:chromeOptions": {"args": usual + list(arguments), **(options or {})},
                    "goog:loggingPrefs": {log: "ALL" for log in logs}}}})
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        self.base += f"/session/{started['sessionId']}"

    def call(self, method, path, body=None):
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self.seconds) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            sys.exit(f"WebDriver: {error.read().decode()[:500]}")

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def log(self, kind):
        return self.call("POST", "/se/log", {"type": kind})

    def close(self):
        if self.driver.poll() is None:
            os.killpg(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
        self.profile.cleanup()
