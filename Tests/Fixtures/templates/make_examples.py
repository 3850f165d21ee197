"""Renders the templates of sources.jsonl, one JSON string a line, with Jinja2 3.1.6 in the environment that transformers uses, and
writes examples.jsonl: [source, "text" | "error" | "fault", text] a line. "error" is the message of raise_exception, "fault" any
other exception. The values are those of `Examples.variables` in Tests/TemplatesTests.
    python make_examples.py"""
import datetime, json, pathlib
import jinja2, jinja2.ext, jinja2.sandbox

here = pathlib.Path(__file__).parent


class Raised(Exception):
    pass


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def raise_exception(message):
    raise Raised(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def variables():
    call = {"function": {"name": "f", "arguments": {"city": "Paris", "n": 2, "f": 1.5, "t": True, "z": None}}}
    properties = {"a": {"type": ["string", "null"]}, "items": {"type": "array"}}
    parameters = {"type": "object", "properties": properties, "required": ["a"]}
    return {
        "messages": [
            {"role": "system", "content": "You are — 默认 <b>"},
            {"role": "user", "content": "Hi there's \"x\" {{ y }}"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "user", "content": [{"type": "text", "text": "part"}, {"type": "image"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "get", "parameters": parameters}}],
        "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True,
        "n": 3, "neg": -7, "x": 2.5, "big": 1e20, "small": 1e-7, "zero": 0, "empty": "", "nothing": None, "yes": True, "no": False,
        "s": "Hello World", "u": "ÄÖ ß 天气 😀 ǆ", "ws": " \t a\n b \r\n\u2003", "num": "42", "fl": "3.14",
        "xs": [3, 1, 2], "ys": ["b", "A", "c", "a"], "es": [], "d": {"b": 1, "a": 2, "C": 3}, "e": {},
        "nest": [[1, 2], [3, [4]]], "mix": [1, "a", None, True, 2.0, [1], {"k": "v"}],
        "rows": [{"k": "x", "v": 1}, {"k": "Y", "v": 3}, {"k": "x", "v": 2}, {"v": 9}],
    }


environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception
environment.globals["strftime_now"] = lambda form: datetime.datetime(2026, 11, 30, 12, 0, 0).strftime(form)

with open(here / "examples.jsonl", "w", encoding="utf-8") as file:
    for line in open(here / "sources.jsonl", encoding="utf-8"):
        source = json.loads(line)
        try:
            outcome = ["text", environment.from_string(source).render(**variables())]
        except Raised as error:
            outcome = ["error", str(error)]
        except Exception:
            outcome = ["fault", ""]
        file.write(json.dumps([source, *outcome], ensure_ascii=False) + "\n")
