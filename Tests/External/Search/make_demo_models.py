#!/usr/bin/env python3
"""Makes what `zhinao-search --demo` shows: an encoder, a reranker, a corpus and queries, from the project's own texts.

usage: make_demo_models.py [OUT_FOLDER]

The texts are those of the demo of zhinao-quantize: four novels in the public domain, two Chinese and two English. Passages of the
corpus are kept out of the training, and so are the queries, which are fragments of a passage's sentence without half of its words.

Seeds and numbers of steps are fixed, but the trainer of `tokenizers` takes pieces of equal frequency in any order, so that a rerun makes
other files of about the same quality. The files in the package are what counts.

Needs torch, transformers 5, tokenizers and numpy. Takes four minutes on two threads.
"""
import collections
import json
import math
import os
import random
import re
import sys
import time

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, BertModel

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..", "..")
TEXTS = os.path.join(ROOT, "Sources", "zhinao-quantize", "Resources", "tiny-zhinao")
OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "Sources", "DemoModels", "tiny-search")

SEED = 360
VOCABULARY = 1280
CHINESE = 680  # characters in the vocabulary
SHAPE = dict(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=192, max_position_embeddings=128)
LENGTH = SHAPE["max_position_embeddings"]
QUERIES = 10  # for each novel
ENCODER_STEPS, RERANKER_STEPS = 130, 700

torch.set_num_threads(2)
torch.manual_seed(SEED)
torch.use_deterministic_algorithms(True)
choose = random.Random(SEED)


# MARK: Texts
def read(name):
    with open(os.path.join(TEXTS, name), encoding="utf-8") as file:
        return file.read()


def is_chinese(text):
    return len(re.findall("[\u4e00-\u9fff]", text)) > len(text) / 3


def sentences(text):
    """Sentences in order; what is no prose (headings, lists of names) is left out."""
    if is_chinese(text):
        found = re.findall(r"[^。！？．\n]+[。！？．]+[”’\"]?", text)
        return [s.strip() for s in found if 6 <= len(s) <= 75 and "南无" not in s and not s.startswith("第")]
    text = re.sub(r"[_*]", "", re.sub(r"(?im)^chapter.*$", "", text))
    found = [re.sub(r"\s+", " ", s).strip() for s in re.findall(r"[^.!?]+[.!?]+[”’\"')]*", text)]
    return [s for s in found if 12 <= len(s) <= 210]


def passages(text):
    """Neighbouring sentences, about sixty characters of Chinese or two hundred of English, as lists."""
    least, most, gap = (40, 75, "") if is_chinese(text) else (100, 210, " ")
    found, some = [], []
    for sentence in sentences(text):
        if some and len(gap.join(some + [sentence])) > most:
            if len(gap.join(some)) >= least:
                found.append(some)
            some = []
        some.append(sentence)
    return found


def joined(some):
    return ("" if is_chinese(some[0]) else " ").join(some)


chinese, english = read("eval.zh.txt"), read("eval.en.txt")
journey, alice = chinese.index("第九十九回"), english.index("CHAPTER XII")
# Title, text, and how many of its passages the corpus has.
novels = [
    ("红楼梦", chinese[:journey], 40), ("西游记", chinese[journey:], 30),
    ("Pride and Prejudice", english[:alice], 30), ("Alice’s Adventures in Wonderland", english[alice:], 20)]
corpus, training = [], []
for title, text, count in novels:
    all_passages = passages(text)
    kept = set(choose.sample(range(len(all_passages)), count))
    for index, some in enumerate(all_passages):
        if index in kept:
            corpus.append((title, some))
        else:
            training.append(some)
for line in read("calibration.jsonl").splitlines():
    training += passages(json.loads(line)["text"])
zh = [p for p in training if is_chinese(joined(p))]
en = [p for p in training if not is_chinese(joined(p))]
print(f"{len(corpus)} passages in the corpus; {len(zh)} and {len(en)} to train on", flush=True)

