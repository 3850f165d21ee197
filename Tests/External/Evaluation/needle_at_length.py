#!/usr/bin/env python3
"""A needle in 4,096 to 32,768 tokens, with every type of cache, and with saved contexts, on the model of train_needle.py:

    needle_at_length.py MODEL... --text TEXT --out FOLDER [--build .build/release]

For each model and cache the grid of `zhinao-evaluate`, whose pages and heat maps stay in FOLDER. Then, at the longest length, a document with a needle is
read and saved by one process, and another one asks about it, with the file and without: both must say the same ids, and the number.
Prints the mean score of each grid and the saved answers; the exit code is 1 if a score is below 98 or an answer differs.
"""
import argparse, json, os, random, subprocess, sys, tempfile

CACHES = ["f16", "int8", "int4"]
CITIES = ["Chicago", "Yangon", "Antananarivo", "Mexico City", "Ho Chi Minh City", "Vienna", "Port Louis", "Seoul", "Athens"]
QUESTION = ("\n\nWhat is the special magic {city} number? Don't give information outside the document or repeat your findings. "
            "Keep your response short and direct.")


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def grid(arguments, model, cache):
    name = f"{os.path.splitext(os.path.basename(model))[0]}-{cache}"
    page = os.path.join(arguments.out, f"needle-{name}")
    samples = page + ".jsonl"
    run(f"{arguments.build}/zhinao-evaluate", model, "--task", f"needle-value-en={arguments.text}",
        "--lengths", ",".join(map(str, arguments.lengths)), "--depths", ",".join(map(str, range(0, 101, arguments.step))),
        "--no-chat-template", "--kv-cache", cache, *arguments.options, "--parallel", "1", "--report", page + ".html", "--samples", samples,
        "--overwrite", "--quiet")
    with open(page + ".html", encoding="utf-8") as file:
        picture = file.read().split("<svg", 1)[1].split("</svg>", 1)[0]
    with open(page + ".svg", "w", encoding="utf-8") as file:
        # The colours of the page's style in light surroundings.
        file.write("<svg" + picture.replace("<title", """<style>
svg { font-family: sans-serif; font-size: 12px; background: #fdfdfb; }
text { fill: #1c2226; } .l, .a { fill: #566067; }
.v[fill="#000"] { fill: #000; } .v[fill="#fff"] { fill: #fff; }
</style><title""", 1) + "</svg>\n")
    scores = {}
    for line in open(samples, encoding="utf-8"):
        item = json.loads(line)
        scores.setdefault(str(item["subject"]), []).append(100 * item["metrics"]["score"])
    return {length: sum(all) / len(all) for length, all in scores.items()}


def answers(arguments, model, cache):
    """At each of some depths the number that was found, and whether the reopened answer is the same."""
    text = open(arguments.text, encoding="utf-8").read()
    g = random.Random(5)
    results = []
    for depth in (0, 30, 55, 80, 100):
        city, number = g.choice(CITIES), str(g.randint(1_000_000, 9_999_999))
        hay = (text * 10)[:arguments.characters]
        place = hay.rfind(" ", 0, len(hay) * depth // 100 + 1) if 0 < depth < 100 else len(hay) * depth // 100
        document = f"{hay[:place]}\nThe special magic {city} number is: {number}\n{hay[place:]}"
        prompt = document + QUESTION.format(city=city)
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "document.zhctx")
            chat = [f"{arguments.build}/zhinao-chat", model, "--raw", "--json", "--prompt", "-", "--kv-cache", cache]
            run(*chat, "--max-new-tokens", "1", "--save-context", file, text=document)
            plain = json.loads(run(*chat, "--max-new-tokens", "16", text=prompt))
            again = json.loads(run(*chat, "--max-new-tokens", "16", "--context", file, text=prompt))
        results.append({
            "tokens": len(plain["prompt_ids"]), "saved": again["saved_tokens"], "found": number in plain["text"],
            "same": plain["ids"] == again["ids"], "seconds": [plain["prompt_seconds"], again["prompt_seconds"]]})
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+"); parser.add_argument("--text", required=True)
    parser.add_argument("--out", required=True); parser.add_argument("--build", default=".build/release")
    parser.add_argument("--lengths", type=lambda s: list(map(int, s.split(","))), default=[4096, 8192, 16384, 32768])
    parser.add_argument("--step", type=int, default=5, help="of the depths, in percent")
    parser.add_argument("--characters", type=int, default=80_000, help="of the documents that are saved")
    parser.add_argument("--option", dest="options", action="append", default=[], help="for zhinao-evaluate")
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)
    failed = False
    for model in arguments.models:
        for cache in CACHES:
            scores = grid(arguments, model, cache)
            print(f"{model}, {cache}: " + ", ".join(f"{length}: {score:.1f} %" for length, score in scores.items()), flush=True)
            saved = answers(arguments, model, cache)
            print("  saved and reopened: " + json.dumps(saved), flush=True)
            failed |= min(scores.values()) < 98 or not all(one["found"] and one["same"] for one in saved)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
