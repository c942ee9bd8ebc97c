"""A coder that costs nothing: the exact denoiser of a Gaussian, of a few steps."""

import functools

import numpy as np

from vdm import codec, oracles, samplers, schedules
from vdm.codec.chain import Chain, compiled

SHAPE, LEVELS, STEPS = (2, 2, 1), 17, 2
DENOISE = oracles.gaussian(np.zeros(SHAPE), np.full(SHAPE, 0.1)).denoise
GAMMAS = np.asarray(samplers.grid(functools.partial(schedules.linear(-6.0, 3.0).gamma, {}), STEPS))


def images(num: int, seed: int = 0) -> np.ndarray:
    """About what the denoiser knows."""
    values = np.random.default_rng(seed).normal(8, 2.7, (num, *SHAPE))
    return np.clip(np.rint(values), 0, LEVELS - 1).astype(np.uint8)


@functools.cache
def chain(batch_size: int = 4) -> Chain:
    return Chain(compiled(DENOISE), GAMMAS, SHAPE, LEVELS, batch_size)


def coded(num: int = 20, chunk: int = 8, **given) -> bytes:
    return codec.encode(images(num), DENOISE, GAMMAS, LEVELS, chunk=chunk, batch_size=4, **given)


def new_chain() -> Chain:
    """One compiled anew."""
    return Chain(compiled(DENOISE), GAMMAS, SHAPE, LEVELS, 4)
