#!/usr/bin/env python3
"""Compares WordPiece of `zhinao-verify tokenize` with the tokenizers library on every code point and on random texts.

Makes a vocabulary from the documents of this repository, in which every assigned character outside the large ideographic blocks
is a token of its own, at the start of a word and inside one: so a difference in any character shows. Checked are, for each setting
of lower case, accents and spaces around ideographs, as `vocab.txt` and as `tokenizer.json`:

- every code point of Unicode between two letters;
- 5,000 random texts (many scripts, controls, private use, unassigned characters, emoji, combining marks, long words, names of
  special tokens), encoded, decoded, and with special tokens taken as text;
- as many random pairs, cut by both strategies from both sides.

Every answer must be the same. Needs tokenizers.

    Tests/External/Tokenizers/wordpiece.py [--verify .build/release/zhinao-verify] [--texts 5000]
    Tests/External/Tokenizers/wordpiece.py --speed MODEL_DIR TEXT [--bench .build/release/zhinao-bench]   # against tokenizers, one thread
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SETTINGS = [
    # lower case, accents, spaces around ideographs
    (True, None, True), (False, None, True), (True, False, True), (False, True, True), (True, None, False),
]
IDEOGRAPHS = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x17000, 0x18CFF), (0x20000, 0x323AF)]


def documents():
    for path in sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("Docs/*.md")):
        yield from (line for line in path.read_text().splitlines() if line.strip())


def vocabulary():
    """Tokens by id. Special tokens are not where most models have them."""
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=False)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trained.train_from_iterator(documents(), trainers.WordPieceTrainer(vocab_size=3000, show_progress=False))
    words = [w for w in sorted(trained.get_vocab()) if w not in SPECIALS]
    words += [w.lower() for w in words]
    characters = [
        chr(c) for c in range(33, 0x30000)
        if unicodedata.category(chr(c)) not in ("Cn", "Co", "Cs") and not any(a <= c <= b for a, b in IDEOGRAPHS)
    ]
    characters += [chr(c) for a, b in IDEOGRAPHS for c in range(a, b, 7)]
    for character in characters:
        words += [character, "##" + character]
    words = list(dict.fromkeys(w for w in words if w.strip() == w and "\n" not in w and "\r" not in w and "\x85" not in w))
    return words[:7] + SPECIALS + words[7:]


def reference(words, setting, plain=False):
    lower, accents, spaces = setting
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=spaces, strip_accents=accents, lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])])
    tokenizer.encode_special_tokens = plain
    return tokenizer


def random_text(rng):
    words = (
        "the of and Hello there's DON'T we've naïve café Straße Ünïcode İstanbul ΣΊΣΥΦΟΣ 你好 世界 模型 こんにちは ガラス 안녕 각 Привет "
        "שלום مرحبا नमस्ते தமிழ் ไทย 3.14 ２０２６ x² ① foo_bar http://a.b/c?d=e --flag ≠ ﬁ Å K 豈 丽 々〇"
    ).split()
    spaces = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028", "\u200b", "\u0085", "\u000b", "\u00ad", "\ufeff"]
    marks = "\u0301\u0308\u0327\u3099\u20e3\ufe0f\u200d\u0338\u0345\u302e\u302f\u1b44\ua953\u0903\u0bd7\u1171e\U0001d165\u0488"
    emoji = ["😀", "👩\u200d💻", "🏽", "🇨🇳", "❤️", "𝕏", "𠮷", "𪜶", "\U0002b830", "\U0002b920", "\U00030000"]
    names = SPECIALS + ["[sep]", "[ SEP ]", "##a", "[unused1]", "# #", "[[CLS]]"]
    parts = []
    for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 8, 13, 30])):
        kind = rng.random()
        if kind < 0.30:
            parts.append(rng.choice(words))
        elif kind < 0.50:
            parts.append(rng.choice(spaces) if rng.random() < 0.5 else " ")
        elif kind < 0.60:
            parts.append(rng.choice("aeno가か中") + "".join(rng.choice(marks) for _ in range(rng.randrange(1, 5))))
        elif kind < 0.66:
            parts.append(rng.choice(emoji))
        elif kind < 0.72:
            parts.append(rng.choice(names))
        elif kind < 0.76:
            parts.append(chr(rng.randrange(0, 32)))
        elif kind < 0.84:
            parts.append("".join(chr(rng.randrange(0x80, 0x3000)) for _ in range(rng.randrange(1, 6))))
        elif kind < 0.94:
            value = rng.choice([rng.randrange(0x3000, 0xD800), rng.randrange(0xE000, 0x20000), rng.randrange(0x20000, 0x110000)])
            parts.append(chr(value))
        else:
            parts.append(rng.choice(["a", "ab", "é", "中", "가", "-", "x\u0301"]) * rng.randrange(1, 120))
    return "".join(parts)


def answers(verify, path, requests, *options):
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    run = subprocess.run([verify, "tokenize", str(path), *options], input=lines.encode(), capture_output=True)
    if run.returncode:
        raise SystemExit(f"{path}: {run.stderr.decode()}")
    return [json.loads(line) for line in run.stdout.splitlines()]


class Comparison:
    def __init__(self):
        self.count = 0
        self.wrong = []

    def check(self, what, subject, found, expected):
        self.count += 1
        if found != expected:
            self.wrong.append((what, subject, found, expected))


def every_code_point():
    texts = []
    for start in range(0, 0x110000, 64):
        if 0xD800 <= start < 0xE000:
            continue
        texts.append(" ".join(f"a{chr(c)}b" for c in range(start, start + 64)))
    return texts


def compare(words, setting, path, texts, rng, verify):
    result = Comparison()
    tokenizer = reference(words, setting)
    for kind, subjects in (("every code point", every_code_point()), ("ids", texts)):
        found = answers(verify, path, [{"text": text} for text in subjects])
        for text, answer in zip(subjects, found, strict=True):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            result.check(kind, text, answer["ids"], ids)
            result.check("decoded", text, answer["decoded"], tokenizer.decode(ids, skip_special_tokens=False))
    plain = reference(words, setting, plain=True)
    for text, answer in zip(texts, answers(verify, path, [{"text": t} for t in texts], "--plain"), strict=True):
        result.check("plain", text, answer["ids"], plain.encode(text, add_special_tokens=False).ids)
    for strategy in ("longest_first", "only_second"):
        for side in ("right", "left"):
            requests = []
            for text in texts[: len(texts) // 4 + 1]:
                pair = rng.choice([None, rng.choice(texts), rng.choice(texts), ""])
                limit = rng.choice([3, 4, 5, 8, 16, 17, 64, 512])
                if strategy == "only_second":
                    # Where the first text fills the limit, both refuse.
                    pair = pair or "a pair"
                    limit = max(limit, 4 + len(tokenizer.encode(text, add_special_tokens=False).ids))
                requests.append({"text": text, "pair": pair, "max_length": limit})
            found = answers(verify, path, requests, "--truncation", strategy, "--truncation-side", side)
            for request, answer in zip(requests, found, strict=True):
                tokenizer.enable_truncation(request["max_length"], strategy=strategy, direction=side)
                pair = [request["pair"]] if request["pair"] is not None else []
                encoding = tokenizer.encode(request["text"], *pair)
                result.check(f"{strategy} {side}", request, (answer["ids"], answer["type_ids"]), (encoding.ids, encoding.type_ids))
            tokenizer.no_truncation()
    print(f"{path.name:12} lower {setting[0]!s:5} accents {setting[1]!s:5} ideographs {setting[2]!s:5} "
          f"{result.count - len(result.wrong):6} of {result.count} equal", flush=True)
    for what, subject, found, expected in result.wrong[:4]:
        print(f"    {what}: {subject!r}\n      found    {found!r}\n      expected {expected!r}")
    return len(result.wrong)


def speed(model, text, bench):
    """Both encode the lines of a text on one thread; the best of five runs."""
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    content = pathlib.Path(text).read_text(encoding="utf-8")
    lines = [line for line in content.split("\n") if line]
    byte_count = sum(len(line.encode()) for line in lines)

    def best(encode):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            encode()
            times.append(time.perf_counter() - start)
        return byte_count / min(times) / 1e6

    theirs = best(lambda: tokenizer.encode_batch_fast(lines, add_special_tokens=False))
    answer = subprocess.run([bench, "tokenize", model, text, "--json"], capture_output=True, check=True)
    ours = json.loads(answer.stdout)["bytes_per_second"] / 1e6
    print(f"{model} {text}: {ours:.1f} MB/s, tokenizers {theirs:.1f} MB/s, {ours / theirs:.1f} times")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--verify", default=str(ROOT / ".build/release/zhinao-verify"))
    parser.add_argument("--bench", default=str(ROOT / ".build/release/zhinao-bench"))
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--speed", nargs=2, metavar=("MODEL_DIR", "TEXT"))
    options = parser.parse_args()
    if options.speed:
        return speed(*options.speed, options.bench)
    rng = random.Random(360)
    texts = [random_text(rng) for _ in range(options.texts)]
    words = vocabulary()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for setting in SETTINGS:
            as_json = pathlib.Path(folder) / "tokenizer.json"
            reference(words, setting).save(str(as_json))
            as_text = pathlib.Path(folder) / "vocab"
            as_text.mkdir(exist_ok=True)
            (as_text / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8", newline="\n")
            keys = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
            (as_text / "tokenizer_config.json").write_text(json.dumps(dict(zip(keys, setting))))
            for path in (as_json, as_text):
                wrong += compare(words, setting, path, texts, rng, options.verify)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
