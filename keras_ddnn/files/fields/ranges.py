"""Ranges that fields of a manifest share."""

import sys
from math import prod
from typing import Any

from keras_ddnn.files.shapes import Shape, either, integer, number, refuse, sequence, text

# Larger than any network of today, smaller than what fills a memory.
MAX_CLASSES = 1_000_000
MAX_WIDTH = 1 << 16  # channels or units of a layer
MAX_SIDE = 1 << 14  # pixels, or places of a map
MAX_VALUES = 1 << 28  # of one image, map or vector
LARGEST = sys.float_info.max


def array(*ranks: int) -> Shape:
    """Return the shape of the sizes of an array whose last axis is channels or units."""

    def check(path: str, value: Any) -> None:
        sequence(COUNT, min(ranks), max(ranks))(path, value)
        if len(value) not in ranks:
            refuse(path, f"{' or '.join(map(str, ranks))} sizes", f"{len(value)} sizes")
        for k, side in enumerate(value[:-1]):
            integer(1, MAX_SIDE)(f"{path}[{k}]", side)
        if prod(value) > MAX_VALUES:
            refuse(path, f"at most {MAX_VALUES:,} values", f"{prod(value):,} values")

    return check


WIDTH = integer(1, MAX_WIDTH)
COUNT = integer(1, 1 << 31)
FRACTION = number(0.0, 1.0)
FINITE = number(-LARGEST, LARGEST)
POSITIVE = number(0.0, LARGEST, above=True)
AMOUNT = number(0.0, LARGEST)
NOT_NAN = number()
THRESHOLD = either("a number, not NaN; inf means send none to the cloud, -inf send all", NOT_NAN)
PAIR = sequence(NOT_NAN, 2, 2)
SCALE = sequence(FINITE, 2, 2)
WEIGHTS = sequence(sequence(either("a label or a weight", text, FINITE), 2, 2), 1, MAX_CLASSES)
SEED = integer(0, (1 << 32) - 1)