STOP = set(
    "a an the of to in on at by for from with and or but nor so as if than that this these those it its is was were be been being am are "
    "he she his her him they them their we us our you your i my me not no do did does had has have having would could should will "
    "shall may might must can there here what which who whom whose how when where why all any some such very more most up out into "
    "over about after before again".split())


def fragment(sentence, source):
    """What somebody might type who remembers half of the sentence."""
    if is_chinese(sentence):
        clauses = [c for c in re.split(r"[，。！？；：、．“”‘’\"《》（）\s]+", sentence) if c]
        source.shuffle(clauses)
        text = ""
        for clause in clauses:
            text += (" " if text else "") + "".join(c for c in clause if source.random() > 0.3)
            if len(text) >= 12:
                break
        return text.strip()[:18]
    words = [w for w in re.findall(r"[A-Za-z]+", sentence) if w.lower() not in STOP]
    words = [w for w in words if source.random() > 0.4]
    return " ".join(words[:7]).lower()


def query_of(some, source):
    """A query that the passage answers; None when its sentences are too short."""
    for sentence in source.sample(some, len(some)):
        text = fragment(sentence, source)
        if len(text) >= (6 if is_chinese(sentence) else 14):
            return text
    return None


queries = []
for title, _, _ in novels:
    own = [i for i, (t, _) in enumerate(corpus) if t == title]
    for index in choose.sample(own, len(own)):
        text = query_of(corpus[index][1], choose)
        if text is not None and text not in joined(corpus[index][1]):
            queries.append((text, index))
        if sum(corpus[i][0] == title for _, i in queries) == QUERIES:
            break
assert len(queries) == 4 * QUERIES


# MARK: Vocabulary
def vocabulary():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    pieces += ["##" + chr(c) for c in range(97, 123)] + list("，。？！：；“”‘’．、…—《》")
    count = collections.Counter(c for p in zh for c in joined(p) if "\u4e00" <= c <= "\u9fff")
    pieces += [c for c, _ in sorted(count.items(), key=lambda item: (-item[1], item[0]))[:CHINESE]]
    trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer(lowercase=True)
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trained.train_from_iterator(
        [joined(p) for p in en],
        trainers.WordPieceTrainer(vocab_size=2000, continuing_subword_prefix="##", limit_alphabet=60, show_progress=False))
    by_rank = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    have = set(pieces)
    pieces += [piece for piece, _ in by_rank if piece not in have]
    return pieces[:VOCABULARY]


