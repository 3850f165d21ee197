#!/usr/bin/env python3
"""Compares `zhinao-verify tokenize` with transformers on random texts, for every form in which a tokenizer is stored.

Makes its own small tokenizers from the documents of this repository: `tokenizer.json` over bytes and over characters,
`vocab.json` with `merges.txt`, and SentencePiece's `tokenizer.model`. For each, 3,000 random texts (Latin, Chinese, emoji,
combining marks, runs of white space, control characters, names of special tokens) are encoded with and without affixes and
decoded with and without special tokens, and 500 random lists of ids are decoded. Every answer must be the same.

Needs transformers 5, tokenizers and sentencepiece.

    Tests/External/Tokenizers/compare.py [--verify .build/release/zhinao-verify] [--texts 3000] [--only NAME]
    Tests/External/Tokenizers/compare.py --write-fixtures     # writes the smaller ones of Tests/Fixtures/tokenizers instead
"""
import argparse
import io
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import sentencepiece  # noqa: E402
import transformers  # noqa: E402
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers  # noqa: E402
from tokenizers import processors, trainers  # noqa: E402

transformers.logging.set_verbosity_error()
ROOT = pathlib.Path(__file__).resolve().parents[3]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def documents():
    lines = []
    for path in sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("Docs/*.md")) + sorted(ROOT.glob("Formats/*.md")):
        lines += [line for line in path.read_text().splitlines() if line.strip()]
    return lines


# MARK: Texts


def random_text(rng):
    words = (
        "the of and Hello there's I'll DON'T we've naïve café Straße Ünïcode 你好 世界 模型 量化 こんにちは 안녕 Привет שלום "
        "مرحبا नमस्ते 3.14 1234567 ２０２６ x² ① foo_bar fooBar http://a.b/c?d=e --flag"
    ).split()
    spaces = [" ", "  ", "   ", "\t", "\n", "\n\n", " \n ", "\r\n", "\u00a0", "\u3000", "\u2028", "\u200b", "\u0085"]
    marks = ["\u0301", "\u0308", "\u0327", "\u3099", "\u20e3", "\ufe0f", "\u200d", "\u0338"]
    emoji = ["😀", "👩\u200d💻", "🏽", "🇨🇳", "❤️", "✈", "𝕏", "𠮷"]
    names = SPECIALS + ["<s>", "</s>", "<unk>", "[PAD]", "<0x0A>", "<0xE4>", "▁", "▁▁", "[word]", "[left]", "[right]", "é"]
    parts = []
    for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 8, 13, 30])):
        kind = rng.random()
        if kind < 0.35:
            parts.append(rng.choice(words))
        elif kind < 0.60:
            parts.append(rng.choice(spaces) if rng.random() < 0.5 else " ")
        elif kind < 0.68:
            parts.append(rng.choice("aeno가か") + rng.choice(marks))
        elif kind < 0.74:
            parts.append(rng.choice(emoji))
        elif kind < 0.84:
            parts.append(rng.choice(names))
        elif kind < 0.88:
            parts.append(chr(rng.randrange(0, 32)))
        elif kind < 0.93:
            parts.append("".join(chr(rng.randrange(0x80, 0x800)) for _ in range(rng.randrange(1, 6))))
        elif kind < 0.96:
            parts.append(chr(rng.choice([rng.randrange(0x800, 0xD800), rng.randrange(0x10000, 0x11000)])))
        else:
            parts.append(rng.choice("ab -=_.") * rng.randrange(1, 40))
    # Characters that are younger than the tables of one side belong to other classes there.
    return "".join(c for c in "".join(parts) if unicodedata.category(c) != "Cn")


# MARK: Tokenizers


SIZES = {"bytes": 900, "pieces": 1200}
COVERAGE = 0.99


def trained_bytes(pre, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        documents(),
        trainers.BpeTrainer(
            vocab_size=SIZES["bytes"], show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    return tokenizer


def trained_sentencepiece(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(documents()), model_writer=model, vocab_size=SIZES["pieces"], model_type="bpe",
        byte_fallback=True, character_coverage=COVERAGE, split_digits=True, allow_whitespace_only_pieces=True,
        normalization_rule_name="identity", minloglevel=2, num_threads=1, **options,
    )
    return model.getvalue()


def add_flags(tokenizer):
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    tokenizer.add_tokens([
        AddedToken("[word]", single_word=True), AddedToken("[left]", lstrip=True), AddedToken("[right]", rstrip=True),
        AddedToken("é", normalized=True), AddedToken("[PAD]", normalized=False), AddedToken("\n\n", normalized=False),
    ])


def split_then_bytes(prefix):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False),
    ])


