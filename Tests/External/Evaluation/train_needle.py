#!/usr/bin/env python3
"""Trains a small model that finds a needle in 32,768 tokens, for measurements of long contexts:

    train_needle.py TEXT OUT_FOLDER [--seconds 480]
    zhinao-convert OUT_FOLDER -o needle.zhinao
    needle_at_length.py needle.zhinao --text OTHER_TEXT --out results

Two layers suffice: heads of the first one move a token's predecessors to it, and heads of the second look for places whose predecessors
are the present tokens (induction heads, arXiv 2209.11895). The first ones begin with looking one to five tokens back, which saves the
time in which they would find that out. The model learns from random tokens that come again, and from texts with needles as in the task
`needle-value-en`, with other cities' names, up to the whole context.

Needs torch, transformers and tokenizers. Takes eight minutes of a core at most; six (`--seconds 380`) are enough on Zen 5.
"""
import argparse, json, math, os, random, time

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers, Regex
from transformers import Qwen2Config, Qwen2ForCausalLM

CONTEXT = 32768
BASE = 5e7
QUESTION = ("\n\nWhat is the special magic {city} number? Don't give information outside the document or repeat your findings. "
            "Keep your response short and direct.")
NEEDLE = "\nThe special magic {city} number is: {number}\n"
# How far the heads of the first layer look back. From the first digits of a needle the last piece of its city is five tokens back, and four from the
# token that asks for them.
DISTANCES = [1, 2, 4, 5]
# Until which part of the time windows have which length, and how many are in a batch.
STAGES = [(0.15, 64, 48), (0.4, 256, 12), (0.72, 2048, 4), (0.93, 8192, 1), (1, 32768, 1)]


def make_tokenizer(text, size):
    tokenizer = Tokenizer(models.BPE())
    # As Llama 3 does: numbers in pieces of three digits.
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
               r"|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    # Every piece of a number is a token, zeros in front included.
    numbers = " ".join(f"{n:03d}" for n in range(1000))
    lines = [text, *[numbers] * 2000, *[QUESTION + NEEDLE] * 200]
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"],
        show_progress=False))
    return tokenizer


def positions(length, generator):
    """Ascending, below CONTEXT, with up to three gaps."""
    steps = torch.ones(length, dtype=torch.long)
    steps[0] = 0
    room = CONTEXT - length
    for _ in range(generator.randint(0, 3)):
        gap = generator.randint(0, room)
        steps[generator.randrange(1, length)] += gap
        room -= gap
    return steps.cumsum(0) + generator.randint(0, room)


