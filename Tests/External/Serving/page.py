"""Headless Chromium drives the chat page: send, stream, stop, sliders, clear, reload, Chinese, <script>, Markdown, both
languages and themes, a phone. page.py [FOLDER_FOR_SCREENSHOTS]; needs Debian's chromium and chromium-driver."""

import base64, json, os, sys, threading, time, urllib.error, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from browser import WebDriver  # noqa: E402
from server import BERT, CROSS, TINY, Server, check

shots = sys.argv[1] if len(sys.argv) > 1 else None
ENTER, SHIFT, ESCAPE = "\ue007", "\ue008", "\ue00c"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser(WebDriver):
    """What a person does with the page."""

    def __init__(self, width=1200, height=800, language="en", mobile=False):
        options = {"prefs": {"intl.accept_languages": language}}
        if mobile:
            options["mobileEmulation"] = {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2, "touch": True}}
        super().__init__([f"--lang={language}", f"--window-size={width},{height}"], options)

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def find(self, selector):
        return self.call("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]

    def click(self, selector):
        self.call("POST", f"/element/{self.find(selector)}/click")

    def type(self, selector, text):
        self.call("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector)

    def wait(self, script, what, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(script):
                return value
            time.sleep(0.05)
        check(False, f"{what} did not happen; the page says: {self.text('#notice')!r}")

    def answered(self):
        self.wait("return document.querySelector('#stop').hidden", "the end of an answer")

    def shoot(self, name):
        data = self.call("GET", "/screenshot")
        if shots:
            os.makedirs(shots, exist_ok=True)
            open(f"{shots}/{name}.png", "wb").write(base64.b64decode(data))

    def complaints(self):
        """What the page wrote on the console: errors, violations of its security policy."""
        return [entry["message"] for entry in self.log("browser")
                if entry["level"] in ("SEVERE", "WARNING")]


count = "return document.querySelectorAll('#messages .message').length"
last = "return [...document.querySelectorAll('#messages .assistant .text')].pop()?.textContent ?? ''"


# The test model is small: it may end an answer before its first word, and it is fast. With fields that the page does not
# have, these requests get answers that cannot be empty and cannot end soon.
ENDLESS = ("const f = window.fetch; window.fetch = (u, o) => { if (o?.body) { const b = JSON.parse(o.body);"
           "b.ignore_eos = true; b.n = 16; o.body = JSON.stringify(b); } return f(u, o); };")


def slide(browser, name, value):
    """Moves a slider as a person does: the page sees an input event."""
    browser.run("const s = document.getElementById(arguments[0]); s.value = arguments[1];"
                "s.dispatchEvent(new Event('input', {bubbles: true}));", name, value)


def conversation(browser, server):
    browser.open(server.url)
    browser.wait("return document.querySelector('#model').options.length === 1", "the list of models")
    check(browser.run("return document.querySelector('#model').value") == "tiny-zhinao", "the model's name")
    defaults = browser.run("return ['max_new_tokens','top_p','top_k','temperature'].map(n => { const s = "
                           "document.getElementById(n); return [s.min, s.max, s.value]; })")
    check(defaults == [["0", "2048", "512"], ["0", "1", "0.8"], ["0", "100", "50"], ["0", "2", "1"]], f"sliders {defaults}")
    check(browser.run("return document.querySelector('#do_sample').checked"), "do_sample is on")

    # Lines with Shift+Enter, Chinese, sent with Enter; the answer streams.
    slide(browser, "max_new_tokens", 300)
    browser.type("#input", "第一行" + SHIFT + ENTER + SHIFT + "第二行，你好！")
    check(browser.run("return document.querySelector('#input').value") == "第一行\n第二行，你好！", "two lines")
    browser.type("#input", ENTER)
    check(browser.text(".user .text") == "第一行\n第二行，你好！", "the message as it was typed")
    browser.answered()
    check(browser.run("return document.querySelector('#input').value") == "", "the input is empty again")

    # <script> and other markup from the person is shown, not done.
    attack = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    browser.type("#input", attack + ENTER)
    browser.answered()
    texts = browser.run("return [...document.querySelectorAll('.user .text')].map(e => e.textContent)")
    check(texts[-1] == attack, "markup is text")
    check(browser.run("return document.title") == "360Zhinao", "no script ran")
    check(browser.run("return document.querySelectorAll('#messages script, #messages img').length") == 0, "no elements of it")

    # Reload: the conversation and the settings are still there.
    before = browser.run(count)
    browser.open(server.url)
    check(browser.run(count) == before, "the conversation survives a reload")
    check(browser.run("return document.querySelector('#max_new_tokens').value") == "300", "settings survive a reload")
    browser.shoot("light")

    browser.click("#regenerate")
    browser.answered()
    # The model may have had nothing to say, before or now: then there is no message.
    check(browser.run("return [...document.querySelectorAll('#messages .message')].slice(-2)"
                      ".some(e => e.matches('.user'))"), "regenerating replaces an answer")
    browser.click("#clear")
    check(browser.run(count) == 0, "clear")
    browser.open(server.url)
    check(browser.run(count) == 0, "clear survives a reload")


def stopping(browser, server):
    """An endless answer is stopped with the button, another with Escape; the server stops working on them."""
    slide(browser, "max_new_tokens", 2048)
    browser.click("#do_sample")
    browser.run(ENDLESS)
    for how in ("button", "key"):
        browser.type("#input", "讲一个很长的故事" + ENTER)
        browser.wait(last, "text")
        check(not browser.run("return document.querySelector('#stop').hidden"), "a stop button while streaming")
        first = browser.run(last)
        browser.wait(f"return ((document.querySelectorAll('#messages .assistant .text')) && "
                     f"[...document.querySelectorAll('#messages .assistant .text')].pop().textContent.length > {len(first)})",
                     "more text")
        if how == "button":
            browser.shoot("streaming")
            browser.click("#stop")
        else:
            browser.type("#input", ESCAPE)
        browser.answered()
        check(browser.text(".assistant:last-child .note") == "stopped", "a note that it was stopped")
        check("tokens/s" in browser.text("#speed"), f"the speed: {browser.text('#speed')!r}")
        end = time.monotonic() + 5
        while server.metric("zhinao_requests_running") and time.monotonic() < end:
            time.sleep(0.05)
        check(server.metric("zhinao_requests_running") == 0, "the server stops too")
        browser.click("#clear")


MARKDOWN = """# Title 标题

A **bold** word, *italic*, `code <b>`, ~~gone~~, [good](https://example.org/a?b=c), [bad](javascript:alert(1)), https://example.org.

- one
- two
  1. deeper
  2. still

> quoted <img src=x onerror=alert(1)>

| a | b |
|---|---|
| 1 | <script>alert(1)</script> |

```python
print("<b>not bold</b>")
```
<script>document.title = "owned"</script>
"""


class Canned(BaseHTTPRequestHandler):
    """The real page from the real server, with an answer that a real model would not give on demand."""
    real = None

    def do_GET(self):
        try:
            with urllib.request.urlopen(self.real + self.path) as response:
                body, headers = response.read(), response.headers
        except urllib.error.HTTPError as error:
            body, headers = error.read(), error.headers
        self.send_response(200)
        for name in ("Content-Type", "Content-Security-Policy"):
            if headers[name]:
                self.send_header(name, headers[name])
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for start in range(0, len(MARKDOWN), 7):
            chunk = {"choices": [{"index": 0, "delta": {"content": MARKDOWN[start:start + 7]}, "finish_reason": None}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_):
        pass


def rendering(browser, server):
    Canned.real = server.url
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Canned)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    browser.open(f"http://127.0.0.1:{proxy.server_port}/")
    browser.type("#input", "Markdown" + ENTER)
    browser.answered()
    inside = "document.querySelector('#messages .assistant .text')"
    shape = browser.run(f"return Object.fromEntries(['h1','strong','em','del','ul > li','ol > li','blockquote','td','pre > code',"
                        f"'a','script','img','b'].map(s => [s, {inside}.querySelectorAll(s).length]))")
    check(shape == {"h1": 1, "strong": 1, "em": 1, "del": 1, "ul > li": 2, "ol > li": 2, "blockquote": 1, "td": 2, "pre > code": 1,
                    "a": 2, "script": 0, "img": 0, "b": 0}, f"Markdown as elements: {shape}")
    links = browser.run(f"return [...{inside}.querySelectorAll('a')].map(a => a.href + ' ' + a.rel)")
    check(all(link.startswith("https://example.org/") and link.endswith("noopener noreferrer") for link in links), f"links {links}")
    check("[bad](javascript:alert(1))" in browser.run(f"return {inside}.textContent"), "a link to code stays text")
    check(browser.run("return document.title") == "360Zhinao", "no script ran")
    browser.shoot("markdown")
    browser.click("#theme")
    check(browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 20)", "dark colours")
    browser.shoot("dark")
    browser.click("#language")
    check(browser.text("#send") == "发送" and browser.run("return document.documentElement.lang") == "zh-CN", "Chinese")
    browser.shoot("dark-chinese")
    proxy.shutdown()


def phone(server):
    browser = Browser(390, 844, language="zh-CN", mobile=True)
    browser.open(server.url)
    check(browser.text("#send") == "发送", "Chinese by the browser's language")
    browser.type("#input", "讲一个故事，好吗？请从春天讲起。")
    browser.click("#send")
    browser.answered()
    width = "return document.documentElement.scrollWidth"
    check(browser.run(width) <= 390, "nothing is wider than the phone")
    browser.shoot("phone")
    browser.click("#settings-toggle")
    check(browser.run("return document.querySelector('#settings').getBoundingClientRect().left") >= 0, "settings fit")
    browser.shoot("phone-settings")
    check(browser.run(width) <= 390, "nothing is wider than the phone")
    browser.close()


def searching(browser, server):
    """Ranks passages with a reranker and with vectors; the chat stays where it is."""
    browser.open(server.url)
    browser.wait("return !document.querySelector('#search-toggle').hidden", "the button for search")
    check(browser.run("return [...document.querySelector('#model').options].map((o) => o.value)") == ["tiny-zhinao"], "only one model chats")
    browser.click("#search-toggle")
    check(browser.run("return getComputedStyle(document.querySelector('#composer')).display") == "none", "the chat gives way")
    check(browser.run("return getComputedStyle(document.querySelector('#defaults')).display") == "none", "settings of chats give way, too")
    browser.type("#query", "老王骑马")
    browser.type("#passages", "话说天下大势\n\n却说那老王骑马而去\n<b>x</b>")
    tops = []
    for ranker, rule in (("tiny-bert-cross", "reranker"), ("tiny-bert", "vectors")):
        browser.run("document.querySelector('#ranker').value = arguments[0]; document.querySelector('#results').replaceChildren()", ranker)
        browser.click("#rank")
        browser.wait("return document.querySelectorAll('#results li').length === 3", f"a ranking by {rule}")
        scores = [float(score) for score in browser.run("return [...document.querySelectorAll('#results .score')].map((e) => e.textContent)")]
        check(scores == sorted(scores, reverse=True), f"{rule}: {scores}")
        tops.append(browser.text("#results li .passage"))
    check(tops[1] == "却说那老王骑马而去", f"the passage with the query's words is the nearest: {tops}")
    check(browser.run("return document.querySelectorAll('#results b').length") == 0, "markup in passages is text")
    browser.shoot("search")
    browser.click("#search-toggle")
    check(browser.run("return getComputedStyle(document.querySelector('#composer')).display") != "none", "the chat comes back")
    complaints = browser.complaints()
    check(not complaints, f"console: {complaints}")


def searching_only(browser, server):
    browser.open(server.url)
    browser.wait("return document.body.classList.contains('searching')", "the search of a server without chats")
    check(browser.run("return document.querySelector('#search-toggle').hidden"), "there is nothing to switch to")
    check(browser.run("return document.querySelector('#model').hidden"), "there is no model to chat with")


with Server() as server:
    browser = Browser()
    conversation(browser, server)
    stopping(browser, server)
    rendering(browser, server)
    complaints = [message for message in browser.complaints() if "favicon" not in message]
    check(not complaints, f"console: {complaints}")
    browser.close()
    phone(server)
with Server("--api-key", "open sesame") as server:
    browser = Browser()
    browser.open(server.url)
    browser.type("#input", "你好" + ENTER)
    browser.answered()
    check("API key" in browser.text("#notice"), "the page says that a key is needed")
    browser.type("#key", "open sesame" + ENTER)
    slide(browser, "max_new_tokens", 5)
    browser.run(ENDLESS)
    browser.click("#regenerate")
    browser.answered()
    check(browser.text("#notice") == "", f"with the key: {browser.text('#notice')}")
    check(browser.run(last), "with the key there is an answer")
    browser.close()
with Server(models=(TINY, BERT, CROSS)) as server:
    browser = Browser()
    searching(browser, server)
    browser.close()
with Server(models=(CROSS,)) as server:
    browser = Browser()
    searching_only(browser, server)
    browser.close()
print("page in Chromium: passed")
