"""A chunk of images on one stack: seed images first, then batches as large as the bits on the stack allow."""

from dataclasses import dataclass

import constriction
import numpy as np
from jaxtyping import Integer, UInt8, UInt32

from vdm.codec import seeds
from vdm.codec.chain import Chain
from vdm.codec.normals import Stack


@dataclass(frozen=True)
class Rate:
    """Size of a chunk, separately for its seed images and for the images that are coded with the model."""

    seeds: int
    """Number of seed images."""
    seed_bits: int
    """Bits of the seed images and their labels."""
    images: int
    """Number of images coded with the model."""
    bits: int
    """Bits of the images coded with the model, and their labels."""


def push(
    chain: Chain,
    images: UInt8[np.ndarray, "num *data"],
    labels: Integer[np.ndarray, " num"] | None = None,
    num_classes: int = 0,
) -> tuple[UInt32[np.ndarray, " words"], Rate]:
    """Return the words of a chunk and how its bits are divided.

    The first images are seeds: as many as it takes to fill the stack with the bits that one image borrows. Then follow
    batches of as many images as the bits on the stack can start, at least one and at most the chain's batch size, until
    all are coded. Labels take log₂ `num_classes` bits each and are decoded before their images. Raises ValueError if
    there are no images.
    """
    if not len(images):
        raise ValueError("images: are none; must be 1 or more")
    code, num_seeds = b"", 0
    while num_seeds < len(images) and 8 * len(code) < chain.bits_to_start(1):
        num_seeds = min(num_seeds + 1 + num_seeds // 8, len(images))  # not one by one: each round packs all
        code = seeds.pack(images[:num_seeds])
    code += bytes(-len(code) % 4)
    stack = Stack(np.frombuffer(code, "<u4").astype(np.uint32), seal=True)
    _push_labels(stack, labels, slice(0, num_seeds), num_classes)
    seed_bits, first = stack.num_valid_bits(), num_seeds
    while first < len(images):
        num = min(chain.batch_size, len(images) - first)
        while num > 1 and chain.bits_to_start(num) > stack.num_valid_bits():
            num -= 1
        several = slice(first, first + num)
        chain.push(stack, images[several], first, None if labels is None else labels[several])
        _push_labels(stack, labels, several, num_classes)
        _push_number(stack, num, chain.batch_size)
        first += num
    rate = Rate(num_seeds, seed_bits, len(images) - num_seeds, stack.num_valid_bits() - seed_bits)
    _push_number(stack, num_seeds, len(images))
    return stack.get_compressed(), rate


def pop(
    chain: Chain, words: UInt32[np.ndarray, " words"], num: int, num_classes: int = 0
) -> tuple[UInt8[np.ndarray, "num *data"], Integer[np.ndarray, " num"] | None]:
    """Return the `num` images of a chunk, and their labels or None. Raises ValueError for invalid words."""
    if num < 1:
        raise ValueError(f"num={num}: must be 1 or more")
    stack = Stack(words)
    num_seeds = _pop_number(stack, num)
    batches: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    left = num - num_seeds
    while left > 0:
        count = _pop_number(stack, chain.batch_size)
        if not 1 <= count <= left:
            raise ValueError(f"words: have a batch of {count} images where {left} are left")
        labels.append(_pop_labels(stack, count, num_classes))
        batches.append(chain.pop(stack, count, num_seeds + left - count, labels[-1] if num_classes else None))
        left -= count
    labels.append(_pop_labels(stack, num_seeds, num_classes))
    try:
        code = stack.get_compressed(unseal=True).astype("<u4").tobytes()
    except AssertionError as error:  # raised by constriction
        raise ValueError("words: have no seeds at their end") from error
    batches.append(seeds.unpack(code, (num_seeds, *chain.shape)))
    images = np.concatenate(batches[::-1])
    return images, np.concatenate(labels[::-1]) if num_classes else None


def _push_number(stack: Stack, value: int, most: int) -> None:
    stack.encode_reverse(np.array([value], np.int32), constriction.stream.model.Uniform(most + 1))


def _pop_number(stack: Stack, most: int) -> int:
    return int(stack.decode(constriction.stream.model.Uniform(most + 1), 1)[0])


def _push_labels(stack: Stack, labels: np.ndarray | None, several: slice, num_classes: int) -> None:
    if labels is not None:
        uniform = constriction.stream.model.Uniform(max(num_classes, 2))
        stack.encode_reverse(labels[several].astype(np.int32), uniform)


def _pop_labels(stack: Stack, num: int, num_classes: int) -> np.ndarray:
    if not num_classes:
        return np.zeros(0, np.int32)
    return stack.decode(constriction.stream.model.Uniform(max(num_classes, 2)), num).astype(np.int32)
