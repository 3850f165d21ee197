#!/usr/bin/env python3
"""Writes multiple-choice questions of our own: make_questions.py [--count 200] FOLDER

FOLDER/questions.jsonl has as many questions as asked for, FOLDER/dev.jsonl five examples. A line is {"id", "subject", "question",
"choices", "answer"}; the answer is an index from 0. The same arguments always give the same files. There are arithmetic, the alphabet,
capitals, days and months, opposites, plurals, translations between Chinese and English, and short texts with a question; from two to five
choices, of one character and of whole sentences, in both scripts; a few questions end in a space.
"""
import argparse, json, pathlib, random

CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo", "China": "Beijing", "Egypt": "Cairo",
            "Russia": "Moscow", "Greece": "Athens", "Portugal": "Lisbon", "Austria": "Vienna", "Norway": "Oslo", "Sweden": "Stockholm",
            "Poland": "Warsaw", "Hungary": "Budapest", "Ireland": "Dublin", "Cuba": "Havana", "Peru": "Lima", "Kenya": "Nairobi",
            "Thailand": "Bangkok", "Canada": "Ottawa", "Finland": "Helsinki", "Denmark": "Copenhagen", "Belgium": "Brussels"}
OPPOSITES = [("hot", "cold"), ("big", "small"), ("fast", "slow"), ("early", "late"), ("open", "closed"), ("light", "dark"), ("old", "new"),
             ("rich", "poor"), ("wet", "dry"), ("high", "low"), ("strong", "weak"), ("full", "empty"), ("near", "far"), ("loud", "quiet"),
             ("happy", "sad"), ("hard", "soft"), ("clean", "dirty"), ("thick", "thin"), ("true", "false"), ("first", "last")]
PLURALS = [("child", "children"), ("mouse", "mice"), ("foot", "feet"), ("man", "men"), ("city", "cities"), ("leaf", "leaves"),
           ("box", "boxes"), ("tooth", "teeth"), ("goose", "geese"), ("knife", "knives"), ("baby", "babies"), ("wolf", "wolves")]
WORDS = [("water", "水"), ("fire", "火"), ("mountain", "山"), ("moon", "月亮"), ("sun", "太阳"), ("book", "书"), ("dog", "狗"), ("cat", "猫"),
         ("horse", "马"), ("fish", "鱼"), ("tree", "树"), ("person", "人"), ("door", "门"), ("hand", "手"), ("heart", "心"), ("rice", "米饭"),
         ("teacher", "老师"), ("school", "学校"), ("friend", "朋友"), ("winter", "冬天"), ("train", "火车"), ("bridge", "桥")]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry"]
PLACES = ["the kitchen", "the garden", "the library", "the market", "the old harbour", "a small house by the river"]
THINGS = ["a red umbrella", "three apples", "a letter from her brother", "the keys of the car", "an old map", "a basket of eggs"]
TIMES = ["in the morning", "after lunch", "just before sunset", "late at night", "at noon", "on her way home from work"]


def others(random, values, right, count):
    return random.sample([v for v in values if v != right], count)


def addition(r):
    a, b = r.randint(2, 49), r.randint(2, 49)
    wrong = r.sample(sorted({a + b + d for d in (-11, -10, -2, -1, 1, 2, 9, 10)} - {a + b}), 3)
    return f"What is {a} plus {b}?", str(a + b), [str(w) for w in wrong]


def larger(r):
    values = r.sample(range(10, 1000), 4)
    return "Which of these numbers is the largest?", str(max(values)), [str(v) for v in values if v != max(values)]


def alphabet(r):
    place = r.randint(0, 24)
    letters = [chr(65 + i) for i in range(26)]
    return f"Which letter comes right after {letters[place]} in the alphabet?", letters[place + 1], others(r, letters, letters[place + 1], 4)


def capital(r):
    country = r.choice(sorted(CAPITALS))
    return f"The capital of {country} is", CAPITALS[country], others(r, sorted(CAPITALS.values()), CAPITALS[country], 3)


def day(r):
    place = r.randrange(7)
    right = DAYS[(place + 1) % 7]
    return f"Which day comes after {DAYS[place]}?", right, others(r, DAYS, right, 3)


def month(r):
    place = r.randrange(12)
    right = MONTHS[(place + 1) % 12]
    # White space at the end of a context belongs to what follows it.
    return f"The month that comes after {MONTHS[place]} is ", right, others(r, MONTHS, right, 3)


def opposite(r):
    word, right = r.choice(OPPOSITES)
    return f'The opposite of "{word}" is', right, others(r, sorted(b for _, b in OPPOSITES), right, r.choice([1, 3]))


def plural(r):
    word, right = r.choice(PLURALS)
    wrong = [w for w in (word + "s", word + "es", word) if w != right]
    return f"The plural of {word} is", right, wrong


def to_chinese(r):
    english, right = r.choice(WORDS)
    return f"“{english}”用中文怎么说？", right, others(r, sorted(c for _, c in WORDS), right, 3)


def to_english(r):
    right, chinese = r.choice(WORDS)
    return f"{chinese} in English is", right, others(r, sorted(e for e, _ in WORDS), right, 3)


def story(r):
    name, place, thing, time = r.choice(NAMES[::2]), r.choice(PLACES), r.choice(THINGS), r.choice(TIMES)
    second = r.choice([n for n in NAMES if n != name])
    text = (f"{name} went to {place} {time}. There she met {second}, who gave her {thing}. They talked for a while about the weather, and then "
            f"{name} put {thing} into her bag and walked back alone.")
    if r.random() < 0.5:
        return f"{text} Where did {name} meet {second}?", f"She met {second} in {place}.", [f"She met {second} in {p}." for p in others(r, PLACES, place, 3)]
    return f"{text}\nQuestion: What did {second} give {name}?", thing, others(r, THINGS, thing, 4)


def sum_in_chinese(r):
    digits = "零一二三四五六七八九"
    a, b = r.randint(1, 5), r.randint(1, 4)
    return f"{digits[a]}加{digits[b]}等于", digits[a + b], others(r, list(digits[1:]), digits[a + b], 3)


KINDS = [addition, larger, alphabet, capital, day, month, opposite, plural, to_chinese, to_english, story, sum_in_chinese]


def question(number, kind, r):
    text, right, wrong = kind(r)
    choices = [right, *wrong]
    r.shuffle(choices)
    return {"id": f"q{number:04}", "subject": kind.__name__, "question": text, "choices": choices, "answer": choices.index(right)}


def make(count):
    """Questions and five examples, which no question repeats."""
    examples = [question(i, kind, random.Random(f"dev {i}")) for i, kind in enumerate([capital, addition, opposite, story, to_english])]
    # Without a subject, they are the examples of every subject.
    examples = [{name: value for name, value in e.items() if name != "subject"} | {"id": f"dev{i}"} for i, e in enumerate(examples)]
    seen = {e["question"] for e in examples}
    questions, attempt = [], 0
    while len(questions) < count:
        kind = KINDS[len(questions) % len(KINDS)]
        made = question(len(questions), kind, random.Random(f"question {attempt}"))
        attempt += 1
        # Small tables are asked more than once, with other choices.
        key = (made["question"], tuple(made["choices"]))
        if made["question"] in seen or key in seen:
            continue
        seen.add(key)
        questions.append(made)
    return questions, examples


def write(folder, count):
    """Returns the paths of both files."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "questions.jsonl", folder / "dev.jsonl"
    for path, rows in zip(paths, make(count)):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    print(*write(arguments.folder, arguments.count))
