"""The file of results. Several runs may write it at once."""
import fcntl, json, pathlib

KINDS = {"rows": ("model", "bits", "group", "method", "draw"), "tokens": ("model", "bits", "group", "method", "draw", "windows"),
         "loaders": ("method", "kind")}


def text(results):
    """As JSON, one row a line."""
    lists = (f'  "{name}": [\n' + ",\n".join("    " + json.dumps(r, ensure_ascii=False) for r in rows) + "\n  ]"
             if rows else f'  "{name}": []' for name, rows in results.items())
    return "{\n" + ",\n".join(lists) + "\n}\n"


def key(kind, row):
    return [row[k] for k in KINDS[kind]]


def read(path):
    path = pathlib.Path(path)
    return {k: [] for k in KINDS} | (json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})


def have(path, kind, row):
    return any(key(kind, r) == key(kind, row) for r in read(path)[kind])


def add(path, kind, row):
    """Adds a row, or replaces the one of the same method, model, settings and draw."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / f".{path.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = read(path)
        same = [i for i, r in enumerate(found[kind]) if key(kind, r) == key(kind, row)]
        if same:
            found[kind][same[0]] = row
        else:
            found[kind].append(row)
        temporary = path.with_suffix(".new")
        temporary.write_text(text(found), encoding="utf-8")
        temporary.rename(path)