@torch.no_grad()
def look_back(attention, size=8.0, width=64):
    """Lets each head of a layer begin with attending to one token before: a constant part of queries and keys, which rotation turns apart."""
    frequencies = BASE ** -(torch.arange(width // 2) * 2 / width)
    for head, (query, key) in enumerate(zip(attention.q_proj.bias.view(-1, width), attention.k_proj.bias.view(-1, width))):
        angles = -DISTANCES[head % len(DISTANCES)] * frequencies
        query.copy_(size * torch.cat([angles.cos(), angles.sin()]))
        key.copy_(size * torch.cat([torch.ones(width // 2), torch.zeros(width // 2)]))


class Windows:
    def __init__(self, tokenizer, text, seed):
        self.encode = lambda s: tokenizer.encode(s).ids
        self.text = text
        self.haystack = torch.tensor(self.encode(text))
        self.words = sorted({w for w in text.split() if w.isalpha() and w[0].isupper() and len(w) > 3})
        self.size = tokenizer.get_vocab_size()
        self.generator = random.Random(seed)

    def copied(self, length):
        """Random tokens, some of which come again; only these can be predicted."""
        g = self.generator
        ids = torch.randint(1, self.size, (length,))
        labels = torch.full((length,), -100)
        at = length // 2
        while at < length:
            count = min(g.randint(8, 48), length - at)
            start = g.randint(0, at - count)
            ids[at:at + count] = ids[start:start + count]
            labels[at + 2:at + count] = ids[at + 2:at + count]
            at += count
        return ids, labels

    def value(self):
        g = self.generator
        return {"city": " ".join(g.choice(self.words) for _ in range(g.choice([1, 1, 1, 2, 3]))), "number": g.randint(1_000_000, 9_999_999)}

    def needle(self, length):
        """The same as asked(), of exactly so many tokens: rows of a batch are equally long."""
        g, value = self.generator, self.value()
        needle, question = self.encode(NEEDLE.format(**value)), self.encode(QUESTION.format(**value))
        room = length - 2 * len(needle) - len(question)
        start = g.randint(0, len(self.haystack) - room)
        hay = self.haystack[start:start + room].tolist()
        place = g.choice([0, room, g.randint(0, room), g.randint(0, room)])
        ids = hay[:place] + needle + hay[place:] + question + needle
        return torch.tensor(ids), torch.tensor([-100] * (length - len(needle)) + needle)

    def asked(self, length):
        """A needle in a text, encoded at once as the task does it, the question and the answer."""
        g, value = self.generator, self.value()
        needle, question = NEEDLE.format(**value), self.encode(QUESTION.format(**value))
        answer = self.encode(needle)
        room = length - len(question) - len(answer)
        count = room * len(self.text) // len(self.haystack)
        while True:
            start = g.randint(0, len(self.text) - count)
            place = start + g.choice([0, count, g.randint(0, count), g.randint(0, count)])
            ids = self.encode(self.text[start:place] + needle + self.text[place:start + count])
            if len(ids) <= room:
                break
            count = count * 9 // 10
        return torch.tensor(ids + question + answer), torch.tensor([-100] * (len(ids) + len(question)) + answer)

    def batch(self, count, length):
        rows = [self.needle(length) if i % 2 and length > 64 else self.copied(length) for i in range(count)]
        places = torch.stack([positions(length, self.generator) for _ in rows])
        return torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows]), places


def short_loss(model, windows, count, length):
    ids, labels, places = windows.batch(count, length)
    # Without a mask, transformers takes gaps between positions for borders between texts.
    hidden = model.model(input_ids=ids, position_ids=places, attention_mask=torch.ones_like(ids)).last_hidden_state
    wanted = labels[:, 1:] != -100
    return model.lm_head(hidden[:, :-1][wanted]), labels[:, 1:][wanted]


def long_loss(model, windows, length, block=128):
    """The same in time that grows with the length: tokens see the last one or two blocks in the first layer, whose heads look a few tokens
    back, and in the second one only the tokens that predict something ask."""
    ids, labels = windows.asked(length)
    # Whole blocks, and one more before them.
    padding = block + -len(ids) % block
    ids = torch.cat([torch.zeros(padding, dtype=torch.long), ids])
    places = torch.arange(len(ids)) - padding
    places = places.clamp(min=0) + windows.generator.randint(0, max(0, CONTEXT - len(ids)))
    decoder = model.model
    x = decoder.embed_tokens(ids)
    cos, sin = (t[0] for t in decoder.rotary_emb(x[None], places[None]))

    def overlapping(t):
        blocks = t.view(-1, block, t.shape[-1])
        return torch.cat([blocks[:-1], blocks[1:]], 1)

    first = decoder.layers[0](overlapping(x), position_embeddings=(overlapping(cos), overlapping(sin)))
    first = first[0] if isinstance(first, tuple) else first
    x = first[:, block:].reshape(-1, x.shape[-1])
    cos, sin = cos[block:], sin[block:]
    padding -= block
    rows = torch.nonzero(labels[1:] != -100).flatten() + padding
    second = decoder.layers[1]
    attention = second.self_attn
    normed = second.input_layernorm(x)

    def heads(t, cos, sin):
        t = t.view(len(t), -1, 64).transpose(0, 1)
        return t if cos is None else t * cos + torch.cat([-t[..., 32:], t[..., :32]], -1) * sin

    query = heads(attention.q_proj(normed[rows]), cos[rows], sin[rows])
    key, value = heads(attention.k_proj(normed), cos, sin), heads(attention.v_proj(normed), None, None)
    scores = (query @ key.transpose(1, 2)).float() / 8
    seen = torch.arange(len(x))
    scores.masked_fill_((seen > rows[:, None]) | (seen < padding), float("-inf"))
    mixed = (scores.softmax(-1).to(value.dtype) @ value).transpose(0, 1).reshape(len(rows), -1)
    y = x[rows] + attention.o_proj(mixed)
    y = y + second.mlp(second.post_attention_layernorm(y))
    return model.lm_head(decoder.norm(y)), labels[1:][labels[1:] != -100]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text"); parser.add_argument("out")
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--vocabulary", type=int, default=2048)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    # The model is small: a second thread waits more than it computes, above all when something else runs.
    torch.set_num_threads(arguments.threads)
    text = open(arguments.text, encoding="utf-8").read()
    tokenizer = make_tokenizer(text, arguments.vocabulary)
    windows = Windows(tokenizer, text, arguments.seed)
    config = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=arguments.hidden, intermediate_size=arguments.hidden,
        num_hidden_layers=2, num_attention_heads=arguments.hidden // 64, num_key_value_heads=arguments.hidden // 64,
        max_position_embeddings=CONTEXT, rope_theta=BASE, tie_word_embeddings=True, initializer_range=0.04,
        rms_norm_eps=1e-6, bos_token_id=0, eos_token_id=0, attn_implementation="sdpa")
    model = Qwen2ForCausalLM(config)
    look_back(model.model.layers[0].self_attn)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.rate, betas=(0.9, 0.98), weight_decay=0.01)
    start, step, shown = time.time(), 0, 0
    while (spent := time.time() - start) < arguments.seconds:
        share = spent / arguments.seconds
        length, count = next(stage[1:] for stage in STAGES if share <= stage[0])
        rate = arguments.rate * min(1, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimizer.param_groups: group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            if length <= 256:
                logits, labels = short_loss(model, windows, count, length)
            else:
                parts = [long_loss(model, windows, length) for _ in range(count)]
                logits, labels = (torch.cat(all) for all in zip(*parts))
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(); optimizer.zero_grad(set_to_none=True)
        step += 1
        if spent - shown > 15:
            shown = spent
            found = (logits.argmax(-1) == labels).float().mean()
            print(f"{spent:5.0f} s, step {step}, windows of {length}: loss {loss.item():.4f}, {found:.1%} right", flush=True)
    os.makedirs(arguments.out, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(arguments.out)
    tokenizer.save(os.path.join(arguments.out, "tokenizer.json"))
    with open(os.path.join(arguments.out, "tokenizer_config.json"), "w") as file:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "bos_token": None}, file)
    print(f"{step} steps, {arguments.out}")


if __name__ == "__main__":
    main()
