"""Sampling images: per-image randomness, batches, devices, frames."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import tiny
from compiling import compiled

from vdm import likelihoods, parallel, predictions, samplers
from vdm import model as model_lib
from vdm.config import Config, DataConfig, NetworkConfig, SamplingConfig, ScheduleConfig
from vdm.errors import InputError
from vdm.evaluation.images import ImageSampler, NonFiniteLatents, frame_steps, make_grid, with_steps_of
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
    variables = jax.jit(model.init)(jax.random.key(0))
    return model, variables | {"network": tiny.perturbed(variables["network"], scale=0.1)}


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
    for num, batch_size, devices in ((5, 2, 1), (6, 3, 4)):
        again, _ = draw(num, batch_size, devices)
        # Values are rounded to levels: float32 noise may tip one pixel in a thousand, no more.
        assert np.mean(again != images[:num]) < 1e-2


@functools.cache
def noisy_at_the_end() -> tuple[Model, Variables]:
    """A model of data N(0, 0.6²) whose z₀ leaves x open, so that mode, mean and draw differ: γ₀ = −1, and 17 levels."""

    class Exact(Model):
        def denoiser(self, variables, condition=None, dropout_key=None):
            return predictions.both(lambda z, gamma: oracle.gaussian_eps(z, gamma, 0.0, 0.6))

    schedule = ScheduleConfig(name="linear", gamma_min=-1.0, gamma_max=4.0)
    model = model_lib.from_config(Config(data=DataConfig(shape=SHAPE, levels=LEVELS), schedule=schedule))
    return Exact(**vars(model)), {"network": {}, "schedule": {}, "likelihood": {}}


@functools.cache
def decoded(how: str, num: int = 6, batch_size: int = 6, devices: int = 1, first: int = 0) -> np.ndarray:
    model, variables = noisy_at_the_end()
    settings = SamplingConfig(num, STEPS, batch_size, decode=how)
    return ImageSampler(model, parallel.make_mesh(devices), settings)(variables, jax.random.key(3), num, first=first)[0]


def test_images_are_the_mode_the_mean_or_a_draw_of_the_decoder() -> None:
    model, variables = noisy_at_the_end()
    key, gammas = jax.random.key(3), make_grid(lambda t: model.gamma(variables, t), SamplingConfig(steps=STEPS))
    z_0 = samplers.sample(key, model.denoiser(variables), samplers.ancestral(), gammas, (6, *SHAPE))
    logits = oracle.decoder_logits(z_0, -1.0, LEVELS)
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    mean = probabilities @ np.arange(LEVELS) / probabilities.sum(axis=-1)
    # The same chain in another program: a value may be rounded to the next level.
    assert np.mean(decoded("mode") != np.argmax(logits, axis=-1)) < 2e-2
    assert np.mean(decoded("mean") != np.rint(mean)) < 2e-2
    # From the image's own key, folded once more than by the steps.
    keys = [jax.random.fold_in(jax.random.fold_in(key, k), STEPS + 1) for k in range(6)]
    draws = [likelihoods.sample(key, z[None], -1.0, LEVELS)[0] for key, z in zip(keys, z_0, strict=True)]
    assert np.mean(decoded("draw") != np.stack(draws)) < 2e-2
    assert SamplingConfig().decode == "mode"


def test_draws_do_not_depend_on_batches_or_devices() -> None:
    images = decoded("draw")
    assert np.mean(images != decoded("mode")) > 0.5
    for num, batch_size, devices, first in ((5, 2, 1, 0), (4, 4, 4, 2)):
        again = decoded("draw", num, batch_size, devices, first)
        assert np.mean(again != images[first : first + num]) < 2e-2


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
    for of_time, power in (("schedule", 1), ("quadratic", 2)):
        own = make_grid(lambda t: model.gamma(variables, t), replace(config, grid=of_time, zero_terminal_snr=True))
        np.testing.assert_allclose(own[1:], -7 + 11 * np.linspace(1, 0, STEPS + 1)[1:] ** power, atol=2e-6)
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
    # x/s may be rounded up, where it is computed as x · (1/s).
    assert np.abs(guesses("dynamic")).max() <= 1 + oracle.EPS


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


def test_images_from_any_first_one_on() -> None:
    model, variables = trained()
    sampler = ImageSampler(model, parallel.make_mesh(2), SamplingConfig(6, STEPS, 4, sampler="ddim(0.5)"))
    with compiled(sampler._run) as programs:
        images, _ = sampler(variables, jax.random.key(3), 6)
        later, _ = sampler(variables, jax.random.key(3), 3, first=2)
    assert len(programs) == 1
    # Batches begin elsewhere: one pixel in a hundred may be rounded to another level.
    assert np.mean(later != images[2:5]) < 1e-2


def test_a_discrete_model_is_asked_at_its_own_levels_and_no_more_of_them() -> None:
    model, variables = trained()
    model = replace(model, num_steps=10)
    config = SamplingConfig(num=2, steps=4, batch_size=2)
    gammas = make_grid(lambda t: model.gamma(variables, t), config, model.num_steps)
    np.testing.assert_allclose(gammas, -7 + 11 * np.array([10, 8, 5, 3, 0]) / 10, atol=2e-6)
    gammas = make_grid(lambda t: model.gamma(variables, t), replace(config, grid="quadratic"), model.num_steps)
    # At 5.6, 2.5 and 0.6.
    np.testing.assert_allclose(gammas, -7 + 11 * np.array([10, 6, 3, 1, 0]) / 10, atol=2e-6)
    many = replace(config, steps=11)
    for own in (many, replace(many, grid="quadratic")):
        with pytest.raises(InputError, match=r"sampling\.steps=11: the model has 10 steps; must be from 1 to 10"):
            ImageSampler(model, parallel.make_mesh(1), own)
        assert with_steps_of(own, model.num_steps).steps == 10
        assert with_steps_of(own, None).steps == 11
    assert with_steps_of(replace(many, grid="uniform"), model.num_steps).steps == 11
    ImageSampler(model, parallel.make_mesh(1), replace(many, grid="uniform"))


def test_latents_that_are_not_finite_are_told_with_sampler_and_step() -> None:
    """A network that fails below γ = −2: the third of four steps of a linear schedule from 4 to −7 starts at −1.5."""
    model, variables = trained()

    class Failing(Model):
        def denoiser(self, variables, condition=None, dropout_key=None):
            def denoise(z, gamma):
                x_hat, eps_hat = Model.denoiser(self, variables)(z, gamma)
                return predictions.Prediction(jnp.where(gamma < -2, jnp.nan, x_hat), eps_hat)

            return denoise

    failing = Failing(**vars(model))
    sampler = ImageSampler(failing, parallel.make_mesh(1), SamplingConfig(3, 4, 2, sampler="ddim(1.0)"))
    with pytest.raises(NonFiniteLatents, match=r"sampler ddim\(1\.0\): z of image 0 .* step 4 of 4 on \(2 of 2"):
        sampler(variables, jax.random.key(3), 3)
