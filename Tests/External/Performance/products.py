"""Runs products or a factorization in numpy and torch once: products.py gemm | factor N; prints seconds as JSON."""
import json, sys, time
import numpy as np, torch

torch.set_num_threads(2)
random = np.random.default_rng(1)


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def gemm(m=2048, k=4096, n=11008):
    x, w = (random.standard_normal(s, dtype=np.float32) for s in ((m, k), (n, k)))
    wide = random.standard_normal((m, n), dtype=np.float32)
    tx, tw, twide = map(torch.from_numpy, (x, w, wide))
    work = {"numpy": lambda: x @ w.T, "torch": lambda: tx @ tw.T, "numpy_gram": lambda: wide.T @ wide,
            "torch_gram": lambda: twide.T @ twide}
    x[:64] @ w[:64].T, tx[:64] @ tw[:64].T
    return {name: seconds(run) for name, run in work.items()}


def factor(n):
    rows = n + n // 8
    x = torch.randn(rows, n)
    h = x.T @ x
    h += 0.01 * rows * torch.eye(n)

    def steps():
        torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    return {"torch": seconds(steps)}


print(json.dumps(gemm() if sys.argv[1] == "gemm" else factor(int(sys.argv[2]))))
