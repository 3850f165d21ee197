#!/usr/bin/env python3
"""Write the data of `zhinao-evaluate --demo` to Sources/zhinao-evaluate/Resources/demo.

usage: make_demo_data.py [OUT_DIR]

Nothing is downloaded. The questions are our own (Tests/Fixtures/golden/choice-questions.json and below); passages and haystacks are chapters
of novels in the public domain that the repository already holds: Dream of the Red Chamber (Cao Xueqin), Journey to the West (Wu Cheng'en),
Pride and Prejudice (Jane Austen), Alice's Adventures in Wonderland (Lewis Carroll). Run twice it writes the same bytes.
"""
import json, os, shutil, sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "Sources", "zhinao-evaluate", "Resources", "demo")
TINY = os.path.join(ROOT, "Sources", "DemoModels", "tiny-zhinao")
SEARCH = os.path.join(ROOT, "Sources", "DemoModels", "tiny-search")
GOLDEN = os.path.join(ROOT, "Tests", "Fixtures", "golden")

# (subject, passage, question, answers): the answer stands in the passage, so a model has only to find it.
GENERATION = [
    ("english", "Mr. Bingley had rented Netherfield. He came down on Monday in a chaise and four to see the place.", "Which house had Mr. Bingley rented?", ["Netherfield"]),
    ("english", "Alice looked at the bottle. It was marked DRINK ME, and not poison, so she tasted it.", "What was the bottle marked?", ["DRINK ME"]),
    ("english", "The White Rabbit took a watch out of its waistcoat-pocket, looked at it, and hurried on.", "What did the Rabbit take out of its pocket?", ["a watch", "watch"]),
    ("english", "Mrs. Bennet had five daughters, and Jane was the eldest of them.", "Who was the eldest daughter?", ["Jane"]),
    ("english", "The Hatter, the March Hare and the Dormouse were having tea under a tree in front of the house.", "What were they having under the tree?", ["tea"]),
    ("chinese", "孙悟空的兵器叫如意金箍棒，重一万三千五百斤。", "孙悟空的兵器叫什么？", ["如意金箍棒", "金箍棒"]),
    ("chinese", "贾宝玉住在怡红院，林黛玉住在潇湘馆。", "林黛玉住在哪里？", ["潇湘馆"]),
    ("chinese", "唐僧有三个徒弟：孙悟空、猪八戒和沙僧。", "唐僧有几个徒弟？", ["三"]),
    ("chinese", "刘姥姥带着外孙板儿进了荣国府。", "刘姥姥带着谁进了荣国府？", ["板儿"]),
    ("chinese", "猪八戒用的是九齿钉耙。", "猪八戒用的是什么？", ["九齿钉耙", "钉耙"]),
]


def write(name, lines):
    path = os.path.join(OUT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def copy(source, name):
    os.makedirs(os.path.dirname(os.path.join(OUT, name)), exist_ok=True)
    shutil.copyfile(source, os.path.join(OUT, name))


questions = json.load(open(os.path.join(GOLDEN, "choice-questions.json"), encoding="utf-8"))
for split in ("test", "dev"):
    write(f"choices/{split}.jsonl", [
        compact({"id": f"{subject}-{split}-{number}", "subject": subject, "question": question, "choices": choices, "answer": answer})
        for subject, language in (("chinese", "zh"), ("english", "en"))
        for number, (question, choices, answer) in enumerate(questions[f"{split}_{language}"])])
write("generation/test.jsonl", [
    compact({"id": f"{subject}-{number}", "subject": subject, "context": passage, "question": question, "answers": answers, "max_tokens": 16})
    for number, (subject, passage, question, answers) in enumerate(GENERATION)])
for language in ("en", "zh"):
    copy(os.path.join(TINY, f"eval.{language}.txt"), f"haystack/{language}.txt")
for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv"):
    copy(os.path.join(SEARCH, name), f"retrieval/{name}")
copy(os.path.join(GOLDEN, "rerank-tiny.jsonl"), "reranking/test.jsonl")
print(OUT, sum(os.path.getsize(os.path.join(f, n)) for f, _, ns in os.walk(OUT) for n in ns), "bytes")
