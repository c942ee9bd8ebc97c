"""Encode and decode a set of images with a model, and compare the cost with the bound of the same images."""

import copy
import math
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Integer, UInt8

from vdm import bounds
from vdm.codec import chunk, coding
from vdm.codec.chain import Chain, timed
from vdm.codec.container import Container, Header, front
from vdm.codec.normals import Stack
from vdm.comparisons.codecs.peak import forget_peak, peak_bytes
from vdm.evaluation.statistics import Groups, stderr_of_draws, stderr_over_images

COUNTS = (1, 10, 100)
"""Numbers of images for which a file is written as well, to show the cost of the initial bits."""

CLOSE = 0.01
"""Relative excess over the net rate that counts as close."""


class Images(NamedTuple):
    """The images to code, and their bound."""

    images: UInt8[np.ndarray, "num *data"]
    labels: Integer[np.ndarray, " num"] | None
    """Class labels, for a label-conditional model."""
    num_classes: int
    """Number of classes; 0 without labels."""
    bits: Float[np.ndarray, "draws num"]
    """The bound of each image in bits/dim: independent draws, each an exact sum over all T terms."""
    groups: Groups | None

    @property
    def num_dims(self) -> int:
        """Number of dimensions of an image."""
        return self.images[0].size

    def first(self, num: int) -> "Images":
        """Return the first `num` images."""
        labels, groups = (None if a is None else a[:num] for a in (self.labels, self.groups))
        return Images(self.images[:num], labels, self.num_classes, self.bits[:, :num], groups)


@dataclass(frozen=True)
class Coded:
    """Result of coding a set of images at one T; rates are in bits/dim."""

    num_steps: int
    num_images: int
    num_dims: int
    bound: float
    """The discrete-time bound L_T."""
    bound_stderr: float | None
    """Standard error for other images like these; None for a single image or group."""
    bound_draws: int
    """Number of independent sums over all T that the bound averages."""
    net: float
    """Bits pushed onto a stack that is already filled, without labels, averaged over repeats."""
    noise: float
    """Standard error of `above` for this exact set of images, from the draws of both the rate and the bound."""
    files: tuple[tuple[int, int], ...]
    """(images, bytes) of files with the first 1, 10, 100 and all images, each decoded and compared."""
    seeds: int
    """Number of deflated images at the start of the last of these files, which supply the initial bits."""
    images_needed: int
    """Number of images from which a file is within `CLOSE` of the net rate; see `images_needed`."""
    encode_seconds: float
    """Encoding time per image, in the last of these files."""
    decode_seconds: float
    coder_share: float
    """Fraction of the encoding and decoding time spent outside the network."""
    peak_bytes: int
    """Peak memory; see `peak.peak_bytes`."""

    @property
    def above(self) -> float:
        """Net rate minus the bound."""
        return self.net - self.bound

    def gross(self) -> dict[int, float]:
        """Total bytes of each file in bits/dim, by number of images."""
        return {num: 8 * size / (num * self.num_dims) for num, size in self.files}


def net_bits(chain: Chain, images: Images, repeats: int) -> Float[np.ndarray, "repeats batches"]:
    """Return the bits of each batch, without labels, on a filled stack: `repeats` times with independent draws."""
    num, size = len(images.images), chain.batch_size
    words = math.ceil(chain.bits_to_start(min(size, num)) / 32) + 64
    stack = Stack(np.random.default_rng(0).integers(1, 2**32, words, np.uint32))
    bits = np.zeros((repeats, math.ceil(num / size)))
    for r, k in np.ndindex(bits.shape):
        several = slice(k * size, (k + 1) * size)
        labels = None if images.labels is None else images.labels[several]
        before = stack.num_valid_bits()
        chain.push(stack, images.images[several], r * num + k * size, labels)
        bits[r, k] = stack.num_valid_bits() - before
    return bits


def coded(chain: Chain, images: Images, repeats: int, header: Header) -> Coded:
    """Code the images `repeats` times (at least two) for the net rate, and into files that are decoded and compared.

    Each file has the given `header`, except for the number of images, and a single chunk. Raises `InputError` if the
    decoded images differ.
    """
    num, num_dims = len(images.images), images.num_dims
    rates = net_bits(chain, images, repeats) / (num * num_dims)
    files = [(n, len(_file(chain, images.first(n), header).content)) for n in COUNTS if n < num]
    watched, network = copy.copy(chain), list[float]()
    watched.predict = timed(chain.predict, network)
    forget_peak()
    file = _file(watched, images, header)
    peak = peak_bytes(jax.devices()[0])
    bound, net = images.bits.mean(axis=0), float(rates.sum(axis=1).mean())
    noises = stderr_of_draws(images.bits), stderr_of_draws(rates * rates.shape[1])
    return Coded(
        num_steps=chain.num_steps,
        num_images=num,
        num_dims=num_dims,
        bound=float(bound.mean()),
        bound_stderr=stderr_over_images(bound, images.groups),
        bound_draws=len(images.bits),
        net=net,
        noise=math.hypot(*(noise or 0.0 for noise in noises)),
        files=(*files, (num, len(file.content))),
        seeds=file.rate.seeds,
        images_needed=images_needed(net * num_dims, file.rate, file.header_bytes, images.num_classes),
        encode_seconds=file.encode_seconds / num,
        decode_seconds=file.decode_seconds / num,
        coder_share=1 - sum(network) / (file.encode_seconds + file.decode_seconds),
        peak_bytes=peak,
    )


def images_needed(bits: float, rate: chunk.Rate, header_bytes: int, num_classes: int = 0) -> int:
    """Return how many images a file needs to come within `CLOSE` of the net rate, `bits` per image.

    A file consists of a header, s deflated seed images and n − s images at the net rate. Its excess over n images at
    the net rate is therefore header + seeds − s · bits, independently of n, and must be at most `CLOSE` times the bits
    of n images. Labels count as part of an image's bits. The result is always larger than s.
    """
    extra = 8 * header_bytes + rate.seed_bits - rate.seeds * bits
    return max(math.ceil(extra / (CLOSE * (bits + (math.log2(num_classes) if num_classes else 0.0)))), rate.seeds + 1)


class _File(NamedTuple):
    """A file that was decoded and compared."""

    content: bytes
    header_bytes: int
    """Bytes before the payload."""
    rate: chunk.Rate
    encode_seconds: float
    decode_seconds: float


def _file(chain: Chain, images: Images, header: Header) -> _File:
    num = len(images.images)
    header = replace(header, images=num, chunk=num)
    start = time.perf_counter()
    payload, rate = coding.encode_chunk(chain, images.images, images.labels, images.num_classes)
    before = front(header, [payload.entry])
    middle = time.perf_counter()
    # Decoding checks the digest of the images.
    coding.decode_chunk(chain, Container.of_bytes(before + payload.payload), 0)
    end = time.perf_counter()
    return _File(before + payload.payload, len(before), rate, middle - start, end - middle)


def bits_of(terms: Float[np.ndarray, "draws 3 num"], num_dims: int) -> Float[np.ndarray, "draws num"]:
    """Sum the bound's terms, in nats as in `Estimates`, and convert them to bits/dim."""
    return np.asarray(bounds.bits_per_dim(terms.sum(axis=1), num_dims))
