"""Cosines and sines of rotary embedding with 50 digits: rotary_fixtures.py > golden/rotary.json. Needs mpmath and numpy.

Frequencies are 32-bit numbers, as the models were trained with them (`1.0 / base ** (arange(0, d, 2).float() / d)`); angles, cosines
and sines are exact to 50 digits and printed with the 17 that a double needs."""

import json

import mpmath
import numpy as np

mpmath.mp.dps = 50
WIDTH = 128
PAIRS = [0, 1, 2, 3, 5, 8, 13, 21, 34, 45, 55, 63]
POSITIONS = [0, 1, 2, 1023, 1024, 4095, 32767, 65535, 131071, 262143, 300001, 359999, 360000]


def frequency(base, pair):
    power = np.float32(float(mpmath.power(base, mpmath.mpf(2 * pair) / WIDTH)))
    return np.float32(1) / power


cases = []
for base in (1e4, 5e7, 5e8):
    for position in POSITIONS:
        angles = [mpmath.mpf(position) * mpmath.mpf(float(frequency(base, pair))) for pair in PAIRS]
        cases.append({
            "theta": base, "position": position,
            "cosines": [float(mpmath.cos(a)) for a in angles], "sines": [float(mpmath.sin(a)) for a in angles],
        })
print(json.dumps({"rotary_dim": WIDTH, "pairs": PAIRS, "cases": cases}))
