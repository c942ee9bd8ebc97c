"""Sampling images: per-image randomness, batches, devices, frames."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, DataConfig, NetworkConfig, SamplingConfig, ScheduleConfig
from vdm.evaluation.sampling import ImageSampler, frame_steps, make_grid
from vdm.model import Model, Variables

SHAPE, LEVELS, STEPS = (4, 4, 1), 17, 6


@functools.cache
def trained() -> tuple[Model, Variables]:
    """A model whose last layer is not zero any more, so that its samples depend on its network."""
    config = Config(
        data=DataConfig(shape=SHAPE, levels=LEVELS),
        network=NetworkConfig(channels=4, depth=1),
        schedule=ScheduleConfig(name="linear", gamma_min=-7.0, gamma_max=4.0),
    )
    model = model_lib.from_config(config)
    variables = model.init(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 200))
    noisy = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), variables["network"])
    return model, variables | {"network": noisy}


def draw(num: int, batch_size: int, devices: int = 1, frames: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    model, variables = trained()
    sampler = ImageSampler(model, parallel.make_mesh(devices), SamplingConfig(num, STEPS, batch_size), frames)
    return sampler(variables, jax.random.key(3), num)


def test_images_do_not_depend_on_batches_or_devices() -> None:
    images, _ = draw(8, 8)
    assert images.dtype == np.uint8
    assert images.shape == (8, *SHAPE)
    assert images.max() < LEVELS
    assert len({image.tobytes() for image in images}) == 8
    for num, batch_size, devices in ((8, 8, 8), (5, 2, 1), (6, 3, 4)):
        again, _ = draw(num, batch_size, devices)
        # Values are rounded to levels: float32 noise may tip one pixel in a thousand, no more.
        assert np.mean(again != images[:num]) < 1e-2


def test_frames_end_near_the_image() -> None:
    images, frames = draw(4, 2, frames=(0, 3, STEPS - 1))
    assert frames.shape == (3, 4, *SHAPE)
    codes = (2 * images.astype(np.float32) + 1) / LEVELS - 1
    # At γ(1/6) = −5.2 the guess and the draw differ by at most a few σ/α = 0.07 from the last two steps.
    assert np.mean(np.abs(frames[-1] - codes)) < np.mean(np.abs(frames[0] - codes))


@pytest.mark.parametrize("name", ["uniform", "karras", "cosine"])
def test_grids_run_between_the_models_own_end_points(name: str) -> None:
    """Whatever the schedule, and from SNR 0 if asked."""
    model, variables = trained()
    config = SamplingConfig(grid=name, steps=STEPS)
    gammas = np.asarray(make_grid(lambda t: model.gamma(variables, t), config))
    assert gammas.shape == (STEPS + 1,)
    assert (gammas[0], gammas[-1]) == (4.0, -7.0)
    own = make_grid(lambda t: model.gamma(variables, t), replace(config, grid="schedule", zero_terminal_snr=True))
    np.testing.assert_allclose(own[1:], np.linspace(4, -7, STEPS + 1)[1:], atol=2e-6)
    assert own[0] == np.inf


def test_clipped_guesses_stay_in_range() -> None:
    """Of the x̂ that the sampler shows; without clipping this network leaves the range."""
    model, variables = trained()

    def guesses(clip: str) -> np.ndarray:
        config = SamplingConfig(num=4, steps=STEPS, batch_size=4, clip=clip)
        sampler = ImageSampler(model, parallel.make_mesh(1), config, tuple(range(STEPS)))
        return sampler(variables, jax.random.key(3), 4)[1]

    assert np.abs(guesses("none")).max() > 1.5
    assert np.abs(guesses("static")).max() == 1
    assert np.abs(guesses("dynamic")).max() <= 1


@pytest.mark.parametrize(("num", "steps"), [(1, 5), (5, 5), (3, 1000), (10, 4)])
def test_frame_steps_are_valid_and_reach_the_ends(num: int, steps: int) -> None:
    chosen = frame_steps(num, steps)
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[-1] < steps
    assert len(chosen) == min(num, steps)
    assert num == 1 or chosen[-1] == steps - 1


def test_progress_counts_images() -> None:
    model, variables = trained()
    seen: list[tuple[int, int]] = []
    sampler = ImageSampler(model, parallel.make_mesh(1), SamplingConfig(2, 1, 2))
    sampler(variables, jax.random.key(0), 5, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert jnp.ones(()).dtype == jnp.float32
