"""The rows of zhinao-tune beside transformers, for a model with a chat template: rows.py MODEL [COUNT]

Random conversations are written with the model's own template by transformers. An answer is what the template writes after the prompt
that opens it, up to the token that ends it. Where the text before an answer ends in the middle of a token of the whole text, transformers' ids of the
prompt and of the whole differ; there a row is the ids of the prompt followed by those of the rest, as a chat has them. Needs PyPI.
"""

import json, os, random, subprocess, sys, tempfile

from transformers import AutoTokenizer

model, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 300
tune = os.environ.get("ZHINAO_TUNE", ".build/release/zhinao-tune")
tokenizer = AutoTokenizer.from_pretrained(model)
random.seed(3)
pieces = ["Hello", "world ", " ", "\n", "\n\n", "  x", "你好", "!", "1234", "é", "😀", "tab\t", "The quick brown fox. ", "<b>", "'s ", "\u3000"]


def text():
    return "".join(random.choice(pieces) for _ in range(random.randrange(1, 12)))


def conversation():
    turns = [{"role": "system", "content": text()}] if random.random() < 0.3 else []
    for _ in range(random.randrange(1, 5)):
        turns += [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
    return turns


def encode(part):
    return tokenizer(part, add_special_tokens=False)["input_ids"]


def render(turns, opening=False):
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opening)


end = tokenizer.convert_tokens_to_ids(os.environ.get("END_OF_TURN", "<|im_end|>"))
conversations = [conversation() for _ in range(count)]
with tempfile.TemporaryDirectory() as folder:
    path = f"{folder}/data.jsonl"
    with open(path, "w") as file:
        file.writelines(json.dumps({"messages": turns}) + "\n" for turns in conversations)
    out = subprocess.run(
        [tune, model, "--data", path, "--print-rows", "--max-length", "8192", "--train-on", "assistant"],
        capture_output=True, text=True, check=True).stdout
rows = [json.loads(line) for line in out.splitlines()]
assert len(rows) == count, f"{len(rows)} rows of {count} conversations"
cut = 0
for turns, row in zip(conversations, rows):
    whole, ids, labels, taken = render(turns), [], [], 0

    def add(upto, counted):
        global taken
        new = encode(whole[taken:upto])
        last = len(new) - 1 - new[::-1].index(end) if counted else -1
        ids.extend(new)
        labels.extend(token if place <= last else -100 for place, token in enumerate(new))
        taken = upto

    for place, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        before, after = render(turns[:place], opening=True), render(turns[: place + 1])
        assert whole.startswith(before) and whole.startswith(after)
        add(len(before), False)
        add(len(after), True)
    add(len(whole), False)
    cut += encode(whole) != ids
    assert ids == row["input_ids"], (turns, ids, row["input_ids"])
    assert labels == row["labels"], (turns, labels, row["labels"])
print(f"{count} conversations: all ids and labels are equal; {cut} have answers that begin in the middle of a token")
