import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vdm.codec import seeds

SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=6)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, SHAPES), st.integers(0, 7))
def test_images_come_back_whatever_zeros_follow(images, zeros):
    found = seeds.unpack(seeds.pack(images) + bytes(zeros), images.shape)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, images)


def test_the_smallest_code_is_taken():
    ramp = np.tile(np.arange(200, dtype=np.uint8), (3, 8, 1))[..., None]
    assert len(seeds.pack(ramp)) < 0.3 * len(zlib.compress(ramp.tobytes(), 9))
    for axes in seeds.AXES:
        slopes = np.indices((4, 32, 32))[list(axes)].sum(axis=0) if axes else np.zeros((4, 32, 32), int)
        noise = np.random.default_rng(0).integers(0, 2, slopes.shape)
        images = (37 * slopes + noise).astype(np.uint8)
        assert np.array_equal(seeds.unpack(seeds.pack(images), images.shape), images)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_images_or_refused(code):
    try:
        assert seeds.unpack(code, (2, 3, 4)).shape == (2, 3, 4)
    except ValueError as error:
        found = str(error)
    else:
        found = "code: fits"
    assert found.startswith("code: ")


def test_damage_is_refused():
    images = np.random.default_rng(0).integers(0, 17, (3, 5, 4, 1), np.uint8)
    code = seeds.pack(images)
    for damaged in (b"", code[:1], code[:-5], bytes([9]) + code[1:], code[:1] + b"xx" + code[3:]):
        with pytest.raises(ValueError, match=r"^code: "):
            seeds.unpack(damaged, images.shape)
    for shape in ((2, 5, 4, 1), (4, 5, 4, 1), (3, 5, 4, 2)):
        with pytest.raises(ValueError, match="is not one of"):
            seeds.unpack(code, shape)
    # Another shape of as many values is another picture: only those of which it has the axes.
    with pytest.raises(ValueError, match="is not one of"):
        seeds.unpack(bytes([3]) + zlib.compress(bytes(60)), (60,))


def test_no_more_is_inflated_than_was_asked_for():
    bomb = bytes([0]) + zlib.compress(bytes(1 << 23), 9)
    tracemalloc.start()
    with pytest.raises(ValueError, match="is not one of"):
        seeds.unpack(bomb, (1, 10, 10, 1))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
