"""What devices exchange in a compiled program, read from its HLO."""

import re
from collections import Counter
from typing import NamedTuple

BYTES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "u32": 4, "s32": 4, "f32": 4, "u64": 8, "s64": 8, "f64": 8}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Traffic(NamedTuple):
    """Of each kind of collective: how many there are, and the bytes of their results."""

    count: Counter[str]
    bytes: Counter[str]


def traffic(text: str) -> Traffic:
    """The collectives of a program that `Compiled.as_text` gives; of an asynchronous one the start counts."""
    found = Traffic(Counter(), Counter())
    for result, kind in re.findall(rf"= (.+?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", text):
        found.count[kind] += 1
        for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", result):
            size = 1
            for n in shape.split(",") if shape else []:
                size *= int(n)
            found.bytes[kind] += BYTES[dtype] * size
    return found
