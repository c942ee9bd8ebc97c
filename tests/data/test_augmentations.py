"""Each augmentation reaches its whole group, uniformly, and nothing else."""

import itertools
from collections import Counter

import numpy as np
import pytest

from vdm.data import augmentations
from vdm.errors import InputError

IMAGE = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
GROUPS = {
    "flip": [IMAGE, IMAGE[:, ::-1]],
    "rotate90": [np.rot90(IMAGE, k) for k in range(4)],
    "swap_channels": [IMAGE[..., list(order)] for order in itertools.permutations(range(3))],
}


@pytest.mark.parametrize("name", GROUPS)
def test_uniform_over_its_group(name):
    (augment,) = augmentations.get((name,), (2, 2, 3))
    rng = np.random.default_rng(0)
    num, size = 600, len(GROUPS[name])
    counts = Counter(augment(IMAGE, rng).tobytes() for _ in range(num))
    assert counts.keys() == {member.tobytes() for member in GROUPS[name]}
    deviation = 5 * np.sqrt(num * (1 - 1 / size) / size)
    assert all(abs(count - num / size) < deviation for count in counts.values())


@pytest.mark.parametrize(
    ("name", "shape", "found"),
    [("rotate90", (2, 3, 3), "2×3"), ("swap_channels", (2, 2, 1), "have 1"), ("", (2, 2, 3), "''")],
)
def test_refused_where_it_cannot_apply(name, shape, found):
    with pytest.raises(InputError, match=f"^data.augmentations: {name!r}.*{found}|^data.augmentations: {found}"):
        augmentations.get((name,), shape)
