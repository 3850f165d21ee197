"""The time of a quantization of 360Zhinao-7B with 128 x 2048 tokens, preset balanced, on 1 to 64 ranks, by the formula of the program's plan
(Sources/Quantization/QuantizationPlan.swift), as the table of Docs/cluster.md.

model.py FLOPS BYTES_PER_SECOND ...   products of a rank in a second, and what a rank sends in a second, both as the plan measures them
"""

import sys

flops, networks = float(sys.argv[1]), [float(value) for value in sys.argv[2:]]
layers, hidden, wide, windows, length = 32, 4096, 11008, 128, 2048
# Inputs, outputs of all modules that share them.
stages = [(hidden, 3 * hidden), (hidden, hidden), (hidden, 2 * wide), (wide, hidden)]


def layer(ranks):
    """Seconds of one layer: what is divided among ranks, and what is not."""
    # Shards are whole: the rank with most windows decides.
    own = -(-windows // ranks)
    tokens = own * length
    squares = own * length * (length + 1)
    weights = sum(k * out for k, out in stages)
    divided = 2.2 * tokens * weights + 2.2 * tokens * hidden * 3 * hidden + 1.1 * 4 * squares * hidden
    divided += 1.1 * sum(tokens * k * (k + 1) + (k * out * (k + 800)) / ranks for k, out in stages)
    alone = 1.1 * sum(k ** 3 / 2 for k, _ in stages)
    return divided / flops, alone / flops


def sent(ranks):
    """Bytes that a rank sends for a layer, with as many shards as ranks: one round, the sum back, codes and scales."""
    own = lambda k: k * (k + 1) / 2 / ranks
    sums = sum(4 * ((k * (k + 1) / 2 - own(k)) + (ranks - 1) * own(k)) for k, _ in stages)
    codes = sum((ranks - 1) / ranks * (k * out / 2 + k // 128 * out * 2) for k, out in stages)
    return sums + codes


print("| ranks | a rank sends for a layer | " + " | ".join(f"{value / 1e6:.0f} MB/s" for value in networks) + " |")
print("|---:|---:|" + "---:|" * len(networks))
one = None
for ranks in [1, 2, 4, 8, 16, 32, 64]:
    divided, alone = layer(ranks)
    cells = []
    for network in networks:
        seconds = layers * (divided + alone + (sent(ranks) / network if ranks > 1 else 0))
        one = one or seconds
        cells.append(f"{seconds / 3600:.2f} h ({one / seconds:.1f} x)")
    print(f"| {ranks} | {sent(ranks) / 1e6 if ranks > 1 else 0:.0f} MB | " + " | ".join(cells) + " |")
