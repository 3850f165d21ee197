"""The rows of the table, and the process that computes some parts of one engine: rows.py ENGINE WORK.json PARTS."""
import datetime, importlib, json, os, sys, traceback

MARK = "\x1erow "
COLUMNS = ["engine", "format", "model", "loads", "logits", "tokens", "perplexity", "note"]


def row(engine, format, model, *, loads="yes", logits="", tokens="", perplexity="", note="", ok=True):
    """One line of the table: what was run and what was measured. `ok` says whether everything passed."""
    return dict(engine=engine, format=format, model=model, loads=loads, logits=logits, tokens=tokens,
                perplexity=perplexity, note=note, ok=bool(ok))


def failed(engine, part, why):
    return row(engine, part, "", loads="no", note=why, ok=False)


def agreement(ours, theirs, stops):
    """How many tokens are equal at the same position, and how many there are, over lists of lists. A stop token ends an
    answer and is not counted, because only some engines return it."""
    def cut(ids):
        return next((ids[:i] for i, id in enumerate(ids) if id in stops), ids)
    pairs = [(cut(a), cut(b)) for a, b in zip(ours, theirs)]
    return sum(x == y for a, b in pairs for x, y in zip(a, b)), sum(max(len(a), len(b)) for a, b in pairs)


def compared(ours, theirs):
    """Two perplexities and their relative difference."""
    return f"{theirs:.4f} (ours {ours:.4f}, {100 * (theirs / ours - 1):+.4f} %)"


def line(row):
    return " | ".join([*(str(row[c]) for c in COLUMNS), "passed" if row["ok"] else "FAILED"])


def table(found):
    """A Markdown table; columns in which every row is empty are left out."""
    columns = [c for c in COLUMNS if any(r.get(c) for r in found)]
    lines = ["| " + " | ".join(columns) + " | |", "|" + "---|" * (len(columns) + 1)]
    for r in found:
        cells = [str(r.get(c, "")).replace("|", "\\|").replace("\n", " ") for c in columns]
        lines.append("| " + " | ".join(cells) + f" | {'✓' if r['ok'] else '✗'} |")
    return "\n".join(lines)


def update(path, system, environments, found):
    """Replaces the rows that were run in a file of results; other rows stay."""
    def key(r):
        return kind(r["engine"]), r["format"], r.get("model", "")
    old = json.load(open(path, encoding="utf-8")) if os.path.exists(path) else {"environments": {}, "rows": []}
    today = str(datetime.date.today())
    new = {key(r): {k: v for k, v in r.items() if v != ""} | {"date": today} for r in found}
    kept = [new.pop(key(r), r) for r in old["rows"]]
    head = {"system": system, "environments": old["environments"] | environments}
    text = json.dumps(head, ensure_ascii=False, indent=2)[:-2] + ',\n  "rows": [\n'
    lines = ("    " + json.dumps(r, ensure_ascii=False) for r in [*kept, *new.values()])
    open(path, "w", encoding="utf-8").write(text + ",\n".join(lines) + "\n  ]\n}\n")


def kind(engine):
    """The name of an engine without its version."""
    return engine.split(" ")[0]


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    work = json.load(open(sys.argv[2]))
    try:
        engine = importlib.import_module(f"engines.{sys.argv[1]}")
        for part in json.loads(sys.argv[3]):
            for found in engine.rows(work, part):
                print("\n" + MARK + json.dumps(found), flush=True)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
