"""The walk-through of Docs/search.md with PostgreSQL and pgvector, done for real: starts a server of its own in a temporary folder, loads
vectors made by zhinao-search embed, searches them with SQL, and compares with zhinao-search query.

pgvector.py ENCODER_DIR [--passages 2000] [--url http://127.0.0.1:8360/v1/embeddings]; uses .build/release and Debian's packages postgresql
and postgresql-NN-pgvector (Debian 13 has it; for older ones build it, see its README). With --url, queries get their vectors from a
running zhinao-serve instead. Exit code 77: PostgreSQL or pgvector is missing."""

import argparse, glob, json, os, pwd, random, shutil, struct, subprocess, sys, tempfile, time, urllib.request

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
tool = os.path.join(root, ".build/release/zhinao-search")
parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--passages", type=int, default=2000)
parser.add_argument("--url")
arguments = parser.parse_args()
random.seed(360)

servers = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
if not servers:
    print("PostgreSQL is missing: apt install postgresql")
    sys.exit(77)
binaries = os.path.dirname(servers[-1])
major = binaries.split("/")[4]
if not glob.glob(f"/usr/share/postgresql/{major}/extension/vector.control"):
    print(f"pgvector is missing: apt install postgresql-{major}-pgvector")
    sys.exit(77)

scratch = tempfile.mkdtemp()
os.chmod(scratch, 0o755)
# PostgreSQL refuses to run as root.
account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def become():
    if account:
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)


def run(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


data = f"{scratch}/data"
os.mkdir(data, 0o700)
if account:
    os.chown(data, account.pw_uid, account.pw_gid)
run([f"{binaries}/initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-locale"], preexec_fn=become, cwd=data)
server = subprocess.Popen(
    [f"{binaries}/postgres", "-D", data, "-c", "listen_addresses=", "-c", f"unix_socket_directories={data}", "-c", "fsync=off"],
    preexec_fn=become, cwd=data, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def sql(text, **options):
    return run(["psql", "-h", data, "-U", "postgres", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text], **options).stdout


try:
    for _ in range(100):
        try:
            sql("SELECT 1")
            break
        except subprocess.CalledProcessError:
            time.sleep(0.1)

    # A corpus of the project's own documents, in pieces of a few words.
    words = " ".join(open(path, encoding="utf-8").read() for path in sorted(glob.glob(f"{root}/Docs/*.md"))).split()
    passages = [" ".join(words[i:i + 24]) for i in random.sample(range(len(words) - 24), arguments.passages)]
    with open(f"{scratch}/corpus.jsonl", "w", encoding="utf-8") as file:
        for number, text in enumerate(passages):
            file.write(json.dumps({"_id": str(number), "title": "", "text": text}, ensure_ascii=False) + "\n")
    queries = [" ".join(text.split()[4:14]) for text in random.sample(passages, 20)]
    with open(f"{scratch}/queries.jsonl", "w", encoding="utf-8") as file:
        for number, text in enumerate(queries):
            file.write(json.dumps({"_id": str(number), "text": text}, ensure_ascii=False) + "\n")

    with open(f"{scratch}/corpus.jsonl", encoding="utf-8") as file:
        run([tool, "embed", arguments.model, "--quiet", "-o", f"{scratch}/vectors.jsonl"], stdin=file)
    vectors = [json.loads(line)["embedding"] for line in open(f"{scratch}/vectors.jsonl", encoding="utf-8")]
    dimensions = len(vectors[0])

    sql("CREATE EXTENSION vector")
    sql(f"CREATE TABLE passages (id bigint PRIMARY KEY, text text, embedding vector({dimensions}))")
    rows = "".join(
        "%d\t%s\t[%s]\n" % (number, text.replace("\\", "\\\\").replace("\t", " "), ",".join(map(repr, vector)))
        for number, (text, vector) in enumerate(zip(passages, vectors)))
    start = time.time()
    sql("COPY passages FROM STDIN", input=rows)
    print(f"{len(passages)} vectors of {dimensions} copied into PostgreSQL {major} in {time.time() - start:.1f} s, "
          f"pgvector {sql('SELECT extversion FROM pg_extension WHERE extname = ' + chr(39) + 'vector' + chr(39)).strip()}")

    if arguments.url:
        request = urllib.request.Request(
            arguments.url, json.dumps({"input": queries, "model": "m"}).encode(), {"Content-Type": "application/json"})
        query_vectors = [item["embedding"] for item in json.load(urllib.request.urlopen(request))["data"]]
        run([tool, "index", arguments.model, "--quiet", "--query-prompt", "", "--corpus", f"{scratch}/corpus.jsonl", "-o", f"{scratch}/index"])
    else:
        with open(f"{scratch}/queries.jsonl", encoding="utf-8") as file:
            run([tool, "embed", arguments.model, "--quiet", "--query", "-o", f"{scratch}/queries.npy"], stdin=file)
        content = open(f"{scratch}/queries.npy", "rb").read()[256:]
        floats = struct.unpack(f"<{len(content) // 4}f", content)
        query_vectors = [floats[i:i + dimensions] for i in range(0, len(floats), dimensions)]
        run([tool, "index", arguments.model, "--quiet", "--corpus", f"{scratch}/corpus.jsonl", "-o", f"{scratch}/index"])
    answers = run([tool, "query", f"{scratch}/index", "--quiet", "--queries", f"{scratch}/queries.jsonl", "--json"]).stdout.splitlines()

    failures = 0

    def compare(name):
        same, worst = 0, 0.0
        for vector, answer in zip(query_vectors, answers):
            text = "[" + ",".join(map(repr, vector)) + "]"
            found = [line.split("|") for line in sql(
                f"SELECT id, -(embedding <#> '{text}') FROM passages ORDER BY embedding <#> '{text}', id LIMIT 10").splitlines()]
            expected = json.loads(answer)["results"]
            # Sums in another order may swap scores that differ in the last digit.
            worst = max([worst] + [abs(float(score) - hit["score"]) for (_, score), hit in zip(found, expected)])
            same += [int(number) for number, _ in found] == [hit["index"] for hit in expected]
        print(f"{name}: the same ten passages for {same} of {len(queries)} queries, largest difference of a score {worst:.1e}")
        return same, worst

    same, worst = compare("exact search")
    failures += same < len(queries) or worst > 1e-5
    sql("CREATE INDEX ON passages USING hnsw (embedding vector_ip_ops)")
    same, _ = compare("HNSW (approximate)")
    failures += same < len(queries) // 2
    sys.exit(1 if failures else 0)
finally:
    server.terminate()
    server.wait()
    shutil.rmtree(scratch, ignore_errors=True)
