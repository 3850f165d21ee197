"""Rows of the table, and the process that computes parts of an engine's: rows.py ENGINE WORK.json PARTS."""
import importlib, json, os, sys, traceback

MARK = "\x1erow "
COLUMNS = ["engine", "format", "model", "loads", "logits", "tokens", "perplexity", "note"]


def row(engine, format, model, *, loads="yes", logits="", tokens="", perplexity="", note="", ok=True):
    """One line: what was run, and what was seen. `ok`: all of it is as it must be."""
    return dict(engine=engine, format=format, model=model, loads=loads, logits=logits, tokens=tokens,
                perplexity=perplexity, note=note, ok=bool(ok))


def failed(engine, part, why):
    return row(engine, part, "", loads="no", note=why, ok=False)


def agreement(ours, theirs, stops):
    """Equal tokens by place, and how many there are, over lists of lists. A stop token ends an answer and is not counted:
    some engines give it, some do not."""
    def cut(ids):
        return next((ids[:i] for i, id in enumerate(ids) if id in stops), ids)
    pairs = [(cut(a), cut(b)) for a, b in zip(ours, theirs)]
    return sum(x == y for a, b in pairs for x, y in zip(a, b)), sum(max(len(a), len(b)) for a, b in pairs)


def compared(ours, theirs):
    """Two perplexities and how far they are apart."""
    return f"{theirs:.4f} (ours {ours:.4f}, {100 * (theirs / ours - 1):+.4f} %)"


def line(row):
    return " | ".join([*(str(row[c]) for c in COLUMNS), "as it must be" if row["ok"] else "NOT AS IT MUST BE"])


def table(found):
    lines = ["| " + " | ".join(COLUMNS) + " | |", "|" + "---|" * (len(COLUMNS) + 1)]
    for r in found:
        cells = [str(r[c]).replace("|", "\\|").replace("\n", " ") for c in COLUMNS]
        lines.append("| " + " | ".join(cells) + f" | {'✓' if r['ok'] else '✗'} |")
    return "\n".join(lines)


def write(path, head, text):
    """Puts the table between the marks of the document."""
    start, end = "<!-- run_all: start -->", "<!-- run_all: end -->"
    document = open(path, encoding="utf-8").read() if os.path.exists(path) else f"{start}\n{end}\n"
    before, rest = document.split(start, 1)
    after = rest.split(end, 1)[1]
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{start}\n{head}\n\n{text}\n{end}{after}")


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
