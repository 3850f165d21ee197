"""Models, the windows they are calibrated on, and the texts they are measured on. No text is both."""
import json, pathlib, random, sysconfig

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
TINY = ROOT / "Sources/DemoModels/tiny-zhinao"
LENGTH = 512  # tokens of a calibration window
SAMPLES = 32  # windows of a draw
HELD_OUT = 10  # windows of the calibration text that no draw of --tokens takes; and those of the first text that it measures
# Sources of Python's standard library.
CODE = ["argparse.py", "ast.py", "configparser.py", "statistics.py", "tarfile.py", "typing.py"]
# Text, tokens of a window, most windows.
OF_TINY = {"Chinese": ("zh", 256, 1000), "English": ("en", 256, 1000), "source code": ("code", 256, 40)}
OF_OTHERS = {"WikiText-2 test": ("wikitext", 512, 20), "Chinese": ("zh", 512, 8), "source code": ("code", 512, 8)}


class Model:
    """A model with its texts, prepared in a folder of its own."""

    def __init__(self, name, source, bench):
        self.name, self.bench, self.is_tiny = name, bench, name == "tiny"
        self.source = pathlib.Path(source)
        self.work = bench.folder / name
        self.work.mkdir(parents=True, exist_ok=True)

    @property
    def stock(self):
        """The folder that other tools read."""
        if json.load(open(self.source / "config.json"))["model_type"] != "zhinao":
            return self.source
        return self.bench.converted(self.source, self.work / "stock", "--to", "stock")

    @property
    def gguf(self):
        return self.bench.converted(self.stock, self.work / "float.gguf")

    def ids(self, texts):
        """Ids of each text, which is encoded whole and without added tokens."""
        lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
        said = self.bench.tool("zhinao-verify", "tokenize", self.source, input=lines)
        return [json.loads(line)["ids"] for line in said.splitlines()]

    def decoded(self, windows):
        lines = "".join(json.dumps({"ids": w}) + "\n" for w in windows)
        said = self.bench.tool("zhinao-verify", "tokenize", self.source, input=lines)
        return [json.loads(line)["decoded"] for line in said.splitlines()]

    # Calibration

    def wikitext(self, name):
        if not self.bench.wikitext:
            raise SystemExit("--wikitext FOLDER is needed: a folder with test.txt and valid.txt of WikiText-2")
        return (self.bench.wikitext / name).read_bytes().decode()

    def validation(self):
        if not hasattr(self, "_validation"):
            self._validation = self.ids([self.wikitext("valid.txt")])[0]
        return self._validation

    def windows(self, draw):
        """Calibration windows of a draw. Draw 0 is evenly spaced (of SmolLM2, smollm2-calibration.jsonl of Tests/Fixtures); other
        draws start each window elsewhere within its part of the text."""
        chance = random.Random(draw)
        if self.is_tiny:
            texts = [json.loads(line)["text"] for line in open(TINY / "calibration.jsonl", encoding="utf-8")]
            parts = [ids for ids in self.ids(texts) if len(ids) >= LENGTH]
            starts = [chance.randint(0, len(ids) - LENGTH) if draw else 0 for ids in parts]
            return [ids[s:s + LENGTH] for ids, s in zip(parts, starts)]
        ids = self.validation()
        step = len(ids) // SAMPLES
        starts = [i * step + (chance.randint(0, step - LENGTH) if draw else 0) for i in range(SAMPLES)]
        return [ids[s:s + LENGTH] for s in starts]

    def slots(self):
        """The calibration text in full windows: those that are held out, and the others."""
        ids = self.validation()
        all = [ids[i:i + LENGTH] for i in range(0, len(ids) - LENGTH + 1, LENGTH)]
        every = len(all) // HELD_OUT
        held = [every // 2 + every * i for i in range(HELD_OUT)]
        return [all[i] for i in held], [w for i, w in enumerate(all) if i not in set(held)]

    def first_windows(self, count, draw):
        """`count` windows that are not held out; fewer windows of the same draw are among them."""
        _, free = self.slots()
        order = list(range(len(free)))
        random.Random(draw).shuffle(order)
        return [free[i] for i in sorted(order[:count])]

    def written(self, windows, name):
        path = self.work / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"input_ids": w}) + "\n" for w in windows))
        return path

    # Evaluation

    def text(self, kind):
        if kind == "wikitext":
            return self.wikitext("test.txt")
        if kind == "code":
            library = pathlib.Path(sysconfig.get_paths()["stdlib"])
            return "".join((library / name).read_text(encoding="utf-8") for name in CODE)
        return (TINY / f"eval.{kind}.txt").read_bytes().decode()

    def texts(self):
        """Name, file of ids and window of each text."""
        for name, (kind, window, most) in (OF_TINY if self.is_tiny else OF_OTHERS).items():
            path = self.work / f"text-{kind}.json"
            if not path.exists():
                path.write_text(json.dumps(self.ids([self.text(kind)])[0][:window * most]))
            yield name, path, window

    def held_out(self):
        path = self.work / "text-held-out.json"
        if not path.exists():
            path.write_text(json.dumps([id for window in self.slots()[0] for id in window]))
        return path
