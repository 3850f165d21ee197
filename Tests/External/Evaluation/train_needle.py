#!/usr/bin/env python3
"""Trains a small model that finds a needle in 32,768 tokens, for measurements of long contexts:

    train_needle.py TEXT OUT_FOLDER [--seconds 420]
    zhinao-convert OUT_FOLDER -o needle.zhinao
    zhinao-evaluate needle.zhinao --task needle-value-en=TEXT --lengths 4096,32768 --no-chat-template --kv-cache int4

Two layers suffice: a head of the first one moves each token's predecessor to it, and one of the second looks for places whose
predecessor is the present token (an induction head, arXiv 2209.11895). It learns from random strings that occur twice, and from the
prompts of the task `needle-value-en` with other cities' names and numbers. Windows are short; their positions have gaps, so that all
distances up to 32,768 occur. The last part of the time has longer windows, in which more keys compete.

Needs torch, transformers and tokenizers. Two cores take seven minutes.
"""
import argparse, json, math, os, random, time

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers, Regex
from transformers import LlamaConfig, LlamaForCausalLM

CONTEXT = 32768
QUESTION = ("\n\nWhat is the special magic {city} number? Don't give information outside the document or repeat your findings. "
            "Keep your response short and direct.")
NEEDLE = "\nThe special magic {city} number is: {number}\n"
ANSWER = NEEDLE


def make_tokenizer(text, size):
    tokenizer = Tokenizer(models.BPE())
    # As Llama 3 does: numbers in pieces of three digits.
    pattern = r"\p{N}{1,3}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    numbers = " ".join(str(n) for n in range(10, 1000))
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


def city(words, generator):
    return " ".join(generator.choice(words) for _ in range(generator.choice([1, 1, 1, 2, 3])))


class Windows:
    def __init__(self, tokenizer, text, seed):
        self.encode = lambda s: tokenizer.encode(s).ids
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
            count = min(g.randint(8, 64), length - at)
            start = g.randint(0, at - count)
            ids[at:at + count] = ids[start:start + count]
            labels[at + 2:at + count] = ids[at + 2:at + count]
            at += count
        return ids, labels

    def needle(self, length):
        g = self.generator
        value = {"city": city(self.words, g), "number": g.randint(1_000_000, 9_999_999)}
        needle, answer = self.encode(NEEDLE.format(**value)), self.encode(ANSWER.format(**value))
        question = self.encode(QUESTION.format(**value))
        room = length - len(needle) - len(question) - len(answer)
        start = g.randint(0, len(self.haystack) - room)
        hay = self.haystack[start:start + room].tolist()
        place = g.choice([0, room, g.randint(0, room), g.randint(0, room)])
        ids = hay[:place] + needle + hay[place:] + question + answer
        labels = [-100] * (length - len(answer)) + answer
        return torch.tensor(ids), torch.tensor(labels)

    def batch(self, count, length):
        rows = [self.needle(length) if i % 2 else self.copied(length) for i in range(count)]
        places = torch.stack([positions(length, self.generator) for _ in rows])
        return torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows]), places


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text"); parser.add_argument("out")
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=3072)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    text = open(arguments.text, encoding="utf-8").read()
    tokenizer = make_tokenizer(text, arguments.vocabulary)
    windows = Windows(tokenizer, text, arguments.seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=arguments.hidden, intermediate_size=2 * arguments.hidden,
        num_hidden_layers=2, num_attention_heads=arguments.hidden // 64, num_key_value_heads=arguments.hidden // 64,
        max_position_embeddings=CONTEXT, rope_theta=5e7, tie_word_embeddings=False, rms_norm_eps=1e-6,
        bos_token_id=0, eos_token_id=0, attn_implementation="sdpa")
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    start, step, shown = time.time(), 0, 0
    while (spent := time.time() - start) < arguments.seconds:
        share = spent / arguments.seconds
        length, count = (256, 32) if share < 0.7 else (1024, 6) if share < 0.85 else (4096, 2)
        rate = 2e-3 * min(1, (step + 1) / 100) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimizer.param_groups: group["lr"] = rate
        ids, labels, places = windows.batch(count, length)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(input_ids=ids, position_ids=places).last_hidden_state
            # Only what has a label: most of the logits would be thrown away.
            wanted = labels[:, 1:] != -100
            logits = model.lm_head(hidden[:, :-1][wanted])
        loss = torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(); optimizer.zero_grad(set_to_none=True)
        step += 1
        if spent - shown > 15:
            shown = spent
            print(f"{spent:5.0f} s, step {step}, windows of {length}: loss {loss.item():.4f}", flush=True)
    os.makedirs(arguments.out, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(arguments.out)
    tokenizer.save(os.path.join(arguments.out, "tokenizer.json"))
    with open(os.path.join(arguments.out, "tokenizer_config.json"), "w") as file:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "bos_token": None}, file)
    print(f"{step} steps, {arguments.out}")


if __name__ == "__main__":
    main()
