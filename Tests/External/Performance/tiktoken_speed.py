"""Encodes a text with tiktoken, cl100k ranks and Zhinao's pattern on one thread: tiktoken_speed.py RANKS TEXT; prints bytes per second."""
import base64, json, sys, time
import tiktoken

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
ranks = {base64.b64decode(t): int(r) for t, r in (line.split() for line in open(sys.argv[1], "rb") if line.strip())}
encoding = tiktoken.Encoding("zhinao", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
text = open(sys.argv[2], encoding="utf-8").read()
encoding.encode_ordinary(text[:10000])
start = time.perf_counter()
encoding.encode_ordinary(text)
print(json.dumps({"bytes_per_second": len(text.encode()) / (time.perf_counter() - start)}))
