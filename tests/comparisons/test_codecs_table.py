"""Tables of codecs: bytes as bits/dim, how many images are needed, coders by size."""

import math
from dataclasses import replace

import pytest

from vdm.codec.chunk import Rate
from vdm.comparisons.codecs.classical import Outcome
from vdm.comparisons.codecs.coded import Coded, images_needed
from vdm.comparisons.codecs.table import classical_markdown, rates_markdown

TEN = Coded(
    num_steps=10,
    num_images=20,
    num_dims=64,
    bound=2.5,
    bound_stderr=0.0123,
    bound_draws=5,
    net=2.4987,
    noise=0.002,
    files=((1, 160), (10, 480), (20, 560)),
    seeds=2,
    images_needed=700,
    encode_seconds=0.01234,
    decode_seconds=2.0,
    coder_share=0.126,
    peak_bytes=700_400_000,
)
HUNDRED = replace(TEN, num_steps=100, bound=1.9, bound_stderr=None, net=1.905, files=((1, 160), (10, 400), (20, 448)))
OUTCOMES = [
    Outcome("PNG", 1000, 640, 5, ""),
    Outcome("FLIF", None, None, 0, "not installed: flif"),
    Outcome("JPEG XL", 500, 600, 1, ""),
    Outcome("WebP", 900, None, 0, "failed: too tall"),
]


def test_steps_are_across_and_rates_are_down() -> None:
    assert rates_markdown([TEN, HUNDRED]).splitlines()[:-2] == [
        "| T (20 images) | 10 | 100 |",
        "|---|---|---|",
        "| bound | 2.5000 ± 0.0123 | 1.9000 |",
        "| net rate | 2.4987 | 1.9050 |",
        "| net rate above bound | -0.0013 ± 0.0020 | +0.0050 ± 0.0020 |",
        "| gross, a file of 1 image | 20.000 | 20.000 |",
        "| gross, a file of 10 images | 6.000 | 5.000 |",
        "| gross, a file of 20 images | 3.500 | 2.800 |",
        "| images until gross is within 1% of net | 700 | 700 |",
        "| seconds per image, encoding | 0.0123 | 0.0123 |",
        "| seconds per image, decoding | 2 | 2 |",
        "| of these, outside the network | 13% | 13% |",
        "| peak memory, MB | 700 | 700 |",
    ]


def test_coders_go_by_size_and_those_that_failed_come_last() -> None:
    assert classical_markdown(OUTCOMES, HUNDRED).splitlines()[:-2] == [
        "| bits/dim of 20 images | one file per image | all in one file | vdm is smaller by |",
        "|---|---|---|---|",
        "| vdm, T = 100 | 20.000 | 2.800 |  |",
        "| JPEG XL | 3.125 | 3.750 | 10.4% |",
        "| PNG | 6.250 | 4.000 | 30.0% |",
        "| WebP (failed: too tall) | 5.625 |  | 50.2% |",
        "| FLIF (not installed: flif) |  |  |  |",
    ]


@pytest.mark.parametrize(("seed_bits", "seeds", "classes"), [(1000, 2, 0), (500, 1, 10), (5000, 3, 0)])
def test_so_many_images_are_within_a_hundredth_and_one_less_is_not(seed_bits: int, seeds: int, classes: int) -> None:
    bits = 120.5
    label = math.log2(classes) if classes else 0.0
    needed = images_needed(bits, Rate(seeds, seed_bits, 0, 0), 120, classes)

    def over(num: int) -> float:
        """Of the bits that a file of so many images has, over those of the net rate."""
        labels = num * label
        return (8 * 120 + seed_bits + (num - seeds) * bits + labels) / (num * bits + labels) - 1

    assert over(needed) <= 0.01 < over(needed - 1)


def test_seeds_are_more_than_enough_where_they_cost_nothing() -> None:
    assert images_needed(10_000.0, Rate(3, 100, 0, 0), 120) == 4
