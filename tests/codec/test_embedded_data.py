"""The embedded data with the exact denoiser of independent normal pixels, so without a network: they come back."""

import numpy as np
import pytest

from vdm import oracles
from vdm.codec import chunk
from vdm.codec.chain import Chain, compiled
from vdm.config import DataConfig
from vdm.data import load
from vdm.data.dataset import examples

NUM = 20


@pytest.mark.parametrize("name", ["digits", "photos32"])
def test_images_come_back(name):
    dataset = load(DataConfig(name=name))
    train = examples(dataset.train, range(0, len(dataset.train), 50))["image"]
    images = examples(dataset.test, np.linspace(0, len(dataset.test) - 1, NUM).astype(int))["image"]
    levels = dataset.info.levels
    x = (2 * train.astype(np.float64) + 1) / levels - 1
    oracle = oracles.gaussian(
        x.mean(axis=0).astype(np.float32), (x.var(axis=0) + (2 / levels) ** 2 / 12).astype(np.float32)
    )
    gammas = np.linspace(5, -13.3 if levels == 256 else -7.5, 11)
    chain = Chain(compiled(oracle.denoise), gammas, dataset.info.shape, levels, 8)
    words, _ = chunk.push(chain, images)
    assert np.array_equal(chunk.pop(chain, words, NUM)[0], images)