def characters(proto, normalizer, pre, decoder, flags=True):
    """A tokenizer over characters with SentencePiece's pieces."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "tokenizer.model").write_bytes(proto)
        loaded = transformers.LlamaTokenizer.from_pretrained(folder)
    made = json.loads(loaded._tokenizer.to_str())
    made["model"]["unk_token"] = "<unk>"
    tokenizer = Tokenizer.from_str(json.dumps(made))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoder
    if flags:
        add_flags(tokenizer)
    begin = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", begin)]
    )
    return tokenizer


def sequence_decoder(strip):
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(steps + ([decoders.Strip(content=" ", left=1)] if strip else []))


def json_cases(proto):
    """Name and tokenizer of each `tokenizer.json`."""
    gpt2 = trained_bytes(pre_tokenizers.ByteLevel(add_prefix_space=False))
    spaced = trained_bytes(pre_tokenizers.ByteLevel(add_prefix_space=True))
    qwen = trained_bytes(split_then_bytes(False), normalizers.NFC())
    inside = trained_bytes(split_then_bytes(True), normalizers.NFC())
    for tokenizer in [gpt2, spaced, qwen, inside]:
        add_flags(tokenizer)
    yield "bytes", gpt2
    yield "bytes-space-before", spaced
    yield "bytes-qwen", qwen
    yield "bytes-space-before-each", inside
    prepend = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    yield "llama-legacy", characters(proto, prepend, None, sequence_decoder(True))
    yield "llama-no-prefix", characters(proto, normalizers.Replace(" ", "▁"), None, sequence_decoder(False))
    for scheme in ["first", "always", "never"]:
        space = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        yield f"metaspace-{scheme}", characters(proto, None, space, sequence_decoder(scheme != "never"))
    space = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    steps = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first", split=True)])
    yield "metaspace-split", characters(proto, normalizers.NFC(), space, steps)


def write_slow(folder, configuration, model_type="llama", added=True):
    tokenizer = trained_bytes(split_then_bytes(False))
    tokenizer.model.save(str(folder))
    config = {"model_type": model_type, "vocab_size": 1000}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration))
    if added:
        ids = {name: tokenizer.get_vocab_size() + i for i, name in enumerate(SPECIALS)}
        (folder / "added_tokens.json").write_text(json.dumps(ids))


def declared(first):
    tokens = {}
    for i, name in enumerate(SPECIALS):
        tokens[str(first + i)] = {
            "content": name, "lstrip": False, "rstrip": i == 2, "normalized": False, "single_word": False, "special": True,
        }
    return tokens


def folder_cases(root):
    """Name and folder of each tokenizer in older files."""

    def make(name):
        folder = root / name
        folder.mkdir()
        return folder

    named = {"eos_token": "<|im_end|>", "additional_special_tokens": SPECIALS}
    for name, kind, extra in [
        ("slow-qwen2", "Qwen2Tokenizer", {}), ("slow-gpt2", "GPT2Tokenizer", {}), ("slow-neox", "GPTNeoXTokenizer", {}),
        ("slow-qwen2-space", "Qwen2Tokenizer", {"add_prefix_space": True}),
        ("slow-gpt2-begin", "GPT2Tokenizer", {"add_prefix_space": True, "add_bos_token": True}),
    ]:
        folder = make(name)
        model_type = "qwen2" if kind == "Qwen2Tokenizer" else "llama"
        write_slow(folder, {"tokenizer_class": kind, **named, **extra}, model_type)
        yield name, folder
    plain = trained_sentencepiece(remove_extra_whitespaces=False)
    default = trained_sentencepiece()
    defined = trained_sentencepiece(remove_extra_whitespaces=False, user_defined_symbols=["<|im_start|>", "  ", "(a|b)"])
    bare = trained_sentencepiece(remove_extra_whitespaces=False, add_dummy_prefix=False)
    llama = {"tokenizer_class": "LlamaTokenizer"}
    for name, proto, configuration in [
        ("model-llama", plain, llama),
        ("model-llama-legacy", plain, {**llama, "legacy": True, "add_bos_token": True}),
        ("model-llama-eos", plain, {**llama, "legacy": False, "add_bos_token": True, "add_eos_token": True}),
        ("model-llama-bare", plain, {**llama, "add_prefix_space": False}),
        ("model-llama-added", plain, {**llama, "added_tokens_decoder": declared(SIZES["pieces"]), "pad_token": "<pad>"}),
        ("model-llama-defined", defined, llama),
        ("model-no-class", plain, {}), ("model-spaces", default, {}), ("model-bare", bare, {}),
        ("model-defined", defined, {}), ("model-not-legacy", plain, {"legacy": False}),
    ]:
        folder = make(name)
        (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 1203}))
        (folder / "tokenizer_config.json").write_text(json.dumps(configuration))
        (folder / "tokenizer.model").write_bytes(proto)
        yield name, folder


# MARK: Comparison


def answers(verify, path, requests, *options):
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    run = subprocess.run([verify, "tokenize", str(path), *options], input=lines.encode(), capture_output=True)
    if run.returncode:
        raise SystemExit(f"{path}: {run.stderr.decode()}")
    return [json.loads(line) for line in run.stdout.splitlines()]


def compare(name, path, reference, texts, verify, rng):
    wrong = []

    def check(what, subject, found, expected):
        if found != expected:
            wrong.append((what, subject, found, expected))

    requests = [{"text": text} for text in texts]
    for found, text in zip(answers(verify, path, requests), texts):
        ids = reference.encode(text, add_special_tokens=False)
        check("ids", text, found["ids"], ids)
        check("decoded", text, found["decoded"], reference.decode(ids, clean_up_tokenization_spaces=False))
    for found, text in zip(answers(verify, path, requests, "--add-special-tokens", "--skip-special-tokens"), texts):
        ids = reference.encode(text)
        check("ids with affixes", text, found["ids"], ids)
        decoded = reference.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        check("decoded without specials", text, found["decoded"], decoded)
    lists = [[rng.randrange(len(reference)) for _ in range(rng.randrange(1, 12))] for _ in range(500)]
    for found, ids in zip(answers(verify, path, [{"ids": ids} for ids in lists]), lists):
        check("random ids", ids, found["decoded"], reference.decode(ids, clean_up_tokenization_spaces=False))
    count = 4 * len(texts) + len(lists)
    print(f"{name:26} {count - len(wrong):6} of {count} equal", flush=True)
    for what, subject, found, expected in wrong[:4]:
        print(f"    {what}: {subject!r}\n      found    {found!r}\n      expected {expected!r}")
    return len(wrong)


# MARK: Fixtures

# Configurations that Tests/TokenizationTests/SentencePieceTests.swift gives to the same file.
CONFIGURATIONS = {
    "llama": {"tokenizer_class": "LlamaTokenizer"},
    "llama-legacy": {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True},
    "llama-bare": {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False},
    "trained": {},
}


def write_golden(path, reference, texts):
    with open(path, "w") as file:
        for text in texts:
            ids = reference.encode(text, add_special_tokens=False)
            record = {
                "text": text, "ids": ids, "with_affixes": reference.encode(text),
                "decoded": reference.decode(ids, clean_up_tokenization_spaces=False),
                "skipped": reference.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def write_fixtures(texts):
    global COVERAGE
    SIZES.update(bytes=400, pieces=700)
    COVERAGE = 0.98
    target = ROOT / "Tests/Fixtures/tokenizers"
    kept = {"llama-legacy", "metaspace-first", "metaspace-split", "bytes-space-before-each"}
    for name, tokenizer in json_cases(trained_sentencepiece(remove_extra_whitespaces=False)):
        if name in kept:
            tokenizer.save(str(target / f"{name}.json"), pretty=False)
            reference = transformers.PreTrainedTokenizerFast(tokenizer_file=str(target / f"{name}.json"))
            write_golden(target / f"{name}.jsonl", reference, texts)
    shutil.rmtree(target / "slow-qwen2", ignore_errors=True)
    (target / "slow-qwen2").mkdir()
    write_slow(target / "slow-qwen2", {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>"}, "qwen2")
    reference = transformers.AutoTokenizer.from_pretrained(str(target / "slow-qwen2"))
    write_golden(target / "slow-qwen2.jsonl", reference, texts)
    (target / "sentencepiece.model").write_bytes(trained_sentencepiece(user_defined_symbols=["(a|b)"]))
    for name, configuration in CONFIGURATIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(target / "sentencepiece.model", pathlib.Path(folder) / "tokenizer.model")
            (pathlib.Path(folder) / "config.json").write_text(json.dumps({"model_type": "llama"}))
            (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps(configuration))
            reference = transformers.AutoTokenizer.from_pretrained(folder)
            write_golden(target / f"sentencepiece-{name}.jsonl", reference, texts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--verify", default=str(ROOT / ".build/release/zhinao-verify"))
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--only")
    parser.add_argument("--write-fixtures", action="store_true")
    parser.add_argument("--keep", help="folder in which the tokenizers stay")
    options = parser.parse_args()
    rng = random.Random(360)
    texts = [random_text(rng) for _ in range(options.texts)]
    if options.write_fixtures:
        return write_fixtures(texts[:100])
    root = pathlib.Path(options.keep or tempfile.mkdtemp())
    root.mkdir(parents=True, exist_ok=True)
    wrong = 0
    try:
        for name, tokenizer in json_cases(trained_sentencepiece(remove_extra_whitespaces=False)):
            path = root / f"{name}.json"
            tokenizer.save(str(path))
            if options.only and options.only not in name:
                continue
            reference = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
            wrong += compare(name, path, reference, texts, options.verify, rng)
        for name, folder in folder_cases(root):
            if options.only and options.only not in name:
                continue
            reference = transformers.AutoTokenizer.from_pretrained(str(folder))
            wrong += compare(name, folder, reference, texts, options.verify, rng)
    finally:
        if not options.keep:
            shutil.rmtree(root)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