pieces = vocabulary()
assert len(set(pieces)) == VOCABULARY
UNK, CLS, SEP = (pieces.index(t) for t in ("[UNK]", "[CLS]", "[SEP]"))
tokenizer = Tokenizer(models.WordPiece(vocab={p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()


def ids(text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def padded(rows, types=None):
    width = max(map(len, rows))
    x, mask, kinds = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    for i, row in enumerate(rows):
        x[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
        if types is not None:
            kinds[i, : len(row)] = torch.tensor(types[i])
    return dict(input_ids=x, attention_mask=mask, token_type_ids=kinds)


def titled(title, some):
    """What the index embeds."""
    return title + " " + joined(some)


# MARK: Training
def train(model, steps, rate, loss_of, name):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    start, mean = time.time(), None
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 15) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if (step + 1) % 10 == 0:
            print(f"{name} step {step + 1}: loss {mean:.3f}, {time.time() - start:.0f} s", flush=True)
    model.eval()


config = BertConfig(
    vocab_size=VOCABULARY, type_vocab_size=2, hidden_act="gelu", pad_token_id=0, layer_norm_eps=1e-12,
    hidden_dropout_prob=0.05, attention_probs_dropout_prob=0.0, initializer_range=0.05, num_labels=1, **SHAPE)
encoder = BertModel(config, add_pooling_layer=False)


def vectors(rows):
    batch = padded([[CLS] + row[: LENGTH - 2] + [SEP] for row in rows])
    states = encoder(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def pairs(count):
    """Queries and passages, as ids, of one language: passages of the other would be too easy to tell apart."""
    pool = zh if choose.random() < 0.5 else en
    found = []
    while len(found) < count:
        some = choose.choice(pool)
        text = query_of(some, choose)
        if text is None:
            continue
        # A third of the passages get a title, as those of the corpus have.
        title = choose.choice([t for t, _, _ in novels]) if choose.random() < 0.35 else ""
        found.append((ids(text), ids(titled(title, some))))
    return found


def encoder_loss():
    batch = pairs(32)
    q, p = vectors([q for q, _ in batch]), vectors([p for _, p in batch])
    scores = q @ p.T / 0.05
    # The same passage drawn twice is no wrong answer.
    for i, (_, a) in enumerate(batch):
        for j, (_, b) in enumerate(batch):
            if i != j and a == b:
                scores[i, j] = -1e4
    target = torch.arange(len(batch))
    return torch.nn.functional.cross_entropy(scores, target)


def rounded(model):
    """The model with the weights that its file has."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).float())


def ndcg(order, wanted):
    place = order.index(wanted)
    return 1 / math.log2(place + 2) if place < 10 else 0.0


train(encoder, ENCODER_STEPS, 3e-3, encoder_loss, "encoder")
rounded(encoder)
with torch.no_grad():
    found = vectors([ids(t) for t, _ in queries]) @ vectors([ids(titled(t, p)) for t, p in corpus]).T
orders = [row.argsort(descending=True, stable=True).tolist() for row in found]
print("encoder NDCG@10", np.mean([ndcg(o, i) for o, (_, i) in zip(orders, queries)]), flush=True)

reranker = BertForSequenceClassification(config)
reranker.bert.load_state_dict(encoder.state_dict(), strict=False)
with torch.no_grad():
    # So short a training does not find out by itself that equal tokens in query and passage matter. Therefore, in the first layer, tokens
    # look at their equals: keys are the queries, both what the embedding says but for the kind of text. Values are the embeddings,
    # so that a token learns whether its equal stands in the other text.
    embeddings = reranker.bert.embeddings
    embeddings.position_embeddings.weight.mul_(0.1)
    kind = torch.randn(64)
    kind /= kind.norm()
    strength = 4.8 * embeddings.word_embeddings.weight.std()
    embeddings.token_type_embeddings.weight.copy_(torch.stack([strength * kind, -strength * kind]))
    embeddings.LayerNorm.weight.fill_(1)
    embeddings.LayerNorm.bias.zero_()
    for number, layer in enumerate(reranker.bert.encoder.layer):
        attention = layer.attention
        for part in (attention.self.query, attention.self.key):
            part.bias.zero_()
            if number == 0:
                part.weight.copy_(1.2 * (torch.eye(64) - torch.outer(kind, kind)))
            else:
                part.weight.normal_(0, 0.05)
        for part in (attention.self.value, attention.output.dense):
            part.weight.copy_(torch.eye(64))
            part.bias.zero_()
        for norm in (attention.output.LayerNorm, layer.output.LayerNorm):
            norm.weight.fill_(1)
            norm.bias.zero_()
        for part, deviation in ((layer.intermediate.dense, 0.1), (layer.output.dense, 0.05)):
            part.weight.normal_(0, deviation)
            part.bias.zero_()


def logits(batch):
    rows, types = [], []
    for q, p in batch:
        q = q[: LENGTH // 2]
        p = p[: LENGTH - 3 - len(q)]
        rows.append([CLS] + q + [SEP] + p + [SEP])
        types.append([0] * (len(q) + 2) + [1] * (len(p) + 1))
    return reranker(**padded(rows, types)).logits[:, 0]


def reranker_loss(candidates=6, count=8):
    """The passage among others: any of the language in the first half, and those that the encoder takes for it in the second."""
    reranker_loss.step += 1
    batch = pairs(24)
    with torch.no_grad():
        scores = vectors([q for q, _ in batch[:count]]) @ vectors([p for _, p in batch]).T
    flat = []
    for i in range(count):
        others = [j for j in scores[i].argsort(descending=True).tolist() if batch[j][1] != batch[i][1]]
        hard = others[: candidates // 2] if reranker_loss.step > RERANKER_STEPS // 2 else []
        rest = choose.sample(others[len(hard):], candidates - 1 - len(hard))
        flat += [(batch[i][0], batch[i][1])] + [(batch[i][0], batch[j][1]) for j in hard + rest]
    found = logits(flat).view(count, candidates)
    right = torch.zeros_like(found)
    right[:, 0] = 1
    # The list decides the order; the pairs by themselves make the sigmoid of a score mean something.
    return torch.nn.functional.cross_entropy(found, torch.zeros(count, dtype=torch.long)) + \
        0.2 * torch.nn.functional.binary_cross_entropy_with_logits(found, right, pos_weight=torch.tensor(5.0))


reranker_loss.step = 0
train(reranker, RERANKER_STEPS, 1.5e-3, reranker_loss, "reranker")
rounded(reranker)
with torch.no_grad():
    again = []
    for (text, _), order in zip(queries, orders):
        scores = logits([(ids(text), ids(titled(*corpus[i]))) for i in order[:20]])
        again.append([order[j] for j in scores.argsort(descending=True, stable=True).tolist()] + order[20:])
print("reranked NDCG@10", np.mean([ndcg(o, i) for o, (_, i) in zip(again, queries)]), flush=True)


# MARK: Files
def write(path, text):
    path = os.path.join(OUT, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def write_model(folder, model, architecture):
    settings = {
        "architectures": [architecture], "model_type": "bert", "vocab_size": VOCABULARY, "type_vocab_size": 2,
        "hidden_act": "gelu", "pad_token_id": 0, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.05,
        "attention_probs_dropout_prob": 0.0, "initializer_range": 0.05, "position_embedding_type": "absolute",
        "torch_dtype": "bfloat16", **SHAPE}
    if architecture == "BertForSequenceClassification":
        settings.update({"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}})
    write(f"{folder}/config.json", json.dumps(settings, indent=1) + "\n")
    write(f"{folder}/vocab.txt", "".join(p + "\n" for p in pieces))
    write(f"{folder}/tokenizer_config.json", json.dumps({
        "tokenizer_class": "BertTokenizer", "do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None,
        "model_max_length": LENGTH, "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
        "mask_token": "[MASK]"}, indent=1) + "\n")
    tensors = {
        name: value.detach().to(torch.bfloat16).contiguous() for name, value in sorted(model.state_dict().items())
        if not name.endswith(("position_ids", "token_type_ids"))}
    save_file(tensors, os.path.join(OUT, folder, "model.safetensors"), metadata={"format": "pt"})


write_model("encoder", encoder, "BertModel")
write_model("reranker", reranker, "BertForSequenceClassification")
library = "sentence_transformers.models."
write("encoder/modules.json", json.dumps([
    {"idx": 0, "name": "0", "path": "", "type": library + "Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": library + "Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": library + "Normalize"}], indent=1) + "\n")
write("encoder/1_Pooling/config.json", json.dumps({
    "word_embedding_dimension": SHAPE["hidden_size"], "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True},
    indent=1) + "\n")
write("encoder/sentence_bert_config.json", json.dumps({"max_seq_length": LENGTH, "do_lower_case": False}, indent=1) + "\n")
write("corpus.jsonl", "".join(
    json.dumps({"_id": f"p{i:03}", "title": title, "text": joined(some)}, ensure_ascii=False) + "\n"
    for i, (title, some) in enumerate(corpus)))
write("queries.jsonl", "".join(
    json.dumps({"_id": f"q{i:02}", "text": text}, ensure_ascii=False) + "\n" for i, (text, _) in enumerate(queries)))
write("qrels.tsv", "query-id\tcorpus-id\tscore\n" + "".join(
    f"q{i:02}\tp{wanted:03}\t1\n" for i, (_, wanted) in enumerate(queries)))
