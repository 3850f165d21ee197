"""Makes Tests/Fixtures/golden/evaluation.json: evaluation_fixtures.py GOLDEN_FOLDER. Needs numpy (2.4 made the file in the
repository).

The logits are those that transformers gave for the two small models on the same prompts (golden/logits-*.safetensors);
tiny-zhinao is the reference, tiny-zhinao-gqa the candidate. Everything after them is numpy in double precision."""

import json, os, sys
import numpy as np

folder = sys.argv[1]


def load_file(path):
    """Tensors of a safetensors file, by name."""
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    types = {"F32": "<f4", "I32": "<i4"}
    return {
        name: np.frombuffer(data[start:][slice(*entry["data_offsets"])], types[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in json.loads(data[8:start]).items() if name != "__metadata__"
    }


def log_softmax(logits):
    logits = logits.astype(np.float64)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def spread(divergences):
    """Percentiles as zhinao-verify compare defines them: a value of the list, not interpolated."""
    return {
        "tokens": len(divergences),
        "mean_kl": np.mean(divergences),
        "median_kl": np.percentile(divergences, 50, method="higher"),
        "kl_99": np.percentile(divergences, 99, method="higher"),
        "maximum_kl": np.max(divergences),
    }


def perplexity(losses):
    """The interval is that of a mean of independent losses, carried through exp by its derivative."""
    value = np.exp(np.mean(losses))
    return {
        "perplexity": value,
        "mean_nll": np.mean(losses),
        "half_width_95": value * 1.96 * np.std(losses) / np.sqrt(len(losses)),
    }


reference = load_file(os.path.join(folder, "logits-tiny-zhinao.safetensors"))
candidate = load_file(os.path.join(folder, "logits-tiny-zhinao-gqa.safetensors"))
prompts = []
for number in range(3):
    ids = reference[f"prompt{number}.input_ids"]
    assert np.array_equal(ids, candidate[f"prompt{number}.input_ids"])
    # The last row predicts a token that is not in the prompt.
    p = log_softmax(reference[f"prompt{number}.logits"][:-1])
    q = log_softmax(candidate[f"prompt{number}.logits"][:-1])
    rows = np.arange(len(p))
    losses = -p[rows, ids[1:]], -q[rows, ids[1:]]
    divergences = np.sum(np.exp(p) * (p - q), axis=1)
    agreements = np.argmax(p, axis=1) == np.argmax(q, axis=1)
    prompts.append({
        "divergences": divergences.tolist(),
        "reference_losses": losses[0].tolist(),
        "candidate_losses": losses[1].tolist(),
        "agreements": int(np.sum(agreements)),
        "top1_agreement": np.mean(agreements),
        "reference": perplexity(losses[0]),
        "candidate": perplexity(losses[1]),
        "perplexity_ratio": np.exp(np.mean(losses[1]) - np.mean(losses[0])),
        **spread(divergences),
    })

# Lists whose lengths lie on both sides of whole percentiles.
random = np.random.default_rng(360)
spreads = []
for count in [1, 2, 3, 99, 100, 101, 102, 199, 200, 201, 1000]:
    values = random.gamma(0.5, 0.1, count)
    spreads.append({"divergences": values.tolist(), **spread(values)})

with open(os.path.join(folder, "evaluation.json"), "w") as file:
    json.dump({"prompts": prompts, "spreads": spreads}, file, indent=1)
    file.write("\n")
